//! Signatures of GO. They prove the caller's identity to the node; the broker does not check them.

use std::{collections::HashMap, fmt, sync::Arc};

use data_encoding::{BASE64, HEXLOWER};
use ed25519_dalek::{Signature, Verifier, VerifyingKey};
use kakehi_server::Identity;
use nkeys::{KeyPair, KeyPairType};
use sha2::{Digest, Sha256};

/// An Ed25519 key that signs for a user of the fleet: an nkey of type user.
///
/// ```
/// use kakehi_fleet::Signer;
///
/// let signer = Signer::generate();
/// let same = Signer::from_seed(&signer.seed()?)?;
/// assert_eq!(same.public_key(), signer.public_key());
/// # Ok::<_, kakehi_fleet::KeyError>(())
/// ```
#[derive(Clone)]
pub struct Signer {
    pair: Arc<KeyPair>,
    public: String,
}

impl Signer {
    /// Makes a new key.
    #[must_use]
    pub fn generate() -> Self {
        Self::of(KeyPair::new_user())
    }

    /// Reads a seed, `SU…`.
    ///
    /// # Errors
    /// The text is not a seed, or is the seed of a key of another type.
    pub fn from_seed(seed: &str) -> Result<Self, KeyError> {
        let pair =
            KeyPair::from_seed(seed.trim()).map_err(|_| KeyError("not a seed of an nkey"))?;
        if pair.key_pair_type() != KeyPairType::User {
            return Err(KeyError("the seed of an nkey that is not a user's: it begins with SU"));
        }
        Ok(Self::of(pair))
    }

    fn of(pair: KeyPair) -> Self {
        Self { public: pair.public_key(), pair: Arc::new(pair) }
    }

    /// The public key, `U…`, for the configuration of a node.
    #[must_use]
    pub fn public_key(&self) -> &str {
        &self.public
    }

    /// The seed, which is secret.
    ///
    /// # Errors
    /// Never for a key that was made here.
    pub fn seed(&self) -> Result<String, KeyError> {
        self.pair.seed().map_err(|_| KeyError("the key has no seed"))
    }

    /// Signs `text`; base64.
    pub(crate) fn sign(&self, text: &[u8]) -> Result<String, KeyError> {
        let signature = self.pair.sign(text).map_err(|_| KeyError("the key cannot sign"))?;
        Ok(BASE64.encode(&signature))
    }
}

/// Without the seed.
impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signer").field(&self.public).finish()
    }
}

/// Why a key or a signature is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyError(&'static str);

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for KeyError {}

/// The callers that a node knows, by their public keys.
///
/// ```
/// use kakehi_fleet::{Keys, Signer};
///
/// let anna = Signer::generate();
/// let keys = Keys::default().with_key(anna.public_key(), "anna", ["sre"])?;
/// assert!(keys.with_key("UABC", "ben", [""; 0]).is_err());
/// # Ok::<_, kakehi_fleet::KeyError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// Decoded, because each request needs one.
    known: HashMap<String, (VerifyingKey, Arc<Identity>)>,
    unsigned: bool,
}

impl Keys {
    /// Adds a caller: the public key of an nkey, a name, and groups.
    ///
    /// # Errors
    /// `public` is not the public key of a user's nkey, or is known already.
    pub fn with_key<G: Into<String>>(
        mut self,
        public: &str,
        name: impl Into<String>,
        groups: impl IntoIterator<Item = G>,
    ) -> Result<Self, KeyError> {
        let invalid = KeyError("not the public key of a user's nkey: it begins with U");
        let (_, bytes) = nkeys::from_public_key(public).map_err(|_| invalid)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| invalid)?;
        if !public.starts_with('U') {
            return Err(invalid);
        }
        let groups = groups.into_iter().map(Into::into).collect();
        let identity = Arc::new(Identity { name: name.into(), groups });
        match self.known.insert(public.to_owned(), (key, identity)) {
            None => Ok(self),
            Some(_) => Err(KeyError("the public key of two names")),
        }
    }

    /// Whether a GO without a signature is taken, from the identity `anonymous`. Default: no.
    #[must_use]
    pub fn unsigned(mut self, is_taken: bool) -> Self {
        self.unsigned = is_taken;
        self
    }

    /// Returns the identity of the signer of `text`.
    pub(crate) fn verify(
        &self,
        signer: Option<&str>,
        signature: Option<&str>,
        text: impl FnOnce(&str) -> String,
    ) -> Result<Arc<Identity>, KeyError> {
        let (signer, signature) = match (signer, signature) {
            (Some(signer), Some(signature)) => (signer, signature),
            (None, None) if self.unsigned => return Ok(anonymous()),
            (None, None) => return Err(KeyError("the request is not signed")),
            _ => return Err(KeyError("the signer or the signature is missing")),
        };
        let (key, identity) =
            self.known.get(signer).ok_or(KeyError("the signer's key is not known"))?;
        let invalid = KeyError("the signature does not match the request");
        let bytes = BASE64.decode(signature.as_bytes()).map_err(|_| invalid)?;
        let signature = Signature::from_slice(&bytes).map_err(|_| invalid)?;
        key.verify(text(signer).as_bytes(), &signature).map_err(|_| invalid)?;
        Ok(Arc::clone(identity))
    }
}

fn anonymous() -> Arc<Identity> {
    Arc::new(Identity { name: "anonymous".into(), groups: vec![] })
}

/// The purpose of a signature, so that one for another purpose does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Go,
    Settle,
}

/// The text to sign. `payload` is that of the request.
pub(crate) fn signed_text(
    purpose: Purpose,
    prefix: &str,
    signer: &str,
    asked: impl fmt::Display,
    accept: impl fmt::Display,
    payload: &[u8],
) -> String {
    let purpose = match purpose {
        Purpose::Go => "kakehi-go-0",
        Purpose::Settle => "kakehi-settle-0",
    };
    let digest = HEXLOWER.encode(&Sha256::digest(payload));
    format!("{purpose}\n{prefix}\n{signer}\n{asked}\n{accept}\n{digest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(signer: &str, accept: &str, payload: &[u8]) -> String {
        signed_text(Purpose::Go, "kakehi", signer, "node.web-1", accept, payload)
    }

    #[test]
    fn the_signed_text_is_that_of_the_protocol() {
        let expected = "kakehi-go-0\nkakehi\nUABC\nnode.web-1\nweb-1.E.7\n\
            ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(text("UABC", "web-1.E.7", b"abc"), expected);
    }

    #[test]
    fn a_signature_holds_for_one_signer_accept_and_payload() {
        let (anna, eve) = (Signer::generate(), Signer::generate());
        let keys = Keys::default().with_key(anna.public_key(), "anna", ["sre"]).unwrap();
        let signature = anna.sign(text(anna.public_key(), "web-1.E.7", b"abc").as_bytes()).unwrap();
        let verify = |signer: &str, signature: &str, accept: &str, payload: &[u8]| {
            keys.verify(Some(signer), Some(signature), |signer| text(signer, accept, payload))
        };
        let who = verify(anna.public_key(), &signature, "web-1.E.7", b"abc").unwrap();
        assert!(who.name == "anna" && who.groups.contains(&"sre".to_owned()));
        assert!(verify(anna.public_key(), &signature, "web-1.E.8", b"abc").is_err());
        assert!(verify(anna.public_key(), &signature, "web-1.E.7", b"abd").is_err());
        assert!(verify(eve.public_key(), &signature, "web-1.E.7", b"abc").is_err());
        let forged = eve.sign(text(anna.public_key(), "web-1.E.7", b"abc").as_bytes()).unwrap();
        assert!(verify(anna.public_key(), &forged, "web-1.E.7", b"abc").is_err());
        for garbage in ["", "AAAA", "not base64!", &"A".repeat(10_000)] {
            assert!(verify(anna.public_key(), garbage, "web-1.E.7", b"abc").is_err());
        }
    }

    #[test]
    fn an_unsigned_go_is_taken_only_where_the_node_says_so() {
        let refused = Keys::default().verify(None, None, |_| String::new());
        assert_eq!(refused.unwrap_err().to_string(), "the request is not signed");
        let open = Keys::default().unsigned(true);
        let who = open.verify(None, None, |_| String::new()).unwrap();
        assert_eq!((who.name.as_str(), who.groups.len()), ("anonymous", 0));
        // A bad signature is not taken for none.
        assert!(open.verify(Some("UABC"), None, |_| String::new()).is_err());
        assert!(open.verify(Some("UABC"), Some("AAAA"), |_| String::new()).is_err());
    }

    #[test]
    fn keys_of_other_types_are_refused() {
        let account = KeyPair::new_account();
        assert!(Signer::from_seed(&account.seed().unwrap()).is_err());
        assert!(Keys::default().with_key(&account.public_key(), "x", [""; 0]).is_err());
        let user = Signer::generate();
        let keys = Keys::default().with_key(user.public_key(), "x", [""; 0]).unwrap();
        assert!(keys.with_key(user.public_key(), "y", [""; 0]).is_err());
        assert!(!format!("{user:?}").contains(&user.seed().unwrap()));
    }
}

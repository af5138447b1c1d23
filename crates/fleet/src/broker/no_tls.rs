//! The TLS of a build without the feature `tls`: each handshake fails, with the reason.
//!
//! A broker can ask for TLS though its URL is `nats://`. Without a provider, `rustls` would panic
//! then, in the task of the connection.

use std::sync::Arc;

use async_nats::rustls::{
    CipherSuite, CipherSuiteCommon, ClientConfig, ConnectionTrafficSecrets, Error, NamedGroup,
    RootCertStore, SupportedCipherSuite, Tls13CipherSuite,
    client::Resumption,
    crypto::{
        ActiveKeyExchange, CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom,
        SupportedKxGroup, WebPkiSupportedAlgorithms,
        cipher::{
            AeadKey, Iv, MessageDecrypter, MessageEncrypter, Tls13AeadAlgorithm,
            UnsupportedOperationError,
        },
        hash::{Context, Hash, HashAlgorithm, Output},
        hmac::{Hmac, Key},
        tls13::HkdfUsingHmac,
    },
    pki_types::PrivateKeyDer,
    sign::SigningKey,
};

/// Why there is no TLS.
pub(super) const REASON: &str =
    "this program is built without TLS: build it with the feature `tls`";

/// A configuration whose handshakes fail before they send anything.
pub(super) fn config() -> Result<ClientConfig, Error> {
    let provider = CryptoProvider {
        cipher_suites: vec![SupportedCipherSuite::Tls13(&SUITE)],
        kx_groups: vec![&Nothing],
        signature_verification_algorithms: WebPkiSupportedAlgorithms { all: &[], mapping: &[] },
        secure_random: &Nothing,
        key_provider: &Nothing,
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?;
    let builder = builder.with_root_certificates(RootCertStore::empty());
    let mut config = builder.with_no_client_auth();
    // The default reserves 6 KiB for sessions, and no session begins.
    config.resumption = Resumption::disabled();
    Ok(config)
}

static SUITE: Tls13CipherSuite = Tls13CipherSuite {
    common: CipherSuiteCommon {
        suite: CipherSuite::TLS13_AES_128_GCM_SHA256,
        hash_provider: &Nothing,
        confidentiality_limit: 0,
    },
    hkdf_provider: &HkdfUsingHmac(&Nothing),
    aead_alg: &Nothing,
    quic: None,
};

/// The error of the methods that are never called: a handshake starts with the key exchange, which
/// fails.
const UNUSED: &str = "the key exchange failed";

#[derive(Debug)]
struct Nothing;

impl SupportedKxGroup for Nothing {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        Err(Error::General(REASON.to_owned()))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

impl SecureRandom for Nothing {
    /// The handshake asks for random bytes before its key exchange, which says the reason. No
    /// message has them.
    fn fill(&self, _: &mut [u8]) -> Result<(), GetRandomFailed> {
        Ok(())
    }
}

impl KeyProvider for Nothing {
    fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        Err(Error::General(REASON.to_owned()))
    }
}

impl Hash for Nothing {
    fn start(&self) -> Box<dyn Context> {
        unreachable!("{UNUSED}")
    }

    fn hash(&self, _: &[u8]) -> Output {
        Output::new(&[])
    }

    fn output_len(&self) -> usize {
        0
    }

    fn algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }
}

impl Hmac for Nothing {
    fn with_key(&self, _: &[u8]) -> Box<dyn Key> {
        unreachable!("{UNUSED}")
    }

    fn hash_output_len(&self) -> usize {
        0
    }
}

impl Tls13AeadAlgorithm for Nothing {
    fn encrypter(&self, _: AeadKey, _: Iv) -> Box<dyn MessageEncrypter> {
        unreachable!("{UNUSED}")
    }

    fn decrypter(&self, _: AeadKey, _: Iv) -> Box<dyn MessageDecrypter> {
        unreachable!("{UNUSED}")
    }

    fn key_len(&self) -> usize {
        0
    }

    fn extract_keys(
        &self,
        _: AeadKey,
        _: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        Err(UnsupportedOperationError)
    }
}

//! `Protocol`: a format that a server can use.

use std::{fmt, sync::LazyLock};

use kakehi_channel::{ChannelError, Decode, Encode, Json, Request, Response, low_level::Buffer};
use memchr::{memchr, memmem::Finder};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor},
};

/// The start of reserved names of commands.
const RESERVED: &str = "kakehi.";

/// A format that decodes requests with a command of type `C` and encodes responses. The default
/// format is [`Json`].
///
/// A format need not have all fields. It can decode requests without an id or a deadline, and leave
/// out fields of a response.
///
/// ```
/// use kakehi_channel::{Decode, Encode, ChannelError, Format, Request, Response, low_level::{Buffer, Frame}};
/// use kakehi_server::Protocol;
///
/// /// Lines of text.
/// #[derive(Default)]
/// struct Lines;
///
/// impl Format for Lines {
///     fn find(&mut self, data: &[u8], max: usize) -> Result<Option<Frame>, ChannelError> {
///         let end = data.iter().position(|byte| *byte == b'\n');
///         match end.map(|end| Frame { payload: 0..end, len: end + 1 }) {
///             Some(frame) if frame.len <= max => Ok(Some(frame)),
///             None if data.len() < max => Ok(None),
///             _ => Err(ChannelError::too_large(max + 1, max)),
///         }
///     }
/// }
///
/// impl Decode<Request<String>> for Lines {
///     fn decode(&mut self, payload: &[u8]) -> Result<Request<String>, ChannelError> {
///         let command = std::str::from_utf8(payload).map_err(ChannelError::malformed)?;
///         Ok(Request::with_command("", command.to_owned()))
///     }
/// }
///
/// impl Encode<Response<&(), &str>> for Lines {
///     fn encode(&mut self, response: &Response<&(), &str>, out: &mut Buffer) -> Result<(), ChannelError> {
///         Ok(out.put(format!("{} {}\n", response.status, response.message).as_bytes())?)
///     }
/// }
///
/// impl Protocol<String> for Lines {}
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// use kakehi_server::{AnyContent, Context, Limits, Peer, serve_stream};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// // The type of the context selects the format.
/// let handler = async |request: Request<String>, context: Context<AnyContent, Lines>| {
///     context.progress("on it").await?;
///     Ok::<_, ChannelError>(request.command.unwrap_or_default())
/// };
/// let (ours, mut theirs) = tokio::io::duplex(1024);
/// tokio::spawn(serve_stream(ours, Peer::own(), handler, Limits::default()));
/// theirs.write_all(b"reload\n").await?;
/// let mut answer = [0; 27];
/// theirs.read_exact(&mut answer).await?;
/// assert_eq!(&answer, b"PROCESSING on it\nOK reload\n");
/// # Ok(()) }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a protocol for requests with the command `{C}`",
    label = "not a protocol",
    note = "`Json` reads commands that implement `serde::Deserialize`",
    note = "another format needs `impl Protocol<{C}> for {Self} {{}}`"
)]
pub trait Protocol<C>:
    Decode<Request<C>> + for<'a> Encode<Response<&'a (), &'a str>> + Default + Send + 'static
{
    /// Returns the id of a message that is not a valid request, for the refusal. Default: `None`.
    ///
    /// ```
    /// use kakehi_channel::Json;
    /// use kakehi_server::Protocol;
    ///
    /// let of_a_later_version = br#"{"id":"ID-1","version":7}"#;
    /// assert_eq!(<Json as Protocol<u8>>::id_of(of_a_later_version).as_deref(), Some("ID-1"));
    /// ```
    #[must_use]
    fn id_of(payload: &[u8]) -> Option<String> {
        let _ = payload;
        None
    }

    /// Returns the name of the command of a message, for the log and the metrics. Default: `None`.
    ///
    /// ```
    /// use kakehi_channel::Json;
    /// use kakehi_server::Protocol;
    ///
    /// let warm = br#"{"id":"ID-1","version":0,"command":{"warm":{"prefix":"x"}}}"#;
    /// assert_eq!(<Json as Protocol<u8>>::command_of(warm).as_deref(), Some("warm"));
    /// ```
    #[must_use]
    fn command_of(payload: &[u8]) -> Option<String> {
        let _ = payload;
        None
    }

    /// Whether the server has the command of the request. Otherwise, its name is not in the metrics.
    /// Default: `true`.
    #[must_use]
    fn knows(request: &Request<C>) -> bool {
        let _ = request;
        true
    }

    /// The request in a message whose command has a reserved name, which starts with `kakehi.`: it is
    /// answered by [`Handler::reserved`](crate::Handler::reserved). Default: `None`.
    ///
    /// ```
    /// use kakehi_channel::Json;
    /// use kakehi_server::Protocol;
    ///
    /// let describe = br#"{"id":"ID-1","version":0,"command":"kakehi.describe"}"#;
    /// let request = <Json as Protocol<u8>>::reserved(describe).expect("a reserved name");
    /// assert_eq!(request.command, Some("kakehi.describe".into()));
    /// ```
    #[must_use]
    fn reserved(payload: &[u8]) -> Option<Request> {
        let _ = payload;
        None
    }

    /// Whether a reserved name can also be decoded as a command of type `C`. If so, the server looks
    /// for reserved names in each message before it decodes the message. Default: `false`.
    ///
    /// ```
    /// use kakehi_channel::Json;
    /// use kakehi_server::Protocol;
    ///
    /// assert!(<Json as Protocol<String>>::decodes_reserved(&mut Json::default()));
    /// assert!(!<Json as Protocol<u8>>::decodes_reserved(&mut Json::default()));
    /// ```
    #[must_use]
    fn decodes_reserved(&mut self) -> bool {
        false
    }
}

impl<C: DeserializeOwned> Protocol<C> for Json {
    fn id_of(payload: &[u8]) -> Option<String> {
        #[derive(Deserialize)]
        struct Id {
            id: String,
        }
        object(payload).map(|Id { id }| id)
    }

    fn command_of(payload: &[u8]) -> Option<String> {
        #[derive(Deserialize)]
        struct Message {
            command: Name,
        }
        object(payload).and_then(|Message { command }| command.name)
    }

    fn reserved(payload: &[u8]) -> Option<Request> {
        if !may_have_reserved(payload) {
            return None;
        }
        let request: Request<Name> = Self::default().decode(payload).ok()?;
        let is_reserved = request.command.is_some_and(|command| command.is_reserved());
        if is_reserved { Self::default().decode(payload).ok() } else { None }
    }

    fn decodes_reserved(&mut self) -> bool {
        let forms =
            [r#""kakehi.describe""#, r#"{"kakehi.describe":{}}"#, r#"{"kakehi.describe":null}"#];
        forms.into_iter().any(|command| {
            let payload = format!(r#"{{"id":"","version":0,"command":{command}}}"#);
            let decoded: Result<Request<C>, _> = self.decode(payload.as_bytes());
            decoded.is_ok()
        })
    }
}

/// serde's derive also accepts an array.
fn object<T: DeserializeOwned>(payload: &[u8]) -> Option<T> {
    let is_object = payload.trim_ascii_start().starts_with(b"{");
    serde_json::from_slice(payload).ok().filter(|_| is_object)
}

/// `false`: no command of the payload has a reserved name. JSON may write any character of the name
/// as an escape.
fn may_have_reserved(payload: &[u8]) -> bool {
    static PREFIX: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("kakehi."));
    static ESCAPE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\\u00"));
    let escapes = memchr(b'\\', payload).and_then(|at| payload.get(at..));
    PREFIX.find(payload).is_some() || escapes.is_some_and(|rest| ESCAPE.find(rest).is_some())
}

/// A command: a word, or an object with one key. Only its name is read.
struct Name {
    name: Option<String>,
    /// It has no second key.
    is_alone: bool,
}

impl Name {
    fn is_reserved(&self) -> bool {
        self.is_alone && self.name.as_ref().is_some_and(|name| name.starts_with(RESERVED))
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Word)
    }
}

struct Word;

impl<'de> Visitor<'de> for Word {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command, which is a word or an object with one key")
    }

    fn visit_str<E>(self, word: &str) -> Result<Name, E> {
        Ok(Name { name: Some(word.to_owned()), is_alone: true })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Name, A::Error> {
        let name = map.next_entry::<String, IgnoredAny>()?.map(|(name, _)| name);
        let mut is_alone = true;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            is_alone = false;
        }
        Ok(Name { name, is_alone })
    }
}

/// A type that can be the content of a response in the format `F`. In JSON, every type that implements
/// `serde::Serialize`.
///
/// ```
/// use kakehi_channel::{Json, Response, Status, low_level::Buffer};
/// use kakehi_server::Content;
///
/// let response =
///     Response { id: "a", version: 0, status: Status::Ok, message: "", content: Some(&[1, 2]), refused: None };
/// let mut out = Buffer::new(64, 1024);
/// Content::encode_frame(&mut Json::default(), &response, &mut out, 100).unwrap();
/// assert_eq!(out.data(), b"{\"id\":\"a\",\"version\":0,\"status\":\"OK\",\"message\":\"\",\"content\":[1,2]}\0");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the content of a response in the format `{F}`",
    label = "cannot be encoded",
    note = "in JSON, content is a type that implements `serde::Serialize`"
)]
pub trait Content<F> {
    /// Appends `response` to `out` as one frame of at most `max` bytes.
    ///
    /// # Errors
    /// The response cannot be encoded, is larger than `max`, or does not fit into `out`. Then `out` is
    /// unchanged.
    fn encode_frame(
        format: &mut F,
        response: &Response<&Self, &str>,
        out: &mut Buffer,
        max: usize,
    ) -> Result<(), ChannelError>;
}

impl<T: ?Sized, F: for<'a> Encode<Response<&'a T, &'a str>>> Content<F> for T {
    fn encode_frame(
        format: &mut F,
        response: &Response<&T, &str>,
        out: &mut Buffer,
        max: usize,
    ) -> Result<(), ChannelError> {
        format.encode_frame(response, out, max)
    }
}

//! What a server needs of a wire, besides its frames.

use kakehi_channel::{Buffer, Decode, Encode, Error, Json, Request, Response, encode_frame};
use serde::{Deserialize, de::DeserializeOwned};

/// A wire that a server can speak: a format that reads requests whose command is a `C`, and writes
/// responses. Kakehi's own is [`Json`].
///
/// A wire without ids or clocks reads requests without them, and writes only what it has a place
/// for.
///
/// ```
/// use kakehi_channel::{Buffer, Decode, Encode, Error, Format, Frame, Request, Response};
/// use kakehi_server::Wire;
///
/// /// Lines of text.
/// #[derive(Default)]
/// struct Lines;
///
/// impl Format for Lines {
///     fn find(&mut self, data: &[u8], max: usize) -> Result<Option<Frame>, Error> {
///         let end = data.iter().position(|byte| *byte == b'\n');
///         match end.map(|end| Frame { payload: 0..end, len: end + 1 }) {
///             Some(frame) if frame.len <= max => Ok(Some(frame)),
///             None if data.len() < max => Ok(None),
///             _ => Err(Error::too_large(max + 1, max)),
///         }
///     }
/// }
///
/// impl Decode<Request<String>> for Lines {
///     fn decode(&mut self, payload: &[u8]) -> Result<Request<String>, Error> {
///         let command = std::str::from_utf8(payload).map_err(Error::malformed)?;
///         Ok(Request::with_command("", command.to_owned()))
///     }
/// }
///
/// impl Encode<Response<&(), &str>> for Lines {
///     fn encode(&mut self, response: &Response<&(), &str>, out: &mut Buffer) -> Result<(), Error> {
///         Ok(out.put(format!("{} {}\n", response.status, response.message).as_bytes())?)
///     }
/// }
///
/// impl Wire<String> for Lines {}
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// use kakehi_server::{Context, Limits, Peer, serve_stream};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// // The handler's context says which wire is spoken.
/// let handler = async |request: Request<String>, context: Context<Lines>| {
///     context.progress("on it").await?;
///     Ok::<_, Error>(request.command.unwrap_or_default())
/// };
/// let (ours, mut theirs) = tokio::io::duplex(1024);
/// tokio::spawn(serve_stream(ours, Peer::own(), handler, Limits::default()));
/// theirs.write_all(b"reload\n").await?;
/// let mut answer = [0; 27];
/// theirs.read_exact(&mut answer).await?;
/// assert_eq!(&answer, b"PROCESSING on it\nOK reload\n");
/// # Ok(()) }
/// ```
pub trait Wire<C>:
    Decode<Request<C>> + for<'a> Encode<Response<&'a (), &'a str>> + Default + Send + 'static
{
    /// The id of a message that is not a request, if it has one: its refusal carries it.
    ///
    /// ```
    /// use kakehi_channel::Json;
    /// use kakehi_server::Wire;
    ///
    /// let of_a_later_version = br#"{"id":"ID-1","version":7}"#;
    /// assert_eq!(<Json as Wire<u8>>::id_of(of_a_later_version).as_deref(), Some("ID-1"));
    /// ```
    #[must_use]
    fn id_of(payload: &[u8]) -> Option<String> {
        let _ = payload;
        None
    }
}

impl<C: DeserializeOwned> Wire<C> for Json {
    fn id_of(payload: &[u8]) -> Option<String> {
        #[derive(Deserialize)]
        struct Id {
            id: String,
        }
        // serde's derive would read an array too.
        let is_object = payload.trim_ascii_start().starts_with(b"{");
        serde_json::from_slice(payload).ok().filter(|_| is_object).map(|Id { id }| id)
    }
}

/// What a response can carry as its content on the wire `F`: in JSON, all that serde can write.
///
/// ```
/// use kakehi_channel::{Buffer, Json, Response, Status};
/// use kakehi_server::Content;
///
/// let response =
///     Response { id: "a", version: 0, status: Status::Ok, message: "", content: Some(&[1, 2]), refused: None };
/// let mut out = Buffer::new(64, 1024);
/// Content::encode_frame(&mut Json::default(), &response, &mut out, 100).unwrap();
/// assert_eq!(out.data(), b"{\"id\":\"a\",\"version\":0,\"status\":\"OK\",\"message\":\"\",\"content\":[1,2]}\0");
/// ```
pub trait Content<F> {
    /// Appends `response` to `out` as one frame of at most `max` bytes: whole, or not at all.
    ///
    /// # Errors
    /// When it cannot be encoded, is over `max`, or does not fit into `out`.
    fn encode_frame(
        format: &mut F,
        response: &Response<&Self, &str>,
        out: &mut Buffer,
        max: usize,
    ) -> Result<(), Error>;
}

impl<T: ?Sized, F: for<'a> Encode<Response<&'a T, &'a str>>> Content<F> for T {
    fn encode_frame(
        format: &mut F,
        response: &Response<&T, &str>,
        out: &mut Buffer,
        max: usize,
    ) -> Result<(), Error> {
        encode_frame(format, response, out, max)
    }
}

//! The server's side of Sōzu's protocol.

use kakehi_channel::{ChannelError, Decode, Encode, Request, Response, Status, low_level::Buffer};
use kakehi_sozu_format::Sozu as Framing;

use crate::{
    Wire,
    command::{self, ResponseStatus, request::RequestType, response_content::ContentType},
};

/// A request as a handler receives it. It has no id, timeout or deadline. A request without a type,
/// or with an unknown type, has no command.
pub type Asked = Request<RequestType>;

/// The context of a `kakehi_server` handler that speaks Sōzu's protocol. With such a handler,
/// `kakehi_server::serve` and `serve_stream` answer as a Sōzu does.
///
/// The content of a response is a [`ContentType`]. Failures and refusals become FAILURE.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("sozu.sock");
/// use kakehi_server::{Answer, Failure, Socket, serve};
/// use kakehi_sozu::{
///     Asked, Context, Sozu,
///     command::{self, WorkerInfos, request::RequestType, response_content::ContentType},
/// };
///
/// let socket = Socket::bind(&path).listen()?;
/// let stand_in = serve(socket, async |asked: Asked, context: Context| match asked.command {
///     Some(RequestType::Status(_)) => {
///         context.progress("asking the workers").await?;
///         let workers = ContentType::Workers(WorkerInfos { vec: vec![] });
///         Ok(Answer::new("there are none").with_content(workers))
///     }
///     _ => Err(Failure::new("a stand-in cannot do that")),
/// });
/// tokio::spawn(stand_in.into_future());
///
/// let sozu = Sozu::connect(path).await?;
/// let answer = sozu.request(RequestType::Status(command::Status {})).await?;
/// assert_eq!(answer.message, "there are none");
/// # Ok(()) }
/// ```
pub type Context = kakehi_server::Context<kakehi_server::AnyContent, Wire>;

impl kakehi_server::Protocol<RequestType> for Wire {}

impl Decode<Asked> for Wire {
    fn decode(&mut self, payload: &[u8]) -> Result<Asked, ChannelError> {
        let command::Request { request_type } = Framing.decode(payload)?;
        Ok(Request { command: request_type, ..Request::new("") })
    }
}

impl Encode<Response<&ContentType, &str>> for Wire {
    fn encode(
        &mut self,
        response: &Response<&ContentType, &str>,
        out: &mut Buffer,
    ) -> Result<(), ChannelError> {
        let content = response.content.cloned().map(Into::into);
        Framing.encode(&message(response.status, response.message, content), out)
    }
}

impl Encode<Response<&(), &str>> for Wire {
    fn encode(
        &mut self,
        response: &Response<&(), &str>,
        out: &mut Buffer,
    ) -> Result<(), ChannelError> {
        Framing.encode(&message(response.status, response.message, None), out)
    }
}

fn message(
    status: Status,
    message: &str,
    content: Option<command::ResponseContent>,
) -> command::Response {
    let status = match status {
        Status::Ok => ResponseStatus::Ok,
        Status::Processing => ResponseStatus::Processing,
        Status::Error => ResponseStatus::Failure,
    };
    command::Response { status: status.into(), message: message.to_owned(), content }
}

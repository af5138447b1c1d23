//! The responses of Sōzu.

use std::fmt;

use kakehi_client::{ResponseMessage, Status};

use crate::command::{self, ResponseStatus, response_content::ContentType};

/// A response. A request gets any number of [`Status::Processing`] ones, then exactly one that is
/// final: [`Status::Ok`], or [`Status::Error`], which Sōzu calls FAILURE.
///
/// Both its status and the kind of its content are known. A response with an unknown one is an
/// error that keeps the bytes ([`Malformed`](crate::ErrorKind::Malformed)).
///
/// ```
/// use kakehi_sozu::{Response, Status, command};
///
/// let message = command::Response { status: 2, message: "no such worker".into(), content: None };
/// let response = Response::try_from(message).unwrap();
/// assert_eq!(response.status, Status::Error);
/// ```
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Response {
    /// Whether more will follow, and if not, how it ended.
    pub status: Status,
    /// For a person. It differs between versions of Sōzu: nothing should be concluded from it.
    pub message: String,
    /// For a program.
    pub content: Option<ContentType>,
}

impl TryFrom<command::Response> for Response {
    type Error = UnknownResponse;

    fn try_from(response: command::Response) -> Result<Self, UnknownResponse> {
        let command::Response { status, message, content } = response;
        let status = match ResponseStatus::try_from(status) {
            Ok(ResponseStatus::Ok) => Status::Ok,
            Ok(ResponseStatus::Processing) => Status::Processing,
            Ok(ResponseStatus::Failure) => Status::Error,
            Err(_) => return Err(UnknownResponse::Status(status)),
        };
        // The decoder leaves out what it does not know: of a content of another version, nothing
        // is left but the shell.
        let content = content.map(|content| content.content_type.ok_or(UnknownResponse::Content));
        Ok(Self { status, message, content: content.transpose()? })
    }
}

impl ResponseMessage for Response {
    type Event = Self;
    type Reply = Self;

    fn status(&self) -> Option<Status> {
        Some(self.status)
    }

    fn id(&self) -> Option<&str> {
        None
    }

    fn message(&self) -> Option<&str> {
        Some(&self.message)
    }

    fn into_event(self) -> Result<Self, Self> {
        Ok(self)
    }

    fn into_reply(self) -> Result<Self, Self> {
        Ok(self)
    }
}

/// Shows the kind of its content alone: keys and passwords may be in it.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let content = self.content.clone().map(command::ResponseContent::from);
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("message", &self.message)
            .field("content", &content)
            .finish()
    }
}

/// Why a message of Sōzu's is not a response that can be understood here.
///
/// ```
/// use kakehi_sozu::{Response, command};
///
/// let message = command::Response { status: 7, message: String::new(), content: None };
/// let error = Response::try_from(message).unwrap_err();
/// assert_eq!(error.to_string(), "its status is 7, which is not known here");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnknownResponse {
    /// Its status.
    Status(i32),
    /// The kind of its content.
    Content,
}

impl fmt::Display for UnknownResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "its status is {status}, which is not known here"),
            Self::Content => f.write_str("its content is of a kind that is not known here"),
        }
    }
}

impl std::error::Error for UnknownResponse {}

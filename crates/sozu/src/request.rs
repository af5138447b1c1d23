//! Requests to Sōzu.

use kakehi_client::RequestMessage;

use crate::command::{self, request::RequestType};

/// A request, made from a [`RequestType`] or from a message of Sōzu's protocol.
///
/// ```
/// use kakehi_sozu::{Request, command::{self, request::RequestType}};
///
/// let request = Request::from(RequestType::Status(command::Status {}));
/// assert!(!request.is_open_ended());
/// assert!(Request::from(RequestType::LoadState("state.json".into())).is_open_ended());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Request(command::Request);

impl Request {
    /// Whether the duration of the request is unlimited: it drains connections, reads a file of
    /// any length, or has no final response. Such a request has no deadline by default.
    ///
    /// These are `SoftStop`, `LoadState`, `UpgradeMain`, `UpgradeWorker` and `SubscribeEvents`.
    #[must_use]
    pub fn is_open_ended(&self) -> bool {
        matches!(
            self.0.request_type,
            Some(
                RequestType::SoftStop(_)
                    | RequestType::LoadState(_)
                    | RequestType::UpgradeMain(_)
                    | RequestType::UpgradeWorker(_)
                    | RequestType::SubscribeEvents(_)
            )
        )
    }

    pub(crate) fn as_message(&self) -> &command::Request {
        &self.0
    }
}

impl From<RequestType> for Request {
    fn from(request_type: RequestType) -> Self {
        Self(command::Request { request_type: Some(request_type) })
    }
}

/// Also of one without a type, which Sōzu never answers.
impl From<command::Request> for Request {
    fn from(message: command::Request) -> Self {
        Self(message)
    }
}

/// Sōzu's wire has neither ids nor clocks.
impl RequestMessage for Request {}

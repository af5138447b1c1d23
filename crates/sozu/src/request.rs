//! Requests to Sōzu.

use kakehi_client::RequestMessage;

use crate::{
    Release,
    command::{self, request::RequestType},
};

/// A request, made from a [`RequestType`] or from a message of Sōzu's protocol.
///
/// ```
/// use kakehi_sozu::{Request, command::{self, request::RequestType}};
///
/// let request = Request::from(RequestType::Status(command::Status {}));
/// assert!(!request.is_open_ended());
/// assert!(Request::from(RequestType::LoadState("state.json".into())).is_open_ended());
/// ```
///
/// # Canonical form
/// A request always has its canonical form, by the library's
/// [`into_canonical`](RequestType::into_canonical). Sōzu has two verbs for some requests, with the
/// same payload. An old Sōzu ignores a field that it does not know, such as `unix_path` of a
/// backend, and carries out the rest. Therefore such a field has a newer verb, which an old Sōzu
/// does not carry out. It sends no response, so the request ends at its deadline with an unknown
/// outcome.
///
/// The conversion cannot fail. It works in both directions: without the field, the request gets the
/// older verb, which every version knows.
///
/// ```
/// use kakehi_sozu::{Request, command::{AddBackend, request::RequestType}};
///
/// let unix_path = Some("/run/app.sock".to_owned());
/// let backend = AddBackend { unix_path, ..AddBackend::default() };
/// let request = Request::from(RequestType::AddBackend(backend.clone()));
/// assert_eq!(request, RequestType::AddUnixBackend(backend).into());
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

    /// The first release of Sōzu that knows the verb of the request. `None` for a request without
    /// a type, and for a verb that this crate does not know.
    ///
    /// [`probe`](crate::Sozu::probe) finds out whether the running Sōzu understands the verbs of a
    /// release.
    ///
    /// ```
    /// use kakehi_sozu::{Release, Request, command::{AddBackend, request::RequestType}};
    ///
    /// let mut backend = AddBackend::default();
    /// let request = Request::from(RequestType::AddBackend(backend.clone()));
    /// assert_eq!(request.release(), Some(Release::V2_1_0));
    ///
    /// backend.unix_path = Some("/run/app.sock".to_owned());
    /// let request = Request::from(RequestType::AddBackend(backend));
    /// assert_eq!(request.release(), Some(Release::V2_3_2));
    /// ```
    #[must_use]
    pub fn release(&self) -> Option<Release> {
        match tag(self.0.request_type.as_ref()?) {
            1..=59 => Some(Release::V2_1_0),
            60..=64 => Some(Release::V2_3_0),
            65..=75 => Some(Release::V2_3_2),
            _ => None,
        }
    }

    pub(crate) fn as_message(&self) -> &command::Request {
        &self.0
    }
}

/// The number of the verb in Sōzu's protocol.
fn tag(request_type: &RequestType) -> u64 {
    // Only the encoder knows the number: a varint at the start, above three bits of the type.
    let mut bytes = vec![];
    request_type.encode(&mut bytes);
    let mut key = 0;
    for (place, byte) in bytes.iter().take(9).enumerate() {
        key |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            break;
        }
    }
    key >> 3
}

impl From<RequestType> for Request {
    fn from(request_type: RequestType) -> Self {
        command::Request { request_type: Some(request_type) }.into()
    }
}

/// Also of one without a type, which Sōzu never answers.
impl From<command::Request> for Request {
    fn from(message: command::Request) -> Self {
        Self(message.into_canonical())
    }
}

/// Sōzu's wire has neither ids nor clocks.
impl RequestMessage for Request {}

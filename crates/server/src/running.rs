//! The running requests of a server: listed, cancelled and followed by other requests.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use crate::{
    Handle, Peer,
    outbox::{TooManyReaders, Watch},
};

/// The longest text from a client in the list of running requests, in bytes.
const MAX_LISTED: usize = 256;

/// A running request.
///
/// A server keeps one for each connection at most, so [`Limits::connections`](crate::Limits::connections)
/// bounds their number.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunningRequest {
    /// The id that the server assigned. It is unique among all requests of the server; the id that
    /// the client chose need not be.
    pub run: String,
    /// The id that its client chose. Of a longer one, the first 256 bytes and `…`.
    pub id: String,
    /// The name of its command: see [`Handler::describe`](crate::Handler::describe). It is shortened
    /// like `id`.
    pub command: Cow<'static, str>,
    /// The credentials of the client.
    pub peer: Peer,
    /// The time since it first had to wait.
    pub age: Duration,
}

/// A client's text as the list of running requests has it: it must not grow with what clients send.
pub(crate) fn listed<'t>(text: impl Into<Cow<'t, str>>) -> Cow<'t, str> {
    let text = text.into();
    if text.len() <= MAX_LISTED {
        return text;
    }
    let mut end = MAX_LISTED;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default()))
}

/// One step of a request that is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    /// A response as its client gets it, with its framing. Keep-alives are among them.
    Response(Arc<[u8]>),
    /// The number of responses that were dropped, because the follower was too slow.
    Missed(u64),
}

/// Follows one request. Dropping it does not affect the request.
#[derive(Debug)]
pub struct Follower(Arc<Watch>);

impl Follower {
    /// The next response; `None` after the final one, or if the request has ended without one.
    ///
    /// # Cancel safety
    /// Cancel safe: no response is lost.
    pub async fn next(&mut self) -> Option<Followed> {
        self.0.next().await
    }
}

/// Why a request cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FollowError {
    /// No running request has this run id.
    NotRunning,
    /// The request has 16 followers already.
    TooManyFollowers,
}

impl fmt::Display for FollowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRunning => "no such request runs",
            Self::TooManyFollowers => "the request has 16 followers already",
        })
    }
}

impl std::error::Error for FollowError {}

/// The connection of a request, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunId {
    pub(crate) connection: u64,
    pub(crate) number: u64,
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.connection, self.number)
    }
}

impl RunId {
    fn parse(text: &str) -> Option<Self> {
        let (connection, number) = text.split_once('-')?;
        let id = Self { connection: connection.parse().ok()?, number: number.parse().ok()? };
        // `parse` takes more than one form of a number.
        (id.to_string() == text).then_some(id)
    }
}

impl Handle {
    /// The running requests, in the order in which their clients connected.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use kakehi_channel::{Channel, Json, Request, Response};
    /// use kakehi_server::{Context, Limits, Peer, serve_stream};
    ///
    /// async fn handle(_: Request, context: Context) -> Result<String, String> {
    ///     Ok(context.server().running()[0].id.clone())
    /// }
    ///
    /// let (ours, theirs) = tokio::io::duplex(1024);
    /// tokio::spawn(serve_stream(ours, Peer::own(), handle, Limits::default()));
    /// let mut channel = Channel::<Request, Response, Json, _>::new(theirs);
    /// channel.send(Request::new("ID-1")).await?;
    /// assert_eq!(channel.next().await.expect("an answer")?.message, "ID-1");
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn running(&self) -> Vec<RunningRequest> {
        self.shared.open().iter().filter_map(|connection| connection.running()).collect()
    }

    /// Cancels a running request as its deadline does: its client gets an ERROR that names `by`. Returns
    /// whether a request with this run id runs.
    ///
    /// The request ends a moment later: see [`Context::cancellation`](crate::Context::cancellation).
    ///
    /// ```
    /// assert!(!kakehi_server::Handle::default().cancel("1-1", "uid 0"));
    /// ```
    #[must_use = "`false`: no such request runs"]
    pub fn cancel(&self, run: &str, by: &str) -> bool {
        RunId::parse(run).is_some_and(|RunId { connection, number }| {
            let connection = self.shared.connection(connection);
            connection.is_some_and(|connection| connection.cancel_by(number, by))
        })
    }

    /// Follows a running request: its responses from now on, up to the final one. The request does not
    /// wait for its followers. At most 256 KiB wait for a slow one; then its oldest responses are dropped.
    ///
    /// # Errors
    /// No such request runs, or it has 16 followers already.
    ///
    /// ```
    /// use kakehi_server::{FollowError, Handle};
    ///
    /// assert_eq!(Handle::default().follow("1-1").unwrap_err(), FollowError::NotRunning);
    /// ```
    pub fn follow(&self, run: &str) -> Result<Follower, FollowError> {
        let RunId { connection, number } = RunId::parse(run).ok_or(FollowError::NotRunning)?;
        let watch = self.shared.connection(connection).and_then(|found| found.watch(number));
        match watch.ok_or(FollowError::NotRunning)? {
            Ok(watch) => Ok(Follower(watch)),
            Err(TooManyReaders) => Err(FollowError::TooManyFollowers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_text_is_cut_between_characters() {
        for text in ["", "short", &"x".repeat(MAX_LISTED)] {
            assert_eq!(listed(text), text);
        }
        assert_eq!(listed("x".repeat(MAX_LISTED + 1)), format!("{}…", "x".repeat(MAX_LISTED)));
        assert_eq!(listed("筧".repeat(MAX_LISTED)), format!("{}…", "筧".repeat(MAX_LISTED / 3)));
    }

    #[test]
    fn a_run_id_has_one_form() {
        let id = RunId { connection: 12, number: 3 };
        assert_eq!(RunId::parse(&id.to_string()), Some(id));
        for text in ["", "12", "12-", "-3", "+12-3", "12-03", "12-3-4", "a-1"] {
            assert_eq!(RunId::parse(text), None, "{text}");
        }
    }
}

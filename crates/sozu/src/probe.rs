//! Whether a running Sōzu understands the verbs of a release.

use std::{fmt, pin::pin, time::Duration};

use futures::future::{Either, select};
use kakehi_client::{ErrorKind, Status};
use tokio::time::sleep;

use crate::{
    Error, Response, Responses, Sozu, SozuBuilder,
    command::{
        ListWorkers, ProtectedHealthCheckPhase, QueryMaxConnectionsPerIp,
        QueryMaxConnectionsPerSubnet, QueryProtectedHealthCheckSupport, request::RequestType,
        response_content::ContentType,
    },
};

/// A release of Sōzu that added verbs. The first release that knows a request is
/// [`Request::release`](crate::Request::release).
///
/// ```
/// use kakehi_sozu::{Release, Request, command::{CloseSessions, request::RequestType}};
///
/// let request = Request::from(RequestType::CloseSessions(CloseSessions::default()));
/// assert_eq!(request.release(), Some(Release::V2_3_2));
/// assert!(Release::V2_3_0 < Release::V2_3_2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Release {
    /// Sōzu 2.1.0 or earlier: the verbs with the tags 1 to 59.
    V2_1_0,
    /// Sōzu 2.3.0: the tags 60 to 64, for limits per subnet, connection attempts and client
    /// certificates.
    V2_3_0,
    /// Sōzu 2.3.2: the tags 65 to 75, for `CloseSessions`, header predicates, silent closes, Unix
    /// backends and protected health checks.
    V2_3_2,
}

impl Release {
    /// A query that the release added. The main process passes it to all workers, and neither
    /// changes anything.
    fn query(self) -> RequestType {
        match self {
            Self::V2_1_0 => RequestType::QueryMaxConnectionsPerIp(QueryMaxConnectionsPerIp {}),
            Self::V2_3_0 => {
                RequestType::QueryMaxConnectionsPerSubnet(QueryMaxConnectionsPerSubnet {})
            }
            Self::V2_3_2 => {
                let query = QueryProtectedHealthCheckSupport {};
                RequestType::QueryProtectedHealthCheckSupport(query)
            }
        }
    }

    /// Whether this final OK speaks for all workers.
    fn is_confirmed_by(self, ok: &Response) -> bool {
        match &ok.content {
            Some(ContentType::ProtectedHealthCheckReply(reply)) => {
                let phase = ProtectedHealthCheckPhase::ProtectedHealthCheckCapability;
                self == Self::V2_3_2 && reply.phase() == phase
            }
            _ => self != Self::V2_3_2,
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V2_1_0 => "2.1.0",
            Self::V2_3_0 => "2.3.0",
            Self::V2_3_2 => "2.3.2",
        })
    }
}

/// The result of a [probe](Sozu::probe).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Support {
    /// The main process and all workers that it asked understand the verbs.
    Everywhere,
    /// The main process understands the verbs. Within the budget, at least one worker did not
    /// confirm that it does: it hangs, or it has an earlier version, as after `UpgradeMain`.
    MainProcess,
    /// The main process does not understand the verbs: it left the probe unanswered, and answered
    /// two later requests. Do not send a request with such a verb, because its outcome will be
    /// unknown.
    Missing,
}

/// Why a [probe](Sozu::probe) has no result: whether Sōzu understands the verbs is unknown.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use std::time::Duration;
/// use kakehi_sozu::{ProbeError, Release, Sozu};
///
/// let sozu = Sozu::builder("/nowhere").build();
/// let error = sozu.probe(Release::V2_3_2, Duration::from_secs(1)).await.unwrap_err();
/// assert!(matches!(error, ProbeError::Failed(_)), "no Sōzu is running");
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum ProbeError {
    /// The probe could not be sent, or the connection was lost, or Sōzu answered nothing else
    /// either, or the response could not be decoded.
    Failed(Error),
    /// Sōzu refused the probe, for example because the `command_allowed_uids` of its configuration
    /// do not include this user.
    Refused(Response),
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot find out which verbs Sōzu understands: ")?;
        match self {
            Self::Failed(error) => write!(f, "{error}"),
            Self::Refused(response) => write!(f, "it refused the probe: {}", response.message),
        }
    }
}

impl std::error::Error for ProbeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error),
            Self::Refused(_) => None,
        }
    }
}

impl From<Error> for ProbeError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Sozu {
    /// Finds out whether the running Sōzu understands the verbs of a release, within `budget`.
    ///
    /// Sōzu never answers a request with a verb that it does not know. The probe therefore has
    /// connections of its own, outside of the pool, and closes them. It sends a query of that
    /// release, which changes nothing. After three quarters of the budget without a response, it
    /// sends two requests that every version answers. If Sōzu answers these and still not the query,
    /// the result is [`Support::Missing`]. If Sōzu does not answer these, the result is an error.
    ///
    /// The whole probe takes at most `budget`, however many progress responses arrive. The budget
    /// is at least 1 ms. 2 s suit a Sōzu on the same machine. [`Support::Missing`] and
    /// [`Support::MainProcess`] mostly take the whole budget.
    ///
    /// # Limits
    /// - The result is that of the moment. An upgrade can change it, and a restart too.
    /// - The probe asks about a release, not about a single verb. The queries are
    ///   `QueryMaxConnectionsPerIp` for 2.1.0, `QueryMaxConnectionsPerSubnet` for 2.3.0 and
    ///   `QueryProtectedHealthCheckSupport` for 2.3.2. A Sōzu built between two releases may know
    ///   some of the verbs only.
    /// - The probe does not tell releases before 2.1.0 from 2.1.0.
    /// - The budget must be below Sōzu's `worker_timeout` of 10 s. After that, 2.1.0 answers OK also
    ///   if a worker did not answer.
    /// - Sōzu asks only the workers that it can reach. Without any, the result for 2.1.0 and 2.3.0
    ///   is [`Support::Everywhere`].
    /// - Sōzu counts and logs the requests of the probe, as any others.
    ///
    /// # Errors
    /// Whether Sōzu understands the verbs is unknown: see [`ProbeError`].
    ///
    /// # Cancel safety
    /// Dropping the future closes the connections of the probe.
    ///
    /// ```no_run
    /// # async fn f(sozu: kakehi_sozu::Sozu) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use kakehi_sozu::{Release, Support, command::{CloseSessions, request::RequestType}};
    ///
    /// let support = sozu.probe(Release::V2_3_2, Duration::from_secs(2)).await?;
    /// if support == Support::Everywhere {
    ///     let blue = CloseSessions { cluster_id: "blue".into(), ..CloseSessions::default() };
    ///     sozu.request(RequestType::CloseSessions(blue)).await?;
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn probe(&self, release: Release, budget: Duration) -> Result<Support, ProbeError> {
        // For a request, zero means no limit.
        let budget = budget.max(Duration::from_millis(1));
        let client = self.settings().client(1);
        let query = client.message(release.query().into()).timeout(None).deadline(budget);
        let mut responses = query.send().await?;
        let (first, control) = first_response(self.settings(), &mut responses, budget).await;
        match first {
            Some(Ok(response)) => match response.status {
                Status::Processing => Ok(after_progress(release, responses).await),
                Status::Ok => Ok(by_final(release, &response)),
                // A Sōzu that does not know the verb is silent. Something else has refused it.
                Status::Error => Err(ProbeError::Refused(response)),
            },
            Some(Err(error)) if error.kind() == ErrorKind::Deadline => match control {
                Some(Ok(())) => Ok(Support::Missing),
                Some(Err(error)) => Err(error.into()),
                // The control has not ended either.
                None => Err(error.into()),
            },
            Some(Err(error)) => Err(error.into()),
            None => Ok(Support::MainProcess),
        }
    }
}

type Item = Option<Result<Response, Error>>;

/// Waits for the first response to the query, or its deadline. Also returns the result of the
/// control, if it ended before.
async fn first_response(
    settings: &SozuBuilder,
    responses: &mut Responses,
    budget: Duration,
) -> (Item, Option<Result<(), Error>>) {
    let rest = budget / 4;
    let control = pin!(async {
        sleep(budget.saturating_sub(rest)).await;
        control(settings, rest).await
    });
    match select(pin!(responses.next()), control).await {
        Either::Left((first, _)) => (first, None),
        Either::Right((control, next)) => (next.await, Some(control)),
    }
}

/// Finds out whether the main process works through its requests.
///
/// The second request is sent after the first one is answered. When it is answered too, the main
/// process has finished each round that could contain the probe.
async fn control(settings: &SozuBuilder, budget: Duration) -> Result<(), Error> {
    let client = settings.client(1);
    for _ in 0..2 {
        let list = RequestType::ListWorkers(ListWorkers {});
        let answer = client.message(list.into()).timeout(None).deadline(budget).await;
        // A FAILURE is an answer too.
        if let Err(error) = answer
            && error.response().is_none()
        {
            return Err(error);
        }
    }
    Ok(())
}

/// The result once the main process has shown by a progress response that it understands the query.
async fn after_progress(release: Release, mut responses: Responses) -> Support {
    loop {
        match responses.next().await {
            Some(Ok(response)) if response.status == Status::Processing => {}
            Some(Ok(response)) => return by_final(release, &response),
            // The stream goes on after it, up to the deadline.
            Some(Err(error)) if error.kind() == ErrorKind::Malformed => {}
            Some(Err(_)) | None => return Support::MainProcess,
        }
    }
}

fn by_final(release: Release, response: &Response) -> Support {
    if response.status == Status::Ok && release.is_confirmed_by(response) {
        Support::Everywhere
    } else {
        Support::MainProcess
    }
}

//! The server on this machine: which socket, and the client for it.

use std::path::{Path, PathBuf};

use kakehi_client::{Client, ClientSettings, Error, Timeouts, default_socket};

use super::{
    args::Options,
    ask::{ask, unreached},
    confirm::confirm,
    exit,
    failure::Failure,
    question::Question,
    reply::{Answer, Verbatim},
    stop::{Again, Stop},
    view::View,
};

/// A server on this machine.
#[derive(Debug)]
pub(crate) struct Server {
    client: Client<Question, Answer, Verbatim>,
    place: Place,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    /// The places before it, which do not exist.
    pub(crate) absent: Vec<PathBuf>,
    /// The places after it, which are not tried.
    pub(crate) later: Vec<PathBuf>,
}

/// The socket of the system's server. Only root can create it.
const SYSTEM: &str = "/run/kakehi/kakehi.sock";

/// A request, and the one that cancels it.
const POOL: usize = 2;

/// The socket that the options name. Without any, the user's own one or else the system's,
/// whichever exists first.
///
/// # Errors
/// None of them exists.
pub(crate) fn find(options: &Options) -> Result<Place, Failure> {
    match options.given_socket() {
        Some(path) => Ok(Place { path, absent: vec![], later: vec![] }),
        None => first(places()),
    }
}

/// The socket to examine: as [`find`], or the first place if none exists.
pub(crate) fn examined(options: &Options) -> PathBuf {
    find(options).map_or_else(|_| default_place(), |place| place.path)
}

/// The place without any option: the first that exists, or the first of all.
pub(crate) fn default_place() -> PathBuf {
    let places = places();
    let existing = places.iter().find(|path| path.try_exists().unwrap_or(true));
    existing.or(places.first()).cloned().unwrap_or_else(|| SYSTEM.into())
}

/// The places without any option, in the order in which they are tried.
fn places() -> Vec<PathBuf> {
    let mut places: Vec<_> = default_socket().into_iter().collect();
    if places.iter().all(|place| place != Path::new(SYSTEM)) {
        places.push(SYSTEM.into());
    }
    places
}

fn first(places: Vec<PathBuf>) -> Result<Place, Failure> {
    let mut absent = vec![];
    let mut places = places.into_iter();
    while let Some(path) = places.next() {
        // A place that cannot be looked at is not absent: connecting to it says why.
        if path.try_exists().unwrap_or(true) {
            return Ok(Place { path, absent, later: places.collect() });
        }
        absent.push(path);
    }
    let names: Vec<_> = absent.iter().map(|path| path.display().to_string()).collect();
    let why = format!("there is no socket at {}", names.join(" or "));
    let remedy = "start the server, or name its socket: --socket PATH or KAKEHI_SOCKET";
    let parts = ["no server is running", &why, remedy];
    Err(Failure::unsent(exit::NOT_RUNNING, "not_running", parts))
}

impl Server {
    /// The server that the options name.
    pub(crate) fn find(options: &Options) -> Result<Self, Failure> {
        Self::with_pool(options, POOL)
    }

    /// The same, for up to `size` requests at once.
    pub(crate) fn with_pool(options: &Options, size: usize) -> Result<Self, Failure> {
        let place = find(options)?;
        let Timeouts { timeout, deadline } = options.clocks();
        let settings = ClientSettings {
            timeout,
            deadline,
            pool_size: size,
            server_uid: options.server_uid,
            ..ClientSettings::default()
        };
        Ok(Self { client: Client::typed(&place.path, settings), place })
    }

    /// Where it listens.
    #[cfg(feature = "top")]
    pub(crate) fn path(&self) -> &Path {
        &self.place.path
    }

    /// Sends the request and shows the responses. Returns the exit status.
    pub(crate) async fn ask(&self, mut question: Question, view: &mut View) -> u8 {
        loop {
            let cancel = self.cancel(Question::cancel(question.id()));
            view.has_other = question.has_other();
            let request = self.client.message(question.clone());
            match ask(request, Some(&self.place), cancel, view).await {
                Ok(code) => return code,
                Err(Again::Otherwise) => question = question.other(),
                Err(Again::Unconfirmed(unconfirmed)) => match confirm(unconfirmed, view).await {
                    Ok(()) => question = question.confirmed(),
                    Err(code) => return code,
                },
            }
        }
    }

    /// A request, before it is sent.
    #[cfg(feature = "mcp")]
    pub(crate) fn request(
        &self,
        question: Question,
    ) -> kakehi_client::RequestBuilder<'static, Question, Answer, Verbatim> {
        self.client.message(question)
    }

    /// Cancels a request. Returns whether the server does it.
    async fn cancel(&self, question: Question) -> bool {
        let other = question.clone().other();
        self.client.message(question).await.is_ok() || self.client.message(other).await.is_ok()
    }

    /// Sends the request and returns the final response.
    pub(crate) async fn answer(&self, question: Question) -> Result<Answer, Failure> {
        match self.client.message(question).await {
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.explain(error).await),
        }
    }

    /// Why a request has failed.
    pub(crate) async fn explain(&self, error: Error<Answer>) -> Failure {
        match Stop::from(error) {
            Stop::Unreached(failure) => unreached(failure, Some(&self.place)).await,
            Stop::Failed(failure) => failure,
            Stop::Closed | Stop::Again(_) => Failure::unanswered(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_socket_that_exists_is_used_and_otherwise_all_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let [own, system] = ["own", "system"].map(|name| folder.path().join(name));
        let found = || first(vec![own.clone(), system.clone()]);
        let failure = found().unwrap_err();
        assert_eq!((failure.code, failure.word), (exit::NOT_RUNNING, "not_running"));
        let both = format!("at {} or {}", own.display(), system.display());
        assert!(failure.why.ends_with(&both), "{failure:?}");
        std::fs::write(&system, "").unwrap();
        let place = Place { path: system.clone(), absent: vec![own.clone()], later: vec![] };
        assert_eq!(found(), Ok(place));
        std::fs::write(&own, "").unwrap();
        let place = Place { path: own.clone(), absent: vec![], later: vec![system.clone()] };
        assert_eq!(found(), Ok(place));
    }

    #[tokio::test]
    async fn all_places_around_a_dead_socket_are_named_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let [own, dead, system] = ["own", "dead", "system"].map(|name| folder.path().join(name));
        drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
        let names = [&own, &dead, &system].map(|path| path.display().to_string());
        let why = async |later_is| {
            let (absent, later) = (vec![own.clone()], vec![system.clone()]);
            let place = Place { path: dead.clone(), absent, later };
            let parts = ["cannot reach the server", "", ""];
            let failure = Failure::unsent(exit::NOT_RUNNING, "not_running", parts);
            let why = unreached(failure, Some(&place)).await.why;
            let [own, dead, system] = &names;
            assert!(why.starts_with(&format!("{own} does not exist; {dead}: ")), "{why}");
            assert!(why.ends_with(&format!("; {system} {later_is}")), "{why}");
        };
        why("does not exist").await;
        std::fs::write(&system, "").unwrap();
        why("was not tried").await;
    }
}

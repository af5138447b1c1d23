//! Where the server is, and how to get there.

use std::{
    io,
    path::{Path, PathBuf},
};

use kakehi_client::{Client, ClientBuilder, Clocks, default_socket};

use super::{
    args::Options,
    ask::ask,
    demo::Embedded,
    failure::Failure,
    output::Notes,
    question::Question,
    reply::{Answer, Verbatim},
    view::View,
};

/// A server on this machine.
#[derive(Debug)]
pub(crate) struct Server {
    client: Client<Question, Answer, Verbatim>,
    /// The server itself, if it is part of this process.
    _embedded: Option<Embedded>,
}

/// Where the system's own server listens: nobody but root can put a socket there.
const SYSTEM: &str = "/run/kakehi/kakehi.sock";

/// The path of the server that the options mean; without any, of the user's own server, or of the
/// system's where the user has none.
pub(crate) fn socket(options: &Options) -> Result<PathBuf, Failure> {
    let not_given = || own_or_of_the_system(default_socket(), Path::new(SYSTEM));
    let path = options.given_socket().map_or_else(not_given, Ok);
    path.map_err(|error| {
        let why = "neither --socket, KAKEHI_SOCKET nor XDG_RUNTIME_DIR is set";
        Failure::usage("it is not known where the server listens", why, &error.to_string())
    })
}

impl Server {
    /// The server that the options mean.
    pub(crate) fn find(options: &Options) -> Result<Self, Failure> {
        Ok(Self::at(socket(options)?, options))
    }

    /// The same, but if no path is given and none listens on the default one, a server of our own.
    pub(crate) async fn find_or_start(options: &Options, notes: &Notes) -> Result<Self, Failure> {
        if options.given_socket().is_some() {
            return Self::find(options);
        }
        let why = match default_socket() {
            Err(_) => "there is no default path for a server".to_owned(),
            Ok(path) => {
                let server = Self::at(path, options);
                match server.client.ready().await {
                    Err(error) if nobody_listens(error.io_kind()) => {
                        format!("no server listens on {}", server.client.path().display())
                    }
                    Ok(()) | Err(_) => return Ok(server),
                }
            }
        };
        let embedded = Embedded::start()?;
        let path = embedded.path().to_owned();
        notes.say(&format!("{why}: starting one in this process, on {}", path.display()));
        Ok(Self { _embedded: Some(embedded), ..Self::at(path, options) })
    }

    /// Asks it, and shows the answers. Gives the exit status.
    pub(crate) async fn ask(&self, question: Question, view: &mut View) -> u8 {
        let cancel = Question::cancel(question.id());
        let cancel = async { self.client.call(cancel).await.is_ok() };
        ask(self.client.call(question), Some(self.client.path()), cancel, view).await
    }

    fn at(path: PathBuf, options: &Options) -> Self {
        let Clocks { timeout, deadline } = options.clocks();
        let mut builder = ClientBuilder::new(path).timeout(timeout).deadline(deadline);
        if let Some(uid) = options.server_uid {
            builder = builder.expect_server_uid(uid);
        }
        Self { client: builder.build(), _embedded: None }
    }
}

fn nobody_listens(kind: Option<io::ErrorKind>) -> bool {
    matches!(kind, Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused))
}

fn own_or_of_the_system<E>(own: Result<PathBuf, E>, system: &Path) -> Result<PathBuf, E> {
    let has_none = own.as_ref().map_or(true, |own| !own.exists());
    if has_none && system.exists() { Ok(system.to_owned()) } else { own }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_s_server_is_for_who_has_none_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let [own, system] = ["own", "system"].map(|name| folder.path().join(name));
        let chosen = |own: Option<&Path>| {
            own_or_of_the_system(own.map(Path::to_owned).ok_or("unknown"), &system)
        };
        assert_eq!(chosen(Some(&own)).as_ref(), Ok(&own), "there is none: the own one is told of");
        assert_eq!(chosen(None), Err("unknown"));
        std::fs::write(&system, "").unwrap();
        assert_eq!(
            (chosen(Some(&own)).as_ref(), chosen(None).as_ref()),
            (Ok(&system), Ok(&system))
        );
        std::fs::write(&own, "").unwrap();
        assert_eq!(chosen(Some(&own)).as_ref(), Ok(&own));
    }
}

//! Where the server is, and how to get there.

use std::{io, path::PathBuf};

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

/// The path of the server that the options mean.
pub(crate) fn socket(options: &Options) -> Result<PathBuf, Failure> {
    let path = options.given_socket().map_or_else(default_socket, Ok);
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

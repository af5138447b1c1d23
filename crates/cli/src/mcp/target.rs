//! The server whose commands are called: on this machine or on another one.

use std::path::PathBuf;

use kakehi_client::Timeouts;

use super::server::MAX_CALLS;
use crate::{
    args::Options, failure::Failure, question::Question, reach::Server, remote::Remote,
    reply::Answer, ssh::SshHost,
};

/// The server whose commands are called.
#[derive(Debug)]
pub(super) enum Target {
    Here(Server),
    There { host: SshHost, socket: Option<PathBuf>, clocks: Timeouts },
}

impl Target {
    pub(super) fn new(options: &Options) -> Result<Self, Failure> {
        Ok(match options.single_host() {
            Some(host) => {
                let (host, socket) = (host.clone(), options.socket.clone());
                Self::There { host, socket, clocks: options.clocks() }
            }
            // One more for each call, to cancel it.
            None => Self::Here(Server::with_pool(options, 2 * MAX_CALLS)?),
        })
    }

    /// Sends the request and returns the final response.
    pub(super) async fn answer(&self, question: Question) -> Result<Answer, Failure> {
        match self {
            Self::Here(server) => server.answer(question).await,
            Self::There { host, socket, clocks } => {
                let remote = Remote::of(host, socket.as_deref(), *clocks);
                // A client of the protocol may have no terminal.
                remote.without_questions().answer(question).await
            }
        }
    }
}

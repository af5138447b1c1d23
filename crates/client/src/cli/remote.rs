//! A server on another machine.

use std::{path::Path, time::Duration};

use kakehi_channel::Channel;
use kakehi_client::{Clocks, Connection, Limits};
use tokio::time::{Instant, timeout};

use super::{
    args::Options,
    ask::ask,
    exit,
    failure::Failure,
    question::Question,
    reply::{Answer, Verbatim},
    ssh::{SshHost, SshStream, connect},
    view::View,
};

/// How a server is reached through ssh. Each request takes an ssh of its own, and so does the one
/// that cancels it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remote<'o> {
    host: &'o SshHost,
    /// The path there, if it was said here. `KAKEHI_SOCKET` is about this machine.
    socket: Option<&'o Path>,
    clocks: Clocks,
}

type Link = Connection<Question, Answer, Verbatim, SshStream>;

impl<'o> Remote<'o> {
    pub(crate) fn new(host: &'o SshHost, options: &'o Options) -> Self {
        Self { host, socket: options.socket.as_deref(), clocks: options.clocks() }
    }

    /// Asks the server there, and shows the answers. Gives the exit status.
    pub(crate) async fn ask(self, question: Question, view: &mut View) -> u8 {
        let mut link = match self.connect().await {
            Ok(link) => link,
            Err(failure) => return view.output.end(&failure),
        };
        let cancel = Question::cancel(question.id());
        let cancel = async {
            match self.connect().await {
                Ok(mut link) => link.call(cancel).await.is_ok(),
                Err(_) => false,
            }
        };
        ask(link.call(question), None, cancel, view).await
    }

    /// Both clocks run while ssh connects and perhaps asks for a password.
    async fn connect(self) -> Result<Link, Failure> {
        let start = Instant::now();
        let limit = |clock: Option<Duration>| clock.filter(|clock| !clock.is_zero());
        let Clocks { timeout: each, deadline } = self.clocks;
        let (each, deadline) = (limit(each), limit(deadline));
        let connecting = connect(self.host, self.socket);
        let stream = match each.into_iter().chain(deadline).min() {
            None => connecting.await,
            Some(time) => timeout(time, connecting).await.map_err(|_| self.late(time))?,
        }?;
        let left = deadline.map(|deadline| deadline.saturating_sub(start.elapsed()));
        let channel = Channel::with_limits(stream, Limits::CLIENT, Limits::DEFAULT);
        // Zero would be without limit.
        let left = left.map(|left| left.max(Duration::from_millis(1)));
        Ok(Connection::new(channel).timeout(each).deadline(left))
    }

    fn late(self, time: Duration) -> Failure {
        let is_deadline = self.clocks.deadline == Some(time);
        let word = if is_deadline { "deadline" } else { "timeout" };
        let what = format!("cannot connect to {} in time", self.host);
        let why = format!("ssh has not connected within {time:?}; nothing was sent");
        let remedy = format!("see how long ssh takes, or wait longer by --{word} (0: no limit)");
        Failure::unsent(exit::TIMEOUT, word, [&what, &why, &remedy])
    }
}

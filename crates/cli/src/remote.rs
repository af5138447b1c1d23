//! A server on another machine.

use std::{path::Path, time::Duration};

use kakehi_channel::Channel;
use kakehi_client::{BufferLimits, Connection, Timeouts};
use tokio::time::{Instant, timeout};

use super::{
    args::Options,
    ask::ask,
    confirm::confirm,
    exit,
    failure::Failure,
    question::Question,
    reply::{Answer, Verbatim},
    ssh::{SshHost, SshStream, connect},
    stop::Again,
    view::View,
};

/// A server that is reached by ssh. Each request has an ssh of its own, and so has the request that
/// cancels it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remote<'o> {
    host: &'o SshHost,
    /// The path on that machine, from `--socket`. `KAKEHI_SOCKET` is a path on this machine.
    socket: Option<&'o Path>,
    clocks: Timeouts,
    /// Whether ssh may ask the user, for example for a password.
    may_ask: bool,
}

pub(crate) type Link = Connection<Question, Answer, Verbatim, SshStream>;

impl<'o> Remote<'o> {
    pub(crate) fn new(host: &'o SshHost, options: &'o Options) -> Self {
        Self::of(host, options.socket.as_deref(), options.clocks())
    }

    pub(crate) fn of(host: &'o SshHost, socket: Option<&'o Path>, clocks: Timeouts) -> Self {
        Self { host, socket, clocks, may_ask: true }
    }

    /// The same server; ssh fails instead of asking the user.
    pub(crate) fn without_questions(self) -> Self {
        Self { may_ask: false, ..self }
    }

    /// Sends the request and shows the responses. Returns the exit status.
    pub(crate) async fn ask(self, mut question: Question, view: &mut View) -> u8 {
        let mut link = match self.connect().await {
            Ok(link) => link,
            Err(failure) => return view.output.end(&failure),
        };
        loop {
            match self.ask_once(&mut link, question.clone(), view).await {
                Ok(code) => return code,
                Err(Again::Otherwise) => question = question.other(),
                Err(Again::Unconfirmed(unconfirmed)) => match confirm(unconfirmed, view).await {
                    Ok(()) => question = question.confirmed(),
                    Err(code) => return code,
                },
            }
        }
    }

    async fn ask_once(
        self,
        link: &mut Link,
        question: Question,
        view: &mut View,
    ) -> Result<u8, Again> {
        let cancel = Question::cancel(question.id());
        view.has_other = question.has_other();
        let cancel = async {
            match self.connect().await {
                Ok(mut link) => {
                    let other = cancel.clone().other();
                    link.message(cancel).await.is_ok() || link.message(other).await.is_ok()
                }
                Err(_) => false,
            }
        };
        ask(link.message(question), None, cancel, view).await
    }

    /// Sends the request and returns the final response.
    pub(crate) async fn answer(self, question: Question) -> Result<Answer, Failure> {
        Ok(self.connect().await?.message(question).await?)
    }

    /// The timeout and the deadline count while ssh connects, also while it asks for a password.
    pub(crate) async fn connect(self) -> Result<Link, Failure> {
        let start = Instant::now();
        let limit = |clock: Option<Duration>| clock.filter(|clock| !clock.is_zero());
        let Timeouts { timeout: each, deadline } = self.clocks;
        let (each, deadline) = (limit(each), limit(deadline));
        let connecting = connect(self.host, self.socket, self.may_ask);
        let stream = match each.into_iter().chain(deadline).min() {
            None => connecting.await,
            Some(time) => timeout(time, connecting).await.map_err(|_| self.late(time))?,
        }?;
        let left = deadline.map(|deadline| deadline.saturating_sub(start.elapsed()));
        let channel = Channel::with_limits(stream, BufferLimits::CLIENT, BufferLimits::default());
        // Zero would mean no limit.
        let left = left.map(|left| left.max(Duration::from_millis(1)));
        Ok(Connection::new(channel).with_timeouts(Timeouts { timeout: each, deadline: left }))
    }

    fn late(self, time: Duration) -> Failure {
        let is_deadline = self.clocks.deadline == Some(time);
        let word = if is_deadline { "deadline" } else { "timeout" };
        let what = format!("cannot connect to {} in time", self.host);
        let why = format!("ssh did not connect within {time:?}; the request was not sent");
        let remedy = format!("check ssh by hand, or wait longer: --{word} (0: no limit)");
        Failure::unsent(exit::TIMEOUT, word, [&what, &why, &remedy])
    }
}

//! One request, from its sending to the exit status, with signals and closed streams.

use std::{cell::Cell, fs, future::Future, pin::pin, time::Duration};

use futures::{FutureExt, future::pending};
use kakehi_client::{Refusal, RequestBuilder};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep},
};

use super::{
    confirm::Unconfirmed,
    doctor::explain,
    exit,
    failure::Failure,
    output::Notes,
    question::Question,
    reach::Place,
    reply::{Answer, Verbatim},
    signals::Signals,
    stop::{Again, Stop},
    view::View,
};

/// How long a cancelled request may take to its final response.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same for a request that the server cannot cancel: it may have been about to end.
const GRACE: Duration = Duration::from_millis(200);
/// How long the last error may take to be written, after a signal or the deadline.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How often a server that shuts down is looked at.
const LOOK: Duration = Duration::from_millis(20);

type Request<'c, S> = RequestBuilder<'c, Question, Answer, Verbatim, S>;

/// Sends the request and shows its responses. If the server cannot be reached, `place` is examined
/// to find out why. `cancel` asks the server to cancel the request, and returns whether it will.
/// Returns the exit status.
///
/// # Errors
/// Another request must be sent.
pub(crate) async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    request: Request<'_, S>,
    place: Option<&Place>,
    cancel: impl Future<Output = bool>,
    view: &mut View,
) -> Result<u8, Again> {
    let can_leave = view.can_leave();
    let mut signals = match Signals::new(can_leave) {
        Ok(signals) => signals,
        Err(error) => return Ok(last_words(view, Failure::system(&error)).await),
    };
    let (notes, is_sent) = (view.output.notes(), Cell::new(false));
    if notes.has_live() {
        signals = match signals.with_live() {
            Ok(signals) => signals,
            Err(error) => return Ok(last_words(view, Failure::system(&error)).await),
        };
    }
    let left = {
        let mut work = pin!(work(request, place, &is_sent, view));
        let signal = tokio::select! {
            code = &mut work => return code,
            signal = signals.next_with(|| notes.hide()) => signal,
        };
        if can_leave && signal != exit::LEFT {
            Err((signal, "the connection was closed; the run goes on"))
        } else if signal == exit::INTERRUPTED && is_sent.get() {
            wind_down(work, cancel, &mut signals, &notes).await
        } else {
            Err((signal, "the connection was closed, so that the server can cancel the request"))
        }
    };
    Ok(match left {
        Ok(()) => exit::INTERRUPTED,
        Err((exit::LEFT, _)) => {
            let code = view.leave();
            view.output.flush_within(LAST_WORDS).await;
            code
        }
        Err((code, why)) => last_words(view, Failure::interrupted(code, why)).await,
    })
}

/// Runs after the first Ctrl-C. An error means that the final response did not come.
async fn wind_down(
    work: impl Future<Output = Result<u8, Again>>,
    cancel: impl Future<Output = bool>,
    signals: &mut Signals,
    notes: &Notes,
) -> Result<(), (u8, &'static str)> {
    notes.say("interrupted: cancelling the request; press Ctrl-C again to leave at once");
    let refused = async {
        if cancel.await {
            pending::<()>().await;
        } else {
            sleep(GRACE).await;
        }
    };
    tokio::select! {
        _ = work => Ok(()),
        signal = signals.next_with(|| notes.hide()) => Err((signal, "the connection was closed at once")),
        () = refused => {
            let why = "the server cannot cancel the request, so the connection was closed";
            Err((exit::INTERRUPTED, why))
        }
        () = sleep(PATIENCE) => {
            Err((exit::INTERRUPTED, "the request was cancelled and did not end within 2 s"))
        }
    }
}

/// The request without the handling of signals.
async fn work<S: AsyncRead + AsyncWrite + Unpin>(
    request: Request<'_, S>,
    place: Option<&Place>,
    is_sent: &Cell<bool>,
    view: &mut View,
) -> Result<u8, Again> {
    let failure = match follow(request, is_sent, view).await {
        Ok(code) => return Ok(code),
        Err(Stop::Closed) => {
            view.output.finish();
            return Ok(exit::STDOUT_CLOSED);
        }
        Err(Stop::Again(again)) => return Err(again),
        Err(Stop::Failed(failure)) => failure,
        Err(Stop::Unreached(failure)) => unreached(failure, place).await,
    };
    view.output.finish();
    let code = failure.code;
    view.failure(failure);
    if code == exit::TIMEOUT {
        view.output.flush_within(LAST_WORDS).await;
    } else {
        // A slow reader must not lose the error: only a signal or the deadline ends this.
        let _ = view.output.flush().await;
    }
    Ok(code)
}

/// An examination of the path says more than the error, unless it finds no problem. All places are
/// named, in the order in which they are tried.
pub(crate) async fn unreached(failure: Failure, place: Option<&Place>) -> Failure {
    let Some(Place { path, absent, later }) = place else { return failure };
    let Some(mut found) = explain(path).await else { return failure };
    if !absent.is_empty() {
        found.why = format!("{}: {}", path.display(), found.why);
    }
    let before = absent.iter().map(|path| format!("{} does not exist", path.display()));
    let after = later.iter().map(|path| {
        // A server of another user is not asked instead of this user's own: it has other jobs.
        let state =
            if path.try_exists().unwrap_or(true) { "was not tried" } else { "does not exist" };
        format!("{} {state}", path.display())
    });
    let all: Vec<_> = before.chain([found.why]).chain(after).collect();
    found.why = all.join("; ");
    Failure { what: format!("{}: {}", failure.what, found.what), ..found }
}

async fn follow<S: AsyncRead + AsyncWrite + Unpin>(
    request: Request<'_, S>,
    is_sent: &Cell<bool>,
    view: &mut View,
) -> Result<u8, Stop> {
    let mut responses = view.output.wait(request.send()).await??;
    is_sent.set(true);
    loop {
        // Responses that have arrived are shown before anything is written.
        let next = match responses.next().now_or_never() {
            Some(next) => next,
            None => view.output.wait(responses.next()).await?,
        };
        let answer = next.ok_or_else(Failure::unanswered)??;
        if answer.response.status.is_final() {
            if let Some(about) = answer.confirmation().filter(|_| view.can_confirm()) {
                return Err(Stop::Again(Again::Unconfirmed(Unconfirmed { about, answer })));
            }
            if view.has_other && is_unknown(&answer) {
                return Err(Stop::Again(Again::Otherwise));
            }
            let code = view.conclude(answer);
            if let Some(server) = view.stopping() {
                let ended = until_ended(server, view.output.deadline());
                view.output.wait(ended).await??;
                view.stopped();
            }
            if code == exit::TIMEOUT {
                view.output.flush_within(LAST_WORDS).await;
            } else {
                view.output.flush().await?;
            }
            return Ok(code);
        }
        view.progress(answer);
        if view.output.is_full() {
            view.output.flush().await?;
        }
    }
}

/// Whether the server does not know the command, or a field of it.
pub(crate) fn is_unknown(answer: &Answer) -> bool {
    matches!(answer.response.refused, Some(Refusal::Malformed | Refusal::Unsupported))
}

/// Waits for the end of a server on this machine, up to the deadline.
async fn until_ended(pid: u32, deadline: Option<Instant>) -> Result<(), Failure> {
    // An id of another PID namespace may be that of an unrelated process here.
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).filter(|_| name == "kakehid\n");
    let Some(process) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
        return Ok(());
    };
    // A process id that is readable belongs to a process that has ended.
    let runs = || {
        let mut ended = [PollFd::new(&process, PollFlags::IN)];
        poll(&mut ended, Some(&Timespec::default())) == Ok(0)
    };
    while runs() {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Failure::not_stopped());
        }
        sleep(LOOK).await;
    }
    Ok(())
}

async fn last_words(view: &mut View, failure: Failure) -> u8 {
    let code = failure.code;
    view.output.finish();
    view.failure(failure);
    view.output.flush_within(LAST_WORDS).await;
    code
}

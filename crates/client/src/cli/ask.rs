//! One request, from the first byte to the last word, whatever happens in between.

use std::{cell::Cell, future::Future, path::Path, pin::pin, time::Duration};

use futures::{FutureExt, future::pending};
use kakehi_client::RequestBuilder;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::sleep,
};

use super::{
    doctor::explain,
    exit,
    failure::Failure,
    output::Notes,
    question::Question,
    reply::{Answer, Verbatim},
    signals::Signals,
    stop::Stop,
    view::View,
};

/// How long a request that is cancelled may take to its final answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same, if nobody could cancel it: it may have been about to end.
const GRACE: Duration = Duration::from_millis(200);
/// How long the last words may take to be written, if somebody wants to leave.
const LAST_WORDS: Duration = Duration::from_millis(200);

type Request<'c, S> = RequestBuilder<'c, Question, Answer, Verbatim, S>;

/// Sends the request and shows its answers. If the server cannot be reached, `path` is looked at
/// to find out why; `cancel` asks the server to end the request, and tells whether it will. Gives
/// the exit status.
pub(crate) async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    request: Request<'_, S>,
    path: Option<&Path>,
    cancel: impl Future<Output = bool>,
    view: &mut View,
) -> u8 {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return last_words(view, &Failure::system(&error)).await,
    };
    let (notes, is_sent) = (view.output.notes(), Cell::new(false));
    let left = {
        let mut work = pin!(work(request, path, &is_sent, view));
        let signal = tokio::select! {
            code = &mut work => return code,
            signal = signals.next() => signal,
        };
        if signal == exit::INTERRUPTED && is_sent.get() {
            wind_down(work, cancel, &mut signals, &notes).await
        } else {
            Err((signal, "its connection was closed, so that the server can stop"))
        }
    };
    match left {
        Ok(()) => exit::INTERRUPTED,
        Err((code, why)) => last_words(view, &Failure::interrupted(code, why)).await,
    }
}

/// After the first Ctrl-C. An error if the final answer did not come.
async fn wind_down(
    work: impl Future<Output = u8>,
    cancel: impl Future<Output = bool>,
    signals: &mut Signals,
    notes: &Notes,
) -> Result<(), (u8, &'static str)> {
    notes.say("interrupted: the request is being cancelled; once more to leave at once");
    let refused = async {
        if cancel.await {
            pending::<()>().await;
        } else {
            sleep(GRACE).await;
        }
    };
    tokio::select! {
        _ = work => Ok(()),
        signal = signals.next() => Err((signal, "its connection was closed at once")),
        () = refused => {
            Err((exit::INTERRUPTED, "the server cannot cancel it, so its connection was closed"))
        }
        () = sleep(PATIENCE) => {
            Err((exit::INTERRUPTED, "it was cancelled, and has not ended within 2 s"))
        }
    }
}

/// Everything but being interrupted.
async fn work<S: AsyncRead + AsyncWrite + Unpin>(
    request: Request<'_, S>,
    path: Option<&Path>,
    is_sent: &Cell<bool>,
    view: &mut View,
) -> u8 {
    let failure = match follow(request, is_sent, view).await {
        Ok(code) => return code,
        Err(Stop::Closed) => {
            view.output.finish();
            return exit::STDOUT_CLOSED;
        }
        Err(Stop::Failed(failure)) => failure,
        Err(Stop::Unreached(failure)) => unreached(failure, path).await,
    };
    view.output.finish();
    view.output.failure(&failure);
    // It must not get lost because it is read slowly: no clock here, but there are the signals.
    let _ = view.output.flush().await;
    failure.code
}

/// A look at the path says more than the error does, unless all is well by now.
async fn unreached(failure: Failure, path: Option<&Path>) -> Failure {
    let Some(path) = path else { return failure };
    let Some(found) = explain(path).await else { return failure };
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
        // What is there already is shown before anything is written.
        let next = match responses.next().now_or_never() {
            Some(next) => next,
            None => view.output.wait(responses.next()).await?,
        };
        let answer = next.ok_or_else(Failure::unanswered)??;
        if answer.response.status.is_final() {
            let code = view.conclude(&answer);
            view.output.flush().await?;
            return Ok(code);
        }
        view.progress(&answer);
        if view.output.is_full() {
            view.output.flush().await?;
        }
    }
}

async fn last_words(view: &mut View, failure: &Failure) -> u8 {
    view.output.finish();
    view.output.failure(failure);
    view.output.flush_within(LAST_WORDS).await;
    failure.code
}

//! One request to many machines over ssh, and a row for each.
//!
//! At most `--parallel` hosts are asked at once. Ctrl-C cancels the request on each host.

mod lines;
mod report;

use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt, stream};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

use self::{
    lines::Lines,
    report::{Ended, Report, summary},
};
use super::{
    args::Options,
    ask::is_unknown,
    cancel, exit,
    failure::Failure,
    output::{Output, Unwritable},
    question::Question,
    remote::Remote,
    reply::Answer,
    signals::Signals,
    ssh::SshHost,
    view::{Form, Format},
};

/// How long cancelled requests may take to their final responses.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many progress responses wait to be shown. Then the hosts wait.
const WAITING: usize = 64;

/// Sends the request to each host, and shows the outcomes. Returns the exit status: that of the worst
/// host.
pub(crate) async fn run(
    form: Form,
    question: Question,
    hosts: Vec<SshHost>,
    options: &Options,
    mut output: Output,
) -> u8 {
    if let Err(failure) = check(form, options) {
        return output.end(&failure);
    }
    let signals = match Signals::new(false) {
        Ok(signals) => signals,
        Err(error) => return output.end(&Failure::system(&error)),
    };
    let mut report = Report::new(&hosts, form, options, output);
    match ask_all((form, &question), &hosts, options, signals, &mut report).await {
        Ok(code) => report.end(code),
        Err(Unwritable::Closed) => report.close(exit::STDOUT_CLOSED),
        Err(Unwritable::Late) => report.fail(&Failure::unread()),
        Err(Unwritable::Failed(error)) => report.fail(&Failure::output(&error)),
    }
}

fn check(form: Form, options: &Options) -> Result<(), Failure> {
    let command = match form {
        Form::Attach => Some("attach"),
        Form::Logs(_) => Some("logs"),
        Form::Wait => Some("wait"),
        Form::Demo => Some("demo"),
        _ => None,
    };
    if let Some(command) = command {
        let what = format!("`{command}` does not support several hosts");
        let why = "a run belongs to one server";
        return Err(Failure::usage(&what, why, "name one of them by --host"));
    }
    if !matches!(options.output, Format::Table | Format::Wide) {
        let why = "the result is a table of hosts";
        return Err(Failure::usage("-o does not apply to several hosts", why, "pass --json"));
    }
    Ok(())
}

/// A progress response, and the index of its host.
type Event = (usize, Answer);

/// Returns the exit status of a signal, if one came.
async fn ask_all(
    (form, question): (Form, &Question),
    hosts: &[SshHost],
    options: &Options,
    mut signals: Signals,
    report: &mut Report,
) -> Result<Option<u8>, Unwritable> {
    let (events, mut received) = mpsc::channel::<Event>(WAITING);
    let (stop, stopped) = watch::channel(false);
    let asked = hosts.iter().enumerate().map(|(index, host)| {
        let (events, stopped) = (events.clone(), stopped.clone());
        let remote = Remote::new(host, options).without_questions();
        ask_one(index, remote, (form, question.clone()), events, stopped)
    });
    let mut ended = stream::iter(asked).buffer_unordered(options.parallel.get());
    let (mut signal, mut late) = (None, Box::pin(futures::future::pending().boxed_local()));
    loop {
        let next = async {
            tokio::select! {
                biased;
                code = signals.next() => Next::Signal(code),
                () = &mut late => Next::Late,
                Some((index, answer)) = received.recv() => Next::Progress(index, answer),
                end = ended.next() => Next::Ended(end),
            }
        };
        match report.wait(next).await? {
            // The first Ctrl-C cancels; a second one does not wait.
            Next::Signal(code) if code == exit::INTERRUPTED && signal.is_none() => {
                signal = Some(code);
                let _ = stop.send(true);
                *late = sleep(PATIENCE).boxed_local();
                report.note(
                    "interrupted: cancelling on all hosts; press Ctrl-C again to leave at once",
                );
            }
            Next::Signal(code) => return Ok(Some(code)),
            Next::Late | Next::Ended(None) => return Ok(signal),
            Next::Progress(index, answer) => report.progress(index, answer),
            Next::Ended(Some((index, end))) => report.ended(index, end),
        }
    }
}

enum Next {
    Signal(u8),
    /// The cancelled requests did not end in time.
    Late,
    Progress(usize, Answer),
    Ended(Option<(usize, Ended)>),
}

async fn ask_one(
    index: usize,
    remote: Remote<'_>,
    (form, question): (Form, Question),
    events: mpsc::Sender<Event>,
    mut stopped: watch::Receiver<bool>,
) -> (usize, Ended) {
    if *stopped.borrow() {
        return (index, Ended::skipped());
    }
    let start = Instant::now();
    let cancel = Question::cancel(question.id());
    let asking = async {
        let has_other = question.has_other();
        let answer = final_answer(index, remote, question.clone(), &events).await?;
        if !has_other || !is_unknown(&answer) {
            return Ok(answer);
        }
        let answer = final_answer(index, remote, question.other(), &events).await?;
        if form == Form::CancelAll && answer.lists_running() {
            return cancel::each(&answer, async |question| remote.answer(question).await).await;
        }
        Ok(answer)
    };
    let cancelling = async {
        // The sender lives as long as this future.
        let _ = stopped.wait_for(|is_stopped| *is_stopped).await;
        let other = cancel.clone().other();
        if remote.answer(cancel).await.is_err() {
            let _ = remote.answer(other).await;
        }
        futures::future::pending::<()>().await;
    };
    let result = tokio::select! {
        result = asking => result,
        () = cancelling => Err(Failure::unanswered()),
    };
    (index, Ended::new(result, start.elapsed()))
}

/// The final response of one host. The progress before it is sent to `events`.
async fn final_answer(
    index: usize,
    remote: Remote<'_>,
    question: Question,
    events: &mpsc::Sender<Event>,
) -> Result<Answer, Failure> {
    let mut link = remote.connect().await?;
    let mut responses = link.message(question).send().await?;
    while let Some(next) = responses.next().await {
        let answer = next.map_err(Failure::from)?;
        if answer.response.status.is_final() {
            return Ok(answer);
        }
        // The receiver lives as long as this future.
        let _ = events.send((index, answer)).await;
    }
    Err(Failure::unanswered())
}

pub(crate) use summary::ORDER;

//! Whether the server answers, and what it says.

use std::{path::Path, time::Duration};

use kakehi_channel::{Channel, Limits, Request, VERSION};
#[cfg(feature = "cli")]
use kakehi_channel::{Decode, Json};
use rustix::process::geteuid;
use serde_json::Value;
use tokio::{
    net::UnixStream,
    time::{Instant, timeout},
};

use super::{
    Check, Finding, Problem,
    listener::Listener,
    names::{self, sudo_user},
    process, show,
    show::excerpt,
};
use crate::unique_id;

/// What came of a request.
pub(super) enum Answer {
    /// The first response, whatever it is, and how long it took.
    Said(Value, Duration),
    Nothing,
    Ended,
    /// Something came that is not JSON and a NUL byte, and what is wrong with it.
    Noise(String),
}

/// Asks for the status, and waits for the first response: progress is an answer too.
pub(super) async fn ask(stream: UnixStream, patience: Duration) -> Answer {
    let mut request = Request::with_command(format!("doctor-{}", unique_id()), "status");
    let limit = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX).max(1);
    (request.timeout_ms, request.deadline_ms) = (Some(limit), Some(limit));
    let mut channel =
        Channel::<Request<&str>, Value>::with_limits(stream, Limits::CLIENT, Limits::DEFAULT);
    let start = Instant::now();
    let exchange = async {
        // A server that refused at once has closed: what it said is there all the same.
        let _ = channel.send(request).await;
        channel.next().await
    };
    match timeout(patience, exchange).await {
        Err(_) => Answer::Nothing,
        Ok(None) => Answer::Ended,
        Ok(Some(Err(error))) if error.is_disconnected() && !error.is_truncated() => Answer::Ended,
        Ok(Some(Err(error))) => Answer::Noise(error.to_string()),
        Ok(Some(Ok(value))) => Answer::Said(value, start.elapsed()),
    }
}

#[cfg(feature = "cli")]
impl Answer {
    /// Of a frame with this payload, that was there at once.
    pub(super) fn of(payload: &[u8]) -> Self {
        match Json::default().decode(payload) {
            Ok(value) => Self::Said(value, Duration::ZERO),
            Err(error) => Self::Noise(error.to_string()),
        }
    }
}

/// `patience` is what was waited in all.
pub(super) fn judge(
    path: &Path,
    listener: &Listener,
    answer: Answer,
    patience: Duration,
    findings: &mut Vec<Finding>,
) -> Result<(), Finding> {
    let (said, after) = match answer {
        Answer::Said(said, after) => (said, after),
        Answer::Nothing => return Err(silent(listener, patience)),
        Answer::Ended => {
            let what = "the server closed the connection without an answer";
            let why = "it broke down on the request, or speaks another wire";
            let remedy =
                format!("see its log; is {} the right socket? {listener} has it", show(path));
            return Err(Finding::problem(Check::Answer, Problem::Protocol, what, why, remedy));
        }
        Answer::Noise(why) => return Err(foreign(path, listener, &why)),
    };
    let Some(version) = said.get("version").and_then(Value::as_u64) else {
        return Err(foreign(path, listener, "what it sent has no version"));
    };
    if version != u64::from(VERSION) {
        let what =
            format!("the server speaks version {version} of the wire, this client {VERSION}");
        let why = "one of the two is older than the other";
        let remedy = "update the older one";
        return Err(Finding::problem(Check::Version, Problem::Protocol, what, why, remedy));
    }
    if !matches!(said.get("status").and_then(Value::as_str), Some("PROCESSING" | "OK" | "ERROR")) {
        return Err(foreign(path, listener, "what it sent has no status that is known"));
    }
    findings.push(Finding::well(Check::Answer, format!("the server answers, after {after:.1?}")));
    findings.push(admission(listener, &said)?);
    let itself = said.get("content").and_then(|content| content.get("version")?.as_str());
    let itself =
        itself.map_or_else(String::new, |version| format!(", and is {}", excerpt(version)));
    let what = format!("the server speaks version {version} of the wire{itself}");
    findings.push(Finding::well(Check::Version, what));
    Ok(())
}

fn admission(listener: &Listener, said: &Value) -> Result<Finding, Finding> {
    let me = names::user(geteuid().as_raw());
    let said_why = match said.get("message").and_then(Value::as_str).unwrap_or_default() {
        "" => "it does not say why".to_owned(),
        message => excerpt(message),
    };
    let (problem, what, why, remedy) = match said.get("refused").and_then(Value::as_str) {
        // A server that does not know the command has looked at it.
        None | Some("malformed") => {
            let what = format!("the server takes requests of {me}");
            return Ok(Finding::well(Check::Admission, what));
        }
        Some("denied") => {
            let run = format!("run this as its own user (sudo -u {})", sudo_user(listener.uid));
            let remedy = format!("have {me} put on the server's list, or {run}");
            (Problem::Permission, format!("the server does not serve {me}"), said_why, remedy)
        }
        Some("shutting_down") => {
            let why = "it takes nothing new, and waits for what still runs";
            let remedy = "try again once it has started again";
            (Problem::Busy, "the server is shutting down".into(), why.into(), remedy.into())
        }
        Some("busy") => {
            let remedy =
                "try again later; close connections that nobody needs, or raise its limits";
            (Problem::Busy, "the server has too much to do".into(), said_why, remedy.into())
        }
        Some(other) => {
            let what = format!("the server refuses requests: {}", excerpt(other));
            (Problem::Protocol, what, said_why, "see the server's log".into())
        }
    };
    Err(Finding::problem(Check::Admission, problem, what, why, remedy))
}

fn foreign(path: &Path, listener: &Listener, why: &str) -> Finding {
    let what = "what listens there does not speak Kakehi's wire";
    let remedy = format!("is {} the right socket? {listener} has it", show(path));
    Finding::problem(Check::Answer, Problem::Protocol, what, excerpt(why), remedy)
}

fn silent(listener: &Listener, patience: Duration) -> Finding {
    let what = format!("the server does not answer within {patience:?}");
    let state = listener.pid.and_then(|pid| Some((pid, process::state(pid)?)));
    let look = "see its log; if it does not come back, restart it";
    let (why, remedy) = match state {
        Some((pid, 'T')) => {
            let is_ours = geteuid().is_root() || geteuid().as_raw() == listener.uid;
            let sudo = if is_ours { "" } else { "sudo " };
            (
                format!("{listener} is stopped by a signal"),
                format!("let it go on: {sudo}kill -CONT {pid}"),
            )
        }
        Some((pid, 't')) => {
            let remedy = format!("see which one: grep TracerPid /proc/{pid}/status");
            (format!("{listener} is held by a debugger"), remedy)
        }
        Some((_, 'D')) => {
            let why =
                format!("{listener} waits in the kernel, for a disk or a network file system");
            (why, "see what the kernel says: journalctl -k".to_owned())
        }
        Some((_, 'Z' | 'X')) => {
            let why = format!("{listener} has ended, and another process keeps its socket open");
            (why, "end that process, and start the server".to_owned())
        }
        Some((_, 'R')) => (format!("{listener} is busy with something else"), look.to_owned()),
        Some(_) => (format!("{listener} waits for something else, or hangs"), look.to_owned()),
        None => (format!("what {listener} does cannot be seen"), look.to_owned()),
    };
    Finding::problem(Check::Answer, Problem::NoAnswer, what, why, remedy)
}

//! Sends one request to the server and judges the response.

use std::{path::Path, time::Duration};

use kakehi_channel::{BufferLimits, Channel, Decode, ErrorKind, Json, Request, VERSION};
use kakehi_time::duration;
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

/// The result of the request.
pub(super) enum Answer {
    /// The first response, and the time until it arrived.
    Said(Value, Duration),
    Nothing,
    Ended,
    /// The server sent something other than JSON and a NUL byte; the text says what is wrong.
    Noise(String),
}

/// Requests the status and waits for the first response, which may be progress.
pub(super) async fn ask(stream: UnixStream, patience: Duration) -> Answer {
    let mut request = Request::with_command(format!("doctor-{}", std::process::id()), "status");
    let limit = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX).max(1);
    (request.timeout_ms, request.deadline_ms) = (Some(limit), Some(limit));
    let mut channel = Channel::<Request<&str>, Value>::with_limits(
        stream,
        BufferLimits::CLIENT,
        BufferLimits::default(),
    );
    let start = Instant::now();
    let exchange = async {
        // A server that refused the connection has closed it; its response can still be read.
        let _ = channel.send(request).await;
        channel.next().await
    };
    match timeout(patience, exchange).await {
        Err(_) => Answer::Nothing,
        Ok(None) => Answer::Ended,
        Ok(Some(Err(error)))
            // An error of the system: without one, the connection ended inside a frame.
            if error.kind() == ErrorKind::Disconnected && error.io_kind().is_some() =>
        {
            Answer::Ended
        }
        Ok(Some(Err(error))) => Answer::Noise(error.to_string()),
        Ok(Some(Ok(value))) => Answer::Said(value, start.elapsed()),
    }
}

impl Answer {
    /// Decodes a payload that arrived without delay.
    pub(super) fn of(payload: &[u8]) -> Self {
        match Json::default().decode(payload) {
            Ok(value) => Self::Said(value, Duration::ZERO),
            Err(error) => Self::Noise(error.to_string()),
        }
    }
}

/// Judges the answer. `patience` is the total time that was waited.
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
        Answer::Ended => return Err(ended(path, listener)),
        Answer::Noise(why) => return Err(foreign(path, listener, &why)),
    };
    let Some(version) = said.get("version").and_then(Value::as_u64) else {
        return Err(foreign(path, listener, "its response has no version"));
    };
    if version != u64::from(VERSION) {
        let what =
            format!("the server uses protocol version {version}, this client version {VERSION}");
        let why = "one of the two is outdated";
        let remedy = "update the older one";
        return Err(Finding::problem(Check::Version, Problem::Protocol, what, why, remedy));
    }
    if !matches!(said.get("status").and_then(Value::as_str), Some("PROCESSING" | "OK" | "ERROR")) {
        return Err(foreign(path, listener, "its response has no known status"));
    }
    findings.push(Finding::well(Check::Answer, format!("the server answered after {after:.1?}")));
    findings.push(admission(listener, &said)?);
    let itself = said.get("content").and_then(|content| content.get("version")?.as_str());
    let itself =
        itself.map_or_else(String::new, |version| format!(" and is version {}", excerpt(version)));
    let what = format!("the server uses protocol version {version}{itself}");
    findings.push(Finding::well(Check::Version, what));
    Ok(())
}

fn admission(listener: &Listener, said: &Value) -> Result<Finding, Finding> {
    let me = names::user(geteuid().as_raw());
    let said_why = match said.get("message").and_then(Value::as_str).unwrap_or_default() {
        "" => "the server gives no reason".to_owned(),
        message => excerpt(message),
    };
    let (problem, what, why, remedy) = match said.get("refused").and_then(Value::as_str) {
        // A server that does not know the command has accepted the request.
        None | Some("malformed" | "unsupported") => {
            let what = format!("the server accepts requests from {me}");
            return Ok(Finding::well(Check::Admission, what));
        }
        Some("denied") => {
            let run =
                format!("run this as the server's user (sudo -u {})", sudo_user(listener.uid));
            let remedy = format!("add {me} to the users that the server admits, or {run}");
            (Problem::Permission, format!("the server does not serve {me}"), said_why, remedy)
        }
        Some("shutting_down") => {
            let why = "it waits for running requests and accepts no new ones";
            let remedy = "try again after it has restarted";
            (Problem::Busy, "the server is shutting down".into(), why.into(), remedy.into())
        }
        Some("busy") => {
            let remedy = "try again later, close unused connections, or raise the server's limits";
            (Problem::Busy, "the server is busy".into(), said_why, remedy.into())
        }
        Some(other) => {
            let what = format!("the server refuses requests: {}", excerpt(other));
            (Problem::Protocol, what, said_why, "read the server's log".into())
        }
    };
    Err(Finding::problem(Check::Admission, problem, what, why, remedy))
}

fn foreign(path: &Path, listener: &Listener, why: &str) -> Finding {
    let what = "the program that listens there does not use Kakehi's protocol";
    let remedy = format!("check that {} is the right socket: it belongs to {listener}", show(path));
    Finding::problem(Check::Answer, Problem::Protocol, what, excerpt(why), remedy)
}

/// The server closed the connection without an answer, possibly because it exited.
fn ended(path: &Path, listener: &Listener) -> Finding {
    if let Some(pid) = listener.pid.filter(|pid| process::has_exited(*pid)) {
        let what = format!("the server, pid {pid}, exited before it answered");
        let why = "it was stopped, killed, or failed";
        let remedy = "start the server, unless it is starting again; read its log".to_owned();
        return Finding::problem(Check::Answer, Problem::NotRunning, what, why, remedy);
    }
    let what = "the server closed the connection without an answer";
    let why = "it failed on the request, or it uses another protocol";
    let remedy = format!(
        "read its log; check that {} is the right socket: it belongs to {listener}",
        show(path)
    );
    Finding::problem(Check::Answer, Problem::Protocol, what, why, remedy)
}

fn silent(listener: &Listener, patience: Duration) -> Finding {
    let what = format!("the server does not answer within {}", duration(patience));
    let state = listener.pid.and_then(|pid| Some((pid, process::state(pid)?)));
    let look = "read its log; if it does not recover, restart it";
    let (why, remedy) = match state {
        Some((pid, 'T')) => {
            let is_ours = geteuid().is_root() || geteuid().as_raw() == listener.uid;
            let sudo = if is_ours { "" } else { "sudo " };
            (
                format!("{listener} is stopped by a signal"),
                format!("continue it: {sudo}kill -CONT {pid}"),
            )
        }
        Some((pid, 't')) => {
            let remedy = format!("show the debugger: grep TracerPid /proc/{pid}/status");
            (format!("a debugger holds {listener}"), remedy)
        }
        Some((_, 'D')) => {
            let why = format!("{listener} waits for a disk or a network file system");
            (why, "read the kernel's log: journalctl -k".to_owned())
        }
        Some((_, 'Z' | 'X')) => {
            let why = format!("{listener} has exited, and another process keeps its socket open");
            (why, "end that process, and start the server".to_owned())
        }
        Some((_, 'R')) => (format!("{listener} is busy"), look.to_owned()),
        Some(_) => (format!("{listener} is waiting for an event, or hangs"), look.to_owned()),
        None => (format!("the state of {listener} cannot be read"), look.to_owned()),
    };
    Finding::problem(Check::Answer, Problem::NoAnswer, what, why, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_exits_without_an_answer_does_not_run() {
        let judged = |pid| {
            let listener = Listener { uid: 0, pid: Some(pid) };
            let path = Path::new("/run/app.sock");
            judge(path, &listener, Answer::Ended, Duration::ZERO, &mut vec![]).unwrap_err().problem
        };
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let pid = child.id().try_into().unwrap();
        assert_eq!(judged(pid), Some(Problem::Protocol));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(judged(pid), Some(Problem::NotRunning));
    }
}

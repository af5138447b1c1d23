//! The exit statuses, for the code and for people.

use kakehi_client::{Refusal, Status};

use super::reply::{Answer, End};

pub(crate) const OK: u8 = 0;
pub(crate) const ERROR: u8 = 1;
pub(crate) const USAGE: u8 = 2;
pub(crate) const NOT_RUNNING: u8 = 69;
pub(crate) const SYSTEM: u8 = 71;
pub(crate) const OUTPUT: u8 = 74;
pub(crate) const BUSY: u8 = 75;
pub(crate) const PROTOCOL: u8 = 76;
pub(crate) const PERMISSION: u8 = 77;
pub(crate) const TIMEOUT: u8 = 124;
pub(crate) const NOT_STARTED: u8 = 125;
pub(crate) const NOT_EXECUTABLE: u8 = 126;
pub(crate) const NO_SUCH_JOB: u8 = 127;
pub(crate) const INTERRUPTED: u8 = 130;
pub(crate) const STDOUT_CLOSED: u8 = 141;
pub(crate) const TERMINATED: u8 = 143;

/// Each exit status, briefly for `--help` and in full for the manual.
pub(crate) const TABLE: [(u8, &str, &str); 16] = [
    (OK, "success", "The request succeeded."),
    (
        ERROR,
        "failed",
        "The request failed. `run`, `attach` and `wait` end with the job's own exit code, or 128 + its \
         signal.",
    ),
    (USAGE, "usage", "Wrong usage. The request was not sent."),
    (NOT_RUNNING, "no server", "No server is running, or ssh cannot connect."),
    (SYSTEM, "no resources", "The system refuses a resource, such as a thread."),
    (OUTPUT, "write error", "Standard output cannot be written."),
    (BUSY, "busy", "The server is busy or shutting down. Try again later."),
    (
        PROTOCOL,
        "protocol",
        "Protocol error, an unreadable answer, or a connection that ended without an answer. `wait`, \
         `attach`: the result of a run is unknown.",
    ),
    (
        PERMISSION,
        "denied",
        "Permission denied, or a user other than that of --server-uid runs the server.",
    ),
    (
        TIMEOUT,
        "timeout",
        "The timeout, the deadline, or the timeout of the job passed. The server may have carried out the request.",
    ),
    (
        NOT_STARTED,
        "not started",
        "`run`, `wait`: the job was refused or not started. Other commands: no such run.",
    ),
    (NOT_EXECUTABLE, "not runnable", "`run`: the job's program cannot be executed."),
    (NO_SUCH_JOB, "no such job", "There is no such job."),
    (INTERRUPTED, "Ctrl-C", "Ctrl-C interrupted the command, or Ctrl-\\ interrupted `wait`."),
    (STDOUT_CLOSED, "output closed", "The reader closed standard output."),
    (TERMINATED, "SIGTERM", "SIGTERM terminated the command."),
];

/// Not an exit status: the user left a run that goes on.
pub(crate) const LEFT: u8 = 131;

/// The end of `--help`, in lines of at most 80 columns.
pub(crate) fn help() -> String {
    const WIDTH: usize = 80;
    let mut lines = vec!["Exit status:".to_owned()];
    for (code, meaning, _) in TABLE {
        let entry = format!(" {code} {meaning},");
        match lines.last_mut() {
            Some(line) if line.len() + entry.len() <= WIDTH => line.push_str(&entry),
            _ => lines.push(format!(" {entry}")),
        }
    }
    lines.join("\n").trim_end_matches(',').to_owned()
}

/// The exit status of a `wait`: that of the worst run, as [`many::ORDER`](super::many::ORDER) says
/// of hosts.
pub(crate) fn of_wait(answer: &Answer) -> u8 {
    let ends = answer.ends();
    let failed = ends.iter().filter(|end| end.outcome != Some("ok"));
    let ranked = failed.map(|end| (rank(*end), of_run(*end, false)));
    // The first of several equal ones.
    let worst = ranked.reduce(|worst, other| if other.0 > worst.0 { other } else { worst });
    worst.map_or_else(|| of_answer(answer, false), |(_, code)| code)
}

fn rank(end: End<'_>) -> u8 {
    match (end.outcome, end.reason) {
        (Some("unknown"), _) => 2,
        (_, Some(_)) => 1,
        _ => 0,
    }
}

/// The exit status for a final response. For a `run`, it is the job's own, if the job ran.
pub(crate) fn of_answer(answer: &Answer, is_run: bool) -> u8 {
    if answer.response.status == Status::Ok {
        return OK;
    }
    match answer.response.refused {
        _ if answer.end().reason == Some("no_such_job") => NO_SUCH_JOB,
        refused if is_run => of_run(answer.end(), refused.is_some()),
        Some(Refusal::Busy | Refusal::ShuttingDown) => BUSY,
        Some(Refusal::Denied) => PERMISSION,
        Some(Refusal::Malformed | Refusal::TooLarge | Refusal::TooSlow | Refusal::Unsupported) => {
            PROTOCOL
        }
        None if answer.end().reason == Some("no_such_run") => NOT_STARTED,
        None | Some(_) => ERROR,
    }
}

fn of_run(End { code, ended_by, reason, outcome }: End<'_>, is_refused: bool) -> u8 {
    match (reason, ended_by) {
        _ if outcome == Some("unknown") => PROTOCOL,
        (Some("no_such_job"), _) => NO_SUCH_JOB,
        (Some("not_executable"), _) => NOT_EXECUTABLE,
        (Some(_), _) => NOT_STARTED,
        _ if is_refused => NOT_STARTED,
        // The job's timeout, or the deadline of the request.
        (_, Some("timeout" | "request")) => TIMEOUT,
        _ => code.filter(|code| *code != OK).unwrap_or(ERROR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(rest: &str, is_run: bool) -> u8 {
        let text = format!(r#"{{"id":"","version":0,"message":"",{rest}}}"#);
        of_answer(&Answer::of(&text), is_run)
    }

    #[test]
    fn each_final_response_has_its_code() {
        for (rest, expected, of_run) in [
            (r#""status":"OK""#, OK, OK),
            (r#""status":"OK","content":{"exit_code":3}"#, OK, OK),
            (r#""status":"ERROR""#, ERROR, ERROR),
            (r#""status":"ERROR","refused":"busy""#, BUSY, NOT_STARTED),
            (r#""status":"ERROR","refused":"shutting_down""#, BUSY, NOT_STARTED),
            (r#""status":"ERROR","refused":"denied""#, PERMISSION, NOT_STARTED),
            (r#""status":"ERROR","refused":"malformed""#, PROTOCOL, NOT_STARTED),
            (r#""status":"ERROR","refused":"too_large""#, PROTOCOL, NOT_STARTED),
            (r#""status":"ERROR","refused":"too_slow""#, PROTOCOL, NOT_STARTED),
            (r#""status":"ERROR","refused":"unsupported""#, PROTOCOL, NOT_STARTED),
            (r#""status":"ERROR","refused":"of a later version""#, ERROR, NOT_STARTED),
        ] {
            assert_eq!((code(rest, false), code(rest, true)), (expected, of_run), "{rest}");
        }
    }

    #[test]
    fn a_run_has_the_code_of_its_job_or_says_why_there_is_none() {
        for (content, expected) in [
            (r#"{"exit_code":3}"#, 3),
            (r#"{"exit_code":255,"signal":null}"#, 255),
            (r#"{"signal":9}"#, 137),
            (r#"{"signal":15,"ended_by":"cancel"}"#, 143),
            (r#"{"exit_code":0,"ended_by":"cancel"}"#, ERROR),
            (r#"{"exit_code":0,"ended_by":"timeout"}"#, TIMEOUT),
            (r#"{"signal":15,"ended_by":"request"}"#, TIMEOUT),
            (r#"{"reason":"no_such_job"}"#, NO_SUCH_JOB),
            (r#"{"reason":"not_executable"}"#, NOT_EXECUTABLE),
            (r#"{"reason":"cancelled"}"#, NOT_STARTED),
            (r#"{"reason":"of a later version","exit_code":3}"#, NOT_STARTED),
            (r#"{"exit_code":256}"#, ERROR),
            (r#"{"exit_code":-1}"#, ERROR),
            (r#"{"exit_code":"3"}"#, ERROR),
            (r#"{"signal":18446744073709551615}"#, ERROR),
            ("[3,3,3,3]", ERROR),
            ("[]", ERROR),
            ("null", ERROR),
        ] {
            let rest = format!(r#""status":"ERROR","content":{content}"#);
            assert_eq!(code(&rest, true), expected, "{content}");
            let other = if expected == NO_SUCH_JOB { expected } else { ERROR };
            assert_eq!(code(&rest, false), other, "{content}");
        }
    }

    #[test]
    fn a_wait_ends_as_the_worst_run() {
        const OK_RUN: &str = r#"{"outcome":"ok","exit_code":0}"#;
        const FAILED: &str = r#"{"outcome":"failed","exit_code":7}"#;
        const KILLED: &str = r#"{"outcome":"failed","signal":9}"#;
        const REFUSED: &str = r#"{"outcome":"failed","reason":"not_started"}"#;
        const UNKNOWN: &str = r#"{"outcome":"unknown"}"#;
        let cancelled = r#"{"outcome":"failed","exit_code":0,"ended_by":"cancel"}"#;
        for (runs, expected) in [
            (&[OK_RUN, FAILED, KILLED][..], 7),
            (&[KILLED, FAILED], 137),
            (&[FAILED, REFUSED, OK_RUN], NOT_STARTED),
            (&[REFUSED, UNKNOWN, FAILED], PROTOCOL),
            (&[cancelled], ERROR),
            (&[], ERROR),
        ] {
            let runs = runs.join(",");
            let text = r#"{"id":"","version":0,"message":"","status":"ERROR","content":["#;
            assert_eq!(of_wait(&Answer::of(&format!("{text}{runs}]}}"))), expected, "{runs}");
        }
        let ok =
            format!(r#"{{"id":"","version":0,"message":"","status":"OK","content":[{OK_RUN}]}}"#);
        assert_eq!(of_wait(&Answer::of(&ok)), OK);
    }
}

//! The exit statuses, once for the code and once for people.

use kakehi_client::{Refusal, Status};

use super::reply::Answer;

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
pub(crate) const INTERRUPTED: u8 = 130;
pub(crate) const STDOUT_CLOSED: u8 = 141;
pub(crate) const TERMINATED: u8 = 143;

/// For `--help`, and for the manual.
pub(crate) const TABLE: [(u8, &str); 13] = [
    (OK, "OK"),
    (ERROR, "the server answered ERROR; `run`: the job's own code, or 128 + its signal"),
    (USAGE, "wrong usage"),
    (NOT_RUNNING, "no server is running there"),
    (SYSTEM, "the system lets this process not even start"),
    (OUTPUT, "standard output cannot be written"),
    (BUSY, "the server is busy, or shutting down: later it may work"),
    (PROTOCOL, "protocol, version or size; or the connection ended before the answer"),
    (PERMISSION, "permission denied, or the server runs as another user than expected"),
    (TIMEOUT, "timeout or deadline: what became of the request is not known"),
    (INTERRUPTED, "interrupted"),
    (STDOUT_CLOSED, "standard output was closed by whoever read it"),
    (TERMINATED, "terminated by SIGTERM"),
];

/// The end of `--help`.
pub(crate) fn help() -> String {
    let lines = TABLE.map(|(code, meaning)| format!("  {code:>3}  {meaning}"));
    format!("Exit status:\n{}", lines.join("\n"))
}

/// What a final answer means; that to a `run` passes on how its job ended.
pub(crate) fn of_answer(answer: &Answer, is_run: bool) -> u8 {
    if answer.response.status == Status::Ok {
        return OK;
    }
    match answer.response.refused {
        None if is_run => answer.job_code().filter(|code| *code != OK).unwrap_or(ERROR),
        Some(Refusal::Busy | Refusal::ShuttingDown) => BUSY,
        Some(Refusal::Denied) => PERMISSION,
        Some(Refusal::Malformed | Refusal::TooLarge | Refusal::TooSlow) => PROTOCOL,
        None | Some(_) => ERROR,
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
    fn each_final_answer_has_its_code() {
        for (rest, expected) in [
            (r#""status":"OK""#, OK),
            (r#""status":"OK","content":{"exit_code":3}"#, OK),
            (r#""status":"ERROR""#, ERROR),
            (r#""status":"ERROR","refused":"busy""#, BUSY),
            (r#""status":"ERROR","refused":"shutting_down""#, BUSY),
            (r#""status":"ERROR","refused":"denied""#, PERMISSION),
            (r#""status":"ERROR","refused":"malformed""#, PROTOCOL),
            (r#""status":"ERROR","refused":"too_large""#, PROTOCOL),
            (r#""status":"ERROR","refused":"too_slow""#, PROTOCOL),
            (r#""status":"ERROR","refused":"of a later version""#, ERROR),
        ] {
            assert_eq!(code(rest, false), expected, "{rest}");
            assert_eq!(code(rest, true), expected, "{rest}");
        }
    }

    #[test]
    fn a_run_passes_on_how_its_job_ended_but_never_an_ok_that_is_none() {
        for (content, expected) in [
            (r#"{"exit_code":3}"#, 3),
            (r#"{"exit_code":255,"signal":null}"#, 255),
            (r#"{"signal":9}"#, 137),
            (r#"{"exit_code":0,"ended_by":"timeout"}"#, ERROR),
            (r#"{"exit_code":256}"#, ERROR),
            (r#"{"exit_code":-1}"#, ERROR),
            (r#"{"exit_code":"3"}"#, ERROR),
            (r#"{"signal":18446744073709551615}"#, ERROR),
            ("[]", ERROR),
            ("null", ERROR),
        ] {
            let rest = format!(r#""status":"ERROR","content":{content}"#);
            assert_eq!(code(&rest, true), expected, "{content}");
            assert_eq!(code(&rest, false), ERROR, "{content}");
        }
    }
}

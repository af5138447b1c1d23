//! The commands about runs, also those that are over.

use std::{
    io::{self, Read},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{exit, failure::Failure, view::Form};

/// The largest standard input of a job, in bytes. It is a part of the request.
const MAX_STDIN: usize = 512 * 1024;

/// How to run a job.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch")]
pub(crate) struct RunFlags {
    /// Print the id of the run and return; the run continues by itself
    #[arg(short, long)]
    detach: bool,
    /// Fail instead of waiting for other runs of the job
    #[arg(long)]
    no_wait: bool,
    /// Only check whether the job could run
    #[arg(long, conflicts_with_all = ["detach", "no_wait"])]
    dry_run: bool,
    /// Confirm a job that must be confirmed
    #[arg(short, long)]
    yes: bool,
    /// Pass standard input to the job, at most 512 KiB
    #[arg(long)]
    stdin: bool,
}

/// Commands about runs.
#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// List queued, running and finished runs
    Runs {
        /// Only runs of this job
        #[arg(long)]
        job: Option<String>,
        /// Only runs of this user, by name or number
        #[arg(long, value_parser = user)]
        user: Option<u32>,
        /// Only runs that failed or whose result is unknown
        #[arg(long)]
        failed: bool,
        /// Only runs that were requested within this time, such as 2h
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        since: Option<Duration>,
    },
    /// Follow a run: its output so far, then the rest, then its result
    ///
    /// Ctrl-\ and Ctrl-C detach from the run; the run continues. If the run ends first, the exit status
    /// is that of the job.
    Attach {
        /// The run id, or a unique prefix of one: see `kakehi runs`
        run: String,
    },
    /// Print the output of a run
    Logs {
        /// The run id, or a unique prefix of one: see `kakehi runs`
        run: String,
        /// Also print new output, until the run ends
        #[arg(short, long)]
        follow: bool,
        /// Only output of this time until now, such as 10m
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        since: Option<Duration>,
        /// Print the time of each line
        #[arg(long)]
        timestamps: bool,
        /// Only the last N lines
        #[arg(long, value_name = "N")]
        tail: Option<u64>,
    },
    /// Wait for runs to end; the worst result sets the exit status
    ///
    /// The exit status is the same as that of `kakehi run`: that of the job, or 124 if the job timed
    /// out, 125 if it was not started, 76 if its result is unknown. For several runs, the worst result
    /// counts. An unknown result is the worst, then comes a job that was not started, then a failed
    /// one. Of several runs with this result, the first one counts.
    Wait {
        /// The run ids, or unique prefixes of them: see `kakehi runs`
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<String>,
    },
    /// Run the job of an earlier run again, with the same arguments
    Rerun {
        /// The run id, or a unique prefix of one: see `kakehi runs`
        run: String,
        /// Print the id of the new run and return; the run continues by itself
        #[arg(short, long)]
        detach: bool,
        /// Confirm a job that must be confirmed
        #[arg(short, long)]
        yes: bool,
    },
    /// Read the jobs file again, and print its errors
    Reload,
}

/// The request for a run.
pub(crate) fn run(
    job: &str,
    args: &[String],
    flags: &RunFlags,
    is_json: bool,
) -> Result<(Form, Value), Failure> {
    let mut run = json!({ "job": job, "args": args });
    set(&mut run, "output", (!is_json).then(|| json!("pieces")));
    set(&mut run, "detach", flags.detach.then_some(json!(true)));
    set(&mut run, "no_wait", flags.no_wait.then_some(json!(true)));
    set(&mut run, "dry_run", flags.dry_run.then_some(json!(true)));
    set(&mut run, "confirmed", flags.yes.then_some(json!(true)));
    if flags.stdin {
        let (key, input) = input(read_stdin()?);
        set(&mut run, key, Some(input));
    }
    let form = match flags {
        RunFlags { dry_run: true, .. } => Form::DryRun,
        RunFlags { detach: true, .. } => Form::Detached,
        _ => Form::Run,
    };
    Ok((form, json!({ "run": run })))
}

/// The same request without the form of its output, if it has one.
pub(crate) fn without_output(mut run: Value) -> Option<Value> {
    run.get_mut("run")?.as_object_mut()?.remove("output")?;
    Some(run)
}

/// The request of another command.
pub(crate) fn plan(command: &RunsCommand, is_json: bool) -> (Form, Value) {
    let output = (!is_json).then(|| json!("pieces"));
    match command {
        RunsCommand::Runs { job, user, failed, since } => {
            let mut runs = json!({ "failed": failed });
            set(&mut runs, "job", job.as_ref().map(|job| json!(job)));
            set(&mut runs, "uid", user.map(|user| json!(user)));
            set(&mut runs, "since_ms", since.map(|ago| json!(before(ago))));
            (Form::Runs, json!({ "runs": runs }))
        }
        RunsCommand::Attach { run } => {
            let mut attach = json!({ "run": run });
            set(&mut attach, "output", output);
            (Form::Attach, json!({ "attach": attach }))
        }
        RunsCommand::Logs { run, follow, since, timestamps, tail } => {
            let mut logs = json!({ "run": run, "follow": follow, "timestamps": timestamps });
            set(&mut logs, "output", output.filter(|_| !timestamps));
            set(&mut logs, "tail", tail.map(|tail| json!(tail)));
            set(&mut logs, "since_ms", since.map(|ago| json!(before(ago))));
            (Form::Logs(*timestamps), json!({ "logs": logs }))
        }
        RunsCommand::Wait { runs } => (Form::Wait, json!({ "wait": { "runs": runs } })),
        RunsCommand::Rerun { run, detach, yes } => {
            let mut rerun = json!({ "run": run, "detach": detach, "confirmed": yes });
            set(&mut rerun, "output", output);
            let form = if *detach { Form::Detached } else { Form::Run };
            (form, json!({ "rerun": rerun }))
        }
        RunsCommand::Reload => (Form::Message, json!("reload")),
    }
}

fn set(object: &mut Value, key: &str, value: Option<Value>) {
    if let (Some(fields), Some(value)) = (object.as_object_mut(), value) {
        fields.insert(key.to_owned(), value);
    }
}

/// The time `ago`, in milliseconds since the Unix epoch.
fn before(ago: Duration) -> u64 {
    let at = SystemTime::now().checked_sub(ago).unwrap_or(UNIX_EPOCH);
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn user(text: &str) -> Result<u32, String> {
    let uid = text.parse().ok();
    let uid = uid.or_else(|| uzers::get_user_by_name(text).map(|user| user.uid()));
    uid.ok_or_else(|| "no such user".to_owned())
}

/// The field of a standard input: text, or base64 where it is shorter. JSON has six bytes for a
/// control character, so that text can be too long for a request.
fn input(bytes: Vec<u8>) -> (&'static str, Value) {
    let encoded = STANDARD.encode(&bytes);
    match String::from_utf8(bytes).map(Value::String) {
        Ok(text) if text.to_string().len() <= encoded.len() + 2 => ("stdin", text),
        _ => ("stdin_base64", Value::String(encoded)),
    }
}

fn read_stdin() -> Result<Vec<u8>, Failure> {
    const WHAT: &str = "the job was not started";
    let mut bytes = vec![];
    let read = io::stdin().take(MAX_STDIN as u64 + 1).read_to_end(&mut bytes);
    if let Err(error) = read {
        let why = format!("standard input cannot be read: {error}");
        return Err(Failure::usage(WHAT, &why, "give it as a readable file or a pipe"));
    }
    if bytes.len() > MAX_STDIN {
        let why = format!("standard input has more than {MAX_STDIN} bytes");
        let parts = [WHAT, &why, "let the job read a file"];
        return Err(Failure::unsent(exit::PROTOCOL, "too_large", parts));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_gets_lines_and_a_terminal_all_lines_at_once() {
        let flags =
            RunFlags { detach: false, no_wait: true, dry_run: false, yes: true, stdin: false };
        let asked = |is_json| run("a", &["b".to_owned()], &flags, is_json).unwrap().1;
        let lines = json!({ "job": "a", "args": ["b"], "no_wait": true, "confirmed": true });
        assert_eq!(asked(true), json!({ "run": lines }));
        assert_eq!(asked(false)["run"]["output"], "pieces");
    }

    #[test]
    fn a_standard_input_takes_the_shorter_form() {
        for (bytes, expected) in [
            (&b""[..], ("stdin", json!(""))),
            (b"a line\n", ("stdin", json!("a line\n"))),
            ("h\u{e9}llo".as_bytes(), ("stdin", json!("h\u{e9}llo"))),
            (&[1; 6], ("stdin_base64", json!("AQEBAQEB"))),
            (&[0xff, 0x0a], ("stdin_base64", json!("/wo="))),
        ] {
            assert_eq!(input(bytes.to_vec()), expected, "{bytes:?}");
        }
    }
}

//! The commands of the daemon in the protocol.

use std::fmt;

use super::requests::{Attach, Cancel, Describe, Logs, Rerun, Run, Runs, Wait};
use crate::demo;
use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, Visitor},
};
use serde_json::Value;

/// A command of a client: a word, or an object with one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Run(Run),
    List,
    Status,
    Cancel(Cancel),
    Stop,
    Reload,
    Describe(Describe),
    Runs(Runs),
    Attach(Attach),
    Logs(Logs),
    Wait(Wait),
    Rerun(Rerun),
    Demo(demo::Command),
}

/// Without the demo commands, which few servers answer.
pub(super) const NAMES: &str =
    "run, list, status, cancel, stop, reload, describe, runs, attach, logs, wait, rerun";

impl Default for Command {
    fn default() -> Self {
        Self::Demo(demo::Command::default())
    }
}

impl Command {
    /// For the log and for `status`.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::List => "list",
            Self::Status => "status",
            Self::Cancel(_) => "cancel",
            Self::Stop => "stop",
            Self::Reload => "reload",
            Self::Describe(_) => "describe",
            Self::Runs(_) => "runs",
            Self::Attach(_) => "attach",
            Self::Logs(_) => "logs",
            Self::Wait(_) => "wait",
            Self::Rerun(_) => "rerun",
            Self::Demo(demo::Command::Countdown { .. }) => "countdown",
            Self::Demo(demo::Command::Fail) => "fail",
            Self::Demo(demo::Command::Echo { .. }) => "echo",
        }
    }
}

/// serde's derive takes a command with defaults as a word or as an object, but not as both.
impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordOrObject)
    }
}

struct WordOrObject;

impl<'de> Visitor<'de> for WordOrObject {
    type Value = Command;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command, which is a word or an object with one key")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Command, E> {
        match word {
            "list" => Ok(Command::List),
            "status" => Ok(Command::Status),
            "stop" => Ok(Command::Stop),
            "reload" => Ok(Command::Reload),
            "runs" => Ok(Command::Runs(Runs::default())),
            "describe" => Err(E::custom("the command `describe` needs its `job`")),
            "attach" | "logs" | "rerun" => {
                Err(E::custom(format!("the command `{word}` needs its `run`")))
            }
            "wait" => Err(E::custom("the command `wait` needs its `runs`")),
            "run" => Err(E::custom("the command `run` needs its `job`")),
            "cancel" => Err(E::custom("the command `cancel` needs its `id`, a `job` or `all`")),
            _ => demonstrate(word, Value::String(word.to_owned())),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Command, A::Error> {
        let Some(name) = map.next_key::<String>()? else {
            return Err(A::Error::custom(format!("a command is missing: {NAMES}")));
        };
        let command = match name.as_str() {
            "run" => Command::Run(map.next_value()?),
            "cancel" => Command::Cancel(map.next_value()?),
            "list" => Command::List.after(map.next_value()?),
            "status" => Command::Status.after(map.next_value()?),
            "stop" => Command::Stop.after(map.next_value()?),
            "reload" => Command::Reload.after(map.next_value()?),
            "describe" => Command::Describe(map.next_value()?),
            "runs" => Command::Runs(map.next_value::<Option<Runs>>()?.unwrap_or_default()),
            "attach" => Command::Attach(map.next_value()?),
            "logs" => Command::Logs(map.next_value()?),
            "wait" => Command::Wait(map.next_value()?),
            "rerun" => Command::Rerun(map.next_value()?),
            _ => {
                let arguments: Value = map.next_value()?;
                demonstrate(&name, Value::from_iter([(name.clone(), arguments)]))?
            }
        };
        match map.next_key::<IgnoredAny>()? {
            None => Ok(command),
            Some(_) => Err(A::Error::custom("a command is an object with one key, not several")),
        }
    }
}

/// No arguments: `null` or `{}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl Command {
    fn after(self, _: Option<Nothing>) -> Self {
        self
    }
}

fn demonstrate<E: Error>(name: &str, command: Value) -> Result<Command, E> {
    if !matches!(name, "countdown" | "fail" | "echo") {
        return Err(E::custom(format!("unknown command `{name}`: there are {NAMES}")));
    }
    demo::Command::deserialize(command).map(Command::Demo).map_err(E::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Command, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_command_is_a_word_or_an_object_with_one_key() {
        let run = |args: &[&str]| {
            let args = args.iter().map(ToString::to_string).collect();
            Ok(Command::Run(Run { job: "backup".into(), args, ..Run::default() }))
        };
        assert_eq!(read(r#"{"run":{"job":"backup","args":["daily","2"]}}"#), run(&["daily", "2"]));
        assert_eq!(read(r#"{"run":{"job":"backup"}}"#), run(&[]));
        assert_eq!(
            read(r#"{"cancel":{"id":"ID-1"}}"#),
            Ok(Command::Cancel(Cancel { id: Some("ID-1".into()), ..Cancel::default() })),
        );
        for (name, command) in
            [("list", Command::List), ("status", Command::Status), ("reload", Command::Reload)]
        {
            for text in [format!("\"{name}\""), format!("{{\"{name}\":{{}}}}")] {
                assert_eq!(read(&text), Ok(command.clone()), "{text}");
            }
            assert_eq!(read(&format!("{{\"{name}\":null}}")), Ok(command.clone()));
            assert_eq!(command.name(), name);
        }
    }

    #[test]
    fn the_demo_commands_are_read_as_the_demo_reads_them() {
        let text = "hello".to_owned();
        assert_eq!(
            read(r#"{"echo":{"text":"hello"}}"#),
            Ok(Command::Demo(demo::Command::Echo { text })),
        );
        assert_eq!(read("\"countdown\""), Ok(Command::default()));
        assert_eq!(read("\"fail\""), Ok(Command::Demo(demo::Command::Fail)));
        let countdown = demo::Command::Countdown { steps: 2, interval_ms: 1000 };
        assert_eq!(read(r#"{"countdown":{"steps":2}}"#), Ok(Command::Demo(countdown)));
    }

    #[test]
    fn what_is_no_command_is_told_why() {
        for (text, why) in [
            ("\"ls\"", "unknown command `ls`: there are run, list, status, cancel, stop, reload"),
            (r#"{"ls":{}}"#, "unknown command `ls`"),
            ("\"run\"", "the command `run` needs its `job`"),
            (r#"{"run":{}}"#, "missing field `job`"),
            (
                r#"{"run":{"job":"a","arg":[]}}"#,
                "unknown field `arg`, expected one of `job`, `args`",
            ),
            (r#"{"run":{"job":"a","args":[1]}}"#, "expected a string"),
            ("\"cancel\"", "the command `cancel` needs its `id`, a `job` or `all`"),
            (r#"{"cancel":{"run":"a"}}"#, "unknown field `run`"),
            (r#"{"logs":{"tail":1}}"#, "missing field `run`"),
            ("\"attach\"", "the command `attach` needs its `run`"),
            (r#"{"stop":{"now":true}}"#, "unknown field `now`"),
            (r#"{"list":{},"stop":{}}"#, "one key, not several"),
            ("{}", "a command is missing: run, list"),
            ("\"echo\"", "needs its `text`"),
            ("7", "a word or an object with one key"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
            assert!(!error.contains("countdown"), "{text}: {error}");
        }
    }
}

//! The demo commands: countdown, fail and echo.

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};
use std::{fmt, time::Duration};

use kakehi_server::{Context, Failure};

/// Answers the demo commands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Demo;

/// A demo command; on the wire, serde's external tagging in snake case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// `steps` PROCESSING, one every `interval_ms` milliseconds, then OK.
    Countdown {
        /// How many; 10 by default.
        steps: u32,
        /// How far apart; 1000 by default.
        interval_ms: u64,
    },
    /// Two PROCESSING, then ERROR.
    Fail,
    /// OK at once, with `text` as its message.
    Echo {
        /// The message of the response.
        text: String,
    },
}

impl Default for Command {
    fn default() -> Self {
        let Countdown { steps, interval_ms } = Countdown::default();
        Self::Countdown { steps, interval_ms }
    }
}

impl Demo {
    /// Answers `command`.
    ///
    /// # Errors
    /// The [`Failure`] that [`Command::Fail`] asks for, and what [`Context::progress`] returns.
    pub(crate) async fn run(&self, command: Command, context: &Context) -> Result<String, Failure> {
        match command {
            Command::Echo { text } => Ok(text),
            Command::Fail => {
                context.progress("Not done yet").await?;
                context.progress("This does not look good").await?;
                Err(Failure::new("It failed, as you asked"))
            }
            Command::Countdown { steps, interval_ms } => {
                for done in 0..steps {
                    let so_far = Done { done, total: steps };
                    context.progress_with("Not done yet", &so_far).await?;
                    tokio::time::sleep(Duration::from_millis(interval_ms)).await;
                }
                Ok("Done".into())
            }
        }
    }
}

/// The progress of a countdown, for a progress bar.
#[derive(Serialize)]
struct Done {
    done: u32,
    total: u32,
}

/// A command without arguments may be written as a bare word, one with defaults either way:
/// serde's derive takes only one of the two.
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
            "countdown" => Ok(Command::default()),
            "fail" => Ok(Command::Fail),
            "echo" => Err(E::custom("the command `echo` needs its `text`")),
            _ => Err(E::unknown_variant(word, &["countdown", "fail", "echo"])),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Command, A::Error> {
        Ok(match Object::deserialize(MapAccessDeserializer::new(map))? {
            Object::Countdown(Countdown { steps, interval_ms }) => {
                Command::Countdown { steps, interval_ms }
            }
            Object::Echo { text } => Command::Echo { text },
            Object::Fail => Command::Fail,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Object {
    Countdown(Countdown),
    Echo { text: String },
    Fail,
}

#[derive(Deserialize)]
#[serde(default)]
struct Countdown {
    steps: u32,
    interval_ms: u64,
}

impl Default for Countdown {
    fn default() -> Self {
        Self { steps: 10, interval_ms: 1000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_command_is_told_why() {
        for (text, why) in [
            ("\"echo\"", "the command `echo` needs its `text`"),
            ("\"ls\"", "unknown variant `ls`"),
            ("{\"ls\":{}}", "unknown variant `ls`"),
            ("{\"echo\":{}}", "missing field `text`"),
            ("7", "a command, which is a word or an object with one key"),
        ] {
            let error = serde_json::from_str::<Command>(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        let fail = serde_json::from_str::<Command>("{\"fail\":null}").unwrap();
        assert_eq!(fail, Command::Fail);
    }
}

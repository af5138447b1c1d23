//! The demo commands: what the experiment's server did, and an echo.

use std::{fmt, time::Duration};

use kakehi_channel::Request;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::{Context, Failure, Handler};

/// Ten PROCESSING one second apart, then OK; and a few more tricks. A [`Handler`] to try a client
/// against.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use kakehi_channel::{Channel, Json, Request, Response, Status};
/// use kakehi_server::{Limits, Peer, demo, serve_stream};
///
/// let (ours, theirs) = tokio::io::duplex(1024);
/// tokio::spawn(serve_stream(ours, Peer::own(), demo::Demo, Limits::default()));
///
/// let mut channel = Channel::<Request<demo::Command>, Response, Json, _>::new(theirs);
/// channel.send(Request::with_command("ID-1", demo::Command::Fail)).await?;
/// for status in [Status::Processing, Status::Processing, Status::Error] {
///     assert_eq!(channel.next().await.expect("a response")?.status, status);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Demo;

/// What [`Demo`] can do; on the wire, serde's external tagging in snake case.
///
/// ```
/// use kakehi_server::demo::Command;
///
/// let command: Command = serde_json::from_str("\"countdown\"").unwrap();
/// assert_eq!(command, Command::Countdown { steps: 10, interval_ms: 1000 });
/// let command: Command = serde_json::from_str(r#"{"countdown":{"steps":3}}"#).unwrap();
/// assert_eq!(command, Command::Countdown { steps: 3, interval_ms: 1000 });
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
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
        /// What comes back.
        text: String,
    },
}

impl Default for Command {
    fn default() -> Self {
        let Countdown { steps, interval_ms } = Countdown::default();
        Self::Countdown { steps, interval_ms }
    }
}

/// For handlers that have the demo among their commands.
///
/// ```
/// use kakehi_server::demo::{Command, Demo};
/// # let _ = async |context: &kakehi_server::Context| -> Result<(), kakehi_server::Failure> {
/// assert_eq!(Demo.run(Command::Echo { text: "hello".into() }, context).await?, "hello");
/// # Ok(()) };
/// ```
impl Demo {
    /// Does what `command` says.
    ///
    /// # Errors
    /// The [`Failure`] that [`Command::Fail`] asks for, and what [`Context::progress`] says.
    ///
    /// # Cancel safety
    /// Cancel safe: it holds nothing.
    pub async fn run(&self, command: Command, context: &Context) -> Result<String, Failure> {
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

impl Handler<Command> for Demo {
    type Answer = String;
    type Error = Failure;

    async fn handle(&self, request: Request<Command>, context: Context) -> Result<String, Failure> {
        self.run(request.command.unwrap_or_default(), &context).await
    }

    fn describe(&self, request: &Request<Command>) -> String {
        let name = match &request.command {
            None | Some(Command::Countdown { .. }) => "countdown",
            Some(Command::Fail) => "fail",
            Some(Command::Echo { .. }) => "echo",
        };
        name.to_owned()
    }
}

/// How far a countdown is, for whoever draws a bar.
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
    fn each_command_has_a_name_for_the_log() {
        let echo = Command::Echo { text: "secret".into() };
        for (command, name) in [
            (None, "countdown"),
            (Some(Command::default()), "countdown"),
            (Some(Command::Fail), "fail"),
            (Some(echo), "echo"),
        ] {
            let request = Request { command, ..Request::new("ID-1") };
            assert_eq!(Demo.describe(&request), name);
        }
    }

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

//! The commands of a cache daemon: the daemon and its command line share these types.

use clap::Args;
use kakehi::Command;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub mod daemon;

/// Where the daemon listens.
pub const SOCKET: &str = "/run/cached/cached.sock";

/// Loads every key under a prefix into memory.
#[derive(Clone, Debug, Args, Serialize, Deserialize, JsonSchema, Command)]
#[kakehi(progress = Step, reply = Report)]
pub struct Warm {
    /// Keys that start with this.
    pub prefix: String,
    /// At most this many keys.
    #[arg(long)]
    pub limit: Option<u32>,
}

/// Reports each key that is loaded or removed.
#[derive(Clone, Debug, Args, Serialize, Deserialize, JsonSchema, Command)]
#[kakehi(progress = Change, read_only)]
pub struct Watch {
    /// Keys that start with this.
    #[arg(default_value = "")]
    #[serde(default)]
    pub prefix: String,
}

/// Removes every key under a prefix. Only root may do this.
#[derive(Clone, Debug, Args, Serialize, Deserialize, JsonSchema, Command)]
#[kakehi(reply = Report)]
pub struct Purge {
    /// Keys that start with this.
    pub prefix: String,
}

/// Shows how many keys there are.
#[derive(Clone, Debug, Args, Serialize, Deserialize, JsonSchema, Command)]
#[kakehi(reply = Report, read_only)]
pub struct Stats;

/// Shuts the daemon down once the running commands have ended. Only root may do this.
#[derive(Clone, Debug, Args, Serialize, Deserialize, JsonSchema, Command)]
pub struct Drain;

/// How far a command is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// Keys so far.
    pub done: u32,
    /// All keys.
    pub total: u32,
}

/// How many keys a command concerned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Keys.
    pub keys: usize,
}

/// One change of the cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A key was loaded.
    Loaded(String),
    /// A key was removed.
    Removed(String),
}

//! The arguments of `kakehi fleet` and `kakehi bridge`.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, Subcommand};
use kakehi_fleet::{Labels, Name, Selector};

/// Requests to many machines, over NATS.
#[derive(Debug, Args)]
pub(crate) struct FleetArguments {
    #[command(flatten)]
    pub(super) broker: BrokerArguments,
    /// Sign requests with the key in this file: see `kakehi fleet key`
    #[arg(long, global = true, env = "KAKEHI_FLEET_KEY", value_name = "FILE")]
    pub(super) key: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: FleetCommand,
}

/// Where the broker is.
#[derive(Debug, Args)]
pub(crate) struct BrokerArguments {
    /// The broker: one URL, or several separated by commas
    #[arg(long, global = true, env = "KAKEHI_NATS", value_name = "URL")]
    #[arg(default_value = "nats://127.0.0.1:4222")]
    pub(super) nats: String,
    /// Log in to the broker with this credentials file
    #[arg(long, global = true, env = "KAKEHI_NATS_CREDENTIALS", value_name = "FILE")]
    pub(super) credentials: Option<PathBuf>,
    /// Log in to the broker with the nkey seed in this file
    #[arg(long, global = true, env = "KAKEHI_NATS_NKEY", value_name = "FILE")]
    pub(super) nkey: Option<PathBuf>,
    /// Trust the certificates in this file too, for tls:// [default: those of the system]
    #[arg(long, global = true, env = "KAKEHI_NATS_CA", value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// The prefix of the fleet's subjects
    #[arg(long, global = true, value_name = "PREFIX", default_value = "kakehi")]
    pub(super) prefix: String,
    /// The prefix of this client's inboxes, if the broker's permissions require one
    #[arg(long, global = true, value_name = "PREFIX")]
    pub(super) inbox_prefix: Option<String>,
}

#[cfg(feature = "top")]
impl BrokerArguments {
    /// The URLs, without a password.
    pub(super) fn place(&self) -> String {
        super::targets::hosts(&self.nats).join(",")
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum FleetCommand {
    /// List the connected nodes, and expected nodes that are not connected
    Nodes {
        /// Only nodes that this selects, such as 'role=web and not canary'
        #[arg(long, value_name = "SELECTOR")]
        on: Option<Selector>,
        #[command(flatten)]
        inventory: InventoryArguments,
        /// How long to wait for answers
        #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = humantime::parse_duration)]
        wait: Duration,
    },
    /// Run a job of kakehid on each selected node
    Run {
        #[command(flatten)]
        many: Many,
        /// The name of the job
        job: String,
        /// Arguments for the job. Put `--` before arguments that start with a hyphen
        args: Vec<String>,
    },
    /// Send a command to each selected node
    Call {
        #[command(flatten)]
        many: Many,
        /// The name of a command without arguments, or any command as JSON
        command: String,
    },
    /// Show the state of each selected node's server
    Status {
        #[command(flatten)]
        many: Many,
    },
    /// Show a live screen of the nodes and what runs there
    #[cfg(feature = "top")]
    Top {
        /// Only nodes that this selects, such as 'role=web and not canary'
        #[arg(long, value_name = "SELECTOR")]
        on: Option<Selector>,
        #[command(flatten)]
        inventory: InventoryArguments,
        #[command(flatten)]
        top: crate::top::TopFlags,
    },
    /// Ask the nodes how requests of an earlier run ended, if this is unknown
    Settle {
        /// The run; or one accepted request, NODE.EPOCH.N (the node, its process and a number)
        run: String,
        /// After NODE.EPOCH.N: the id of the request
        id: Option<String>,
    },
    /// Repeat an earlier run, as a new run, on some of its nodes
    Retry {
        /// The run
        run: String,
        /// On the nodes where it failed
        #[arg(long)]
        failed: bool,
        /// On the nodes that did not start it
        #[arg(long)]
        unreachable: bool,
        /// Also on the nodes whose outcome is unknown: the request may then run twice
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        pace: Pace,
    },
    /// Cancel an earlier run on the nodes where it still runs
    Cancel {
        /// The run
        run: String,
    },
    /// Show the output that a node has kept of a job's run
    Logs {
        /// The run
        run: String,
        /// The node
        node: Name,
        /// Also print new output, until the run ends
        #[arg(long)]
        follow: bool,
    },
    /// Follow the output of a job's run on a node, and exit with its status
    Attach {
        /// The run
        run: String,
        /// The node; not needed if the run has one node
        node: Option<Name>,
    },
    /// Remove a retired node from the list of expected nodes
    Forget {
        /// The nodes
        #[arg(required = true)]
        nodes: Vec<Name>,
    },
    /// Make a key, and print its public key for the configuration of nodes
    Key {
        /// The file for the secret; if it exists, its public key is printed
        path: PathBuf,
    },
}

/// The selected nodes, and how the request goes to them.
#[derive(Debug, Args)]
pub(super) struct Many {
    /// The nodes that this selects, such as 'role=web and not canary' [default: all]
    #[arg(long, value_name = "SELECTOR")]
    pub(super) on: Option<Selector>,
    /// Names of expected nodes, separated by commas. Each has a row even if it does not answer
    #[arg(long, value_name = "NODES", value_delimiter = ',')]
    pub(super) expect: Vec<Name>,
    #[command(flatten)]
    pub(super) inventory: InventoryArguments,
    #[command(flatten)]
    pub(super) pace: Pace,
    /// How long to wait for answers of connected nodes
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = humantime::parse_duration)]
    pub(super) wait: Duration,
}

/// The expected nodes.
#[derive(Debug, Args)]
pub(super) struct InventoryArguments {
    /// A file of expected nodes, one on each line: NAME and labels, such as role=web,dc=fra.
    /// Without a file, these are the nodes that were connected within the last 24 hours
    #[arg(long, env = "KAKEHI_FLEET_INVENTORY", value_name = "FILE")]
    pub(super) inventory: Option<PathBuf>,
}

/// How a request goes to many nodes.
#[derive(Debug, Args)]
pub(super) struct Pace {
    /// The most nodes at once: a number, or a share of all such as 10%
    #[arg(long, value_name = "N", default_value = "64")]
    pub(super) batch: Batch,
    /// Send to no further node after this number of failures
    #[arg(long, value_name = "N")]
    pub(super) max_failures: Option<usize>,
    /// Send to this number of nodes first, and to the others only if all of these end with OK
    #[arg(long, value_name = "N", default_value = "0")]
    pub(super) canary: usize,
    /// Do not ask before a request to more than 10 nodes
    #[arg(long)]
    pub(super) yes: bool,
    /// Only print the nodes
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Show the output of the nodes at the end; equal output is shown once
    #[arg(long)]
    pub(super) group_output: bool,
}

/// How many nodes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Batch {
    Count(usize),
    Percent(usize),
}

impl Batch {
    /// Of so many nodes, rounded up; at least one.
    pub(super) fn of(self, nodes: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (nodes * percent).div_ceil(100).max(1),
        }
    }
}

impl FromStr for Batch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (digits, make): (_, fn(usize) -> Self) = match text.strip_suffix('%') {
            Some(digits) => (digits, Self::Percent),
            None => (text, Self::Count),
        };
        match digits.parse() {
            Ok(number) if number > 0 && (number <= 100 || !text.ends_with('%')) => Ok(make(number)),
            _ => Err("expected a number such as 8, or a part of all such as 10%".to_owned()),
        }
    }
}

/// Forward requests of a fleet to the server on --socket
///
/// The server sees the user of this process as the caller. Without --unsigned, only callers with a
/// --caller key may send requests.
#[derive(Debug, Args)]
pub(crate) struct BridgeArguments {
    #[command(flatten)]
    pub(super) broker: BrokerArguments,
    /// The node's name
    #[arg(long, value_name = "NAME")]
    pub(super) node: Name,
    /// The node's labels, such as role=web,dc=fra
    #[arg(long, value_name = "LABELS", default_value = "")]
    pub(super) labels: Labels,
    /// A permitted caller and its public key, as NAME=KEY; can be given several times
    #[arg(long = "caller", value_name = "NAME=KEY")]
    pub(super) callers: Vec<String>,
    /// Accept unsigned requests, from every user of the broker
    #[arg(long)]
    pub(super) unsigned: bool,
    /// Keep outcomes in this file, so that they survive a restart of this process
    #[arg(long, value_name = "FILE")]
    pub(super) journal: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_a_number_or_a_part() {
        assert_eq!("8".parse::<Batch>().unwrap().of(100), 8);
        assert_eq!("10%".parse::<Batch>().unwrap().of(52), 6);
        assert_eq!("1%".parse::<Batch>().unwrap().of(3), 1);
        for bad in ["0", "0%", "101%", "x", "", "-1"] {
            assert!(bad.parse::<Batch>().is_err(), "{bad}");
        }
    }
}

//! The arguments of `kakehi fleet` and `kakehi bridge`.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, Subcommand};
use kakehi_fleet::{Labels, Name, Selector};

/// Requests to many machines, over NATS.
#[derive(Debug, Args)]
pub(crate) struct FleetArguments {
    #[command(flatten)]
    pub(super) broker: BrokerArguments,
    /// Sign requests by the key in this file: see `kakehi fleet key`
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
    /// Log in to the broker by this credentials file
    #[arg(long, global = true, env = "KAKEHI_NATS_CREDENTIALS", value_name = "FILE")]
    pub(super) credentials: Option<PathBuf>,
    /// Log in to the broker by the seed of an nkey in this file
    #[arg(long, global = true, env = "KAKEHI_NATS_NKEY", value_name = "FILE")]
    pub(super) nkey: Option<PathBuf>,
    /// Trust the certificates in this file too, for tls:// [default: those of the system]
    #[arg(long, global = true, env = "KAKEHI_NATS_CA", value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// The prefix of the fleet's subjects
    #[arg(long, global = true, value_name = "PREFIX", default_value = "kakehi")]
    pub(super) prefix: String,
    /// The prefix of this client's inboxes, where the broker's permissions ask for one
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
    /// List the nodes that are connected, and those that should be
    Nodes {
        /// Only those that this selects, such as 'role=web and not canary'
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
        /// Its name
        job: String,
        /// Arguments for the job. Put `--` before arguments that start with a hyphen
        args: Vec<String>,
    },
    /// Send a command to each selected node
    Call {
        #[command(flatten)]
        many: Many,
        /// A command without arguments by its name, or any command as JSON
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
    /// Ask the nodes what became of an earlier run, where that is not known
    Settle {
        /// The run; or NODE.EPOCH.N, and then the id of its request
        run: String,
        /// The id of one request
        id: Option<String>,
    },
    /// Send an earlier run again, as a new one, to some of its nodes
    Retry {
        /// The run
        run: String,
        /// To the nodes where it failed
        #[arg(long)]
        failed: bool,
        /// To the nodes that did not start it
        #[arg(long)]
        unreachable: bool,
        /// Also to the nodes of which the outcome is unknown: it may run there twice
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        pace: Pace,
    },
    /// Cancel an earlier run where it has not ended
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
        /// Go on with new output until the end
        #[arg(long)]
        follow: bool,
    },
    /// Show the output of a job's run on a node up to its end, and end with its result
    Attach {
        /// The run
        run: String,
        /// The node; not needed if the run has one node
        node: Option<Name>,
    },
    /// Forget a node that is gone for good, so that no row waits for it
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

/// Which nodes, and how.
#[derive(Debug, Args)]
pub(super) struct Many {
    /// The nodes that this selects, such as 'role=web and not canary' [default: all]
    #[arg(long, value_name = "SELECTOR")]
    pub(super) on: Option<Selector>,
    /// Nodes that must be there, as names separated by commas: each has a row
    #[arg(long, value_name = "NODES", value_delimiter = ',')]
    pub(super) expect: Vec<Name>,
    #[command(flatten)]
    pub(super) inventory: InventoryArguments,
    #[command(flatten)]
    pub(super) pace: Pace,
    /// How long to wait for nodes to say that they are connected
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = humantime::parse_duration)]
    pub(super) wait: Duration,
}

/// Which nodes are expected to be there.
#[derive(Debug, Args)]
pub(super) struct InventoryArguments {
    /// The nodes that must be there, one a line: NAME, and its labels such as role=web,dc=fra.
    /// Without a file, these are the nodes that were connected within the last 24 hours
    #[arg(long, env = "KAKEHI_FLEET_INVENTORY", value_name = "FILE")]
    pub(super) inventory: Option<PathBuf>,
}

/// How a request goes to many nodes.
#[derive(Debug, Args)]
pub(super) struct Pace {
    /// How many nodes at once: a number, or a part of all such as 10%
    #[arg(long, value_name = "N", default_value = "64")]
    pub(super) batch: Batch,
    /// Ask no further node after so many failures
    #[arg(long, value_name = "N")]
    pub(super) max_failures: Option<usize>,
    /// Ask so many nodes first, and the others only if all of these end with OK
    #[arg(long, value_name = "N", default_value = "0")]
    pub(super) canary: usize,
    /// Do not ask before a request to more than 10 nodes
    #[arg(long)]
    pub(super) yes: bool,
    /// Only print the nodes
    #[arg(long)]
    pub(super) dry_run: bool,
    /// At the end, show the output of the nodes, and equal output once
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
/// The server sees this process as the caller. Only callers with a --caller key may ask, unless
/// --unsigned is given.
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
    /// Take requests without a signature: from everybody who can use the broker
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

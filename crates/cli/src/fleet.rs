//! `kakehi fleet` and `kakehi bridge`: requests over NATS.

mod area;
mod arguments;
mod bridge;
mod groups;
mod later;
mod many;
mod nodes;
mod outcome;
mod record;
mod report;
mod rows;
mod state;
mod targets;
#[cfg(feature = "top")]
mod top;

use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use kakehi_fleet::{Broker, Fleet, FleetError, NameError, Signer};
use serde_json::json;

pub(crate) use self::arguments::{BridgeArguments, FleetArguments};
use self::{
    arguments::{BrokerArguments, FleetCommand},
    report::Report,
    targets::Seen,
};
use super::{args::Options, exit};

/// No node started the request.
pub(crate) const NONE_STARTED: u8 = 3;

/// The outcome of at least one node is unknown.
pub(crate) const UNKNOWN: u8 = 4;

/// A message for the person, and the exit status.
pub(crate) struct Stop(pub(crate) String, pub(crate) u8);

impl From<FleetError> for Stop {
    fn from(error: FleetError) -> Self {
        Self(error.to_string(), exit::NOT_RUNNING)
    }
}

impl From<NameError> for Stop {
    fn from(error: NameError) -> Self {
        Self(error.to_string(), exit::USAGE)
    }
}

/// Runs `kakehi fleet`.
pub(crate) async fn run(arguments: FleetArguments, options: &Options) -> u8 {
    let mut report = Report::new(options.json);
    let done = obey(arguments, options, &mut report).await;
    report.end(done)
}

/// Runs `kakehi bridge`.
pub(crate) async fn bridge(arguments: BridgeArguments, options: &Options) -> u8 {
    let report = Report::new(options.json);
    let done = bridge::run(arguments, options).await;
    report.end(done)
}

async fn obey(
    FleetArguments { broker, key, command }: FleetArguments,
    options: &Options,
    report: &mut Report,
) -> Result<u8, Stop> {
    let mut seen = Seen::read(&broker.nats, &broker.prefix);
    match &command {
        FleetCommand::Key { path } => {
            let public = make_key(path)?;
            report.line(&public, || json!({ "public_key": public }))?;
            return Ok(exit::OK);
        }
        FleetCommand::Forget { nodes } => return nodes::forget(nodes, &mut seen, report),
        _ => {}
    }
    #[cfg(feature = "top")]
    let place = broker.place();
    let mut fleet = Fleet::connect(of(broker)).await?.timeouts(options.clocks());
    if let Some(path) = key {
        fleet = fleet.signed_by(read_key(&path)?);
    }
    let seen = &mut seen;
    match command {
        FleetCommand::Nodes { on, inventory, wait } => {
            nodes::list(&fleet, seen, (on, inventory), wait, report).await
        }
        FleetCommand::Run { job, args, many } => {
            let mut run = json!({ "job": job, "args": args });
            if let (true, Some(fields)) = (many.pace.yes, run.as_object_mut()) {
                // A job may ask for it.
                fields.insert("confirmed".to_owned(), json!(true));
            }
            many::run(&fleet, seen, many, json!({ "run": run }), report).await
        }
        FleetCommand::Call { command, many } => {
            // A text that is not JSON is the name of a command without arguments.
            let command = serde_json::from_str(&command).unwrap_or_else(|_| json!(command));
            many::run(&fleet, seen, many, command, report).await
        }
        FleetCommand::Status { many } => {
            many::run(&fleet, seen, many, json!("status"), report).await
        }
        #[cfg(feature = "top")]
        FleetCommand::Top { on, inventory, top } => {
            top::run(&fleet, seen, (on, inventory), &top, &place, options).await
        }
        FleetCommand::Settle { run, id: None } => later::settle(&fleet, &run, report).await,
        FleetCommand::Settle { run: accept, id: Some(id) } => {
            later::settle_one(&fleet, &accept, &id, report).await
        }
        FleetCommand::Retry { run, failed, unreachable, force, pace } => {
            let which = (failed, unreachable, force);
            later::retry(&fleet, seen, &run, which, pace, report).await
        }
        FleetCommand::Cancel { run } => later::cancel(&fleet, &run, report).await,
        FleetCommand::Logs { run, node, follow } => {
            let logs = |run: &str| json!({ "logs": { "run": run, "follow": follow } });
            later::output(&fleet, &run, Some(node), logs, report).await
        }
        FleetCommand::Attach { run, node } => {
            let attach = |run: &str| json!({ "attach": { "run": run } });
            later::output(&fleet, &run, node, attach, report).await
        }
        FleetCommand::Key { .. } | FleetCommand::Forget { .. } => Ok(exit::OK),
    }
}

fn of(arguments: BrokerArguments) -> Broker {
    let BrokerArguments { nats, credentials, nkey, ca, prefix, inbox_prefix } = arguments;
    let mut broker = Broker::new(nats).prefix(prefix);
    if let Some(path) = credentials {
        broker = broker.credentials(path);
    }
    if let Some(path) = nkey {
        broker = broker.nkey(path);
    }
    if let Some(path) = ca {
        broker = broker.root_certificates(path);
    }
    if let Some(prefix) = inbox_prefix {
        broker = broker.inbox_prefix(prefix);
    }
    broker
}

/// Writes a new key to `path`, or reads an existing one. Returns the public key.
fn make_key(path: &Path) -> Result<String, Stop> {
    if path.exists() {
        return Ok(read_key(path)?.public_key().to_owned());
    }
    let signer = Signer::generate();
    let failed = |error: &dyn std::fmt::Display| {
        Stop(format!("cannot write {}: {error}", path.display()), exit::SYSTEM)
    };
    let seed = signer.seed().map_err(|error| failed(&error))?;
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| writeln!(file, "{seed}"));
    written.map_err(|error| failed(&error))?;
    Ok(signer.public_key().to_owned())
}

fn read_key(path: &Path) -> Result<Signer, Stop> {
    let failed = |error: &dyn std::fmt::Display| {
        Stop(format!("the key {}: {error}", path.display()), exit::USAGE)
    };
    let seed = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
    Signer::from_seed(&seed).map_err(|error| failed(&error))
}

//! The daemon as a node of a fleet, if its jobs file has a table `[fleet]`.

use std::path::Path;

use kakehi_server::{Handle, Limits};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::jobs::{FleetFile, Service};

/// The journal of the node, in the folder of the records.
#[cfg(feature = "fleet")]
const JOURNAL: &str = "fleet.redb";

/// Starts the node, with a journal if there is a folder for it. It leaves the groups of its labels when `draining` is cancelled, and ends with the
/// server that has the same `handle`.
///
/// # Errors
/// The table has a bad name or key.
#[cfg(feature = "fleet")]
pub(crate) fn start(
    file: FleetFile,
    state: Option<&Path>,
    service: &Service,
    limits: Limits,
    handle: &Handle,
    draining: CancellationToken,
) -> Result<JoinHandle<()>, String> {
    use kakehi_fleet::{Broker, Keys, Labels, Name, Node};

    let failed = |error: &dyn std::fmt::Display| format!("[fleet]: {error}");
    let name: Name = file.name.unwrap_or_else(host).parse().map_err(|error| failed(&error))?;
    let labels: Labels = file.labels.parse().map_err(|error| failed(&error))?;
    let mut keys = Keys::default().unsigned(file.unsigned);
    for key in file.keys {
        keys = keys
            .with_key(&key.key, key.name.as_str(), key.groups)
            .map_err(|error| format!("[fleet.keys] {}: {error}", key.name))?;
    }
    let mut broker = Broker::new(file.url);
    if let Some(prefix) = file.prefix {
        broker = broker.prefix(prefix);
    }
    if let Some(path) = file.credentials {
        broker = broker.credentials(path);
    }
    if let Some(path) = file.nkey {
        broker = broker.nkey(path);
    }
    if let Some(path) = file.ca {
        broker = broker.root_certificates(path);
    }
    let mut node = Node::connect(broker, name.as_str());
    if let Some(folder) = state {
        node = node.journal(folder.join(JOURNAL));
    }
    let node = node
        .labels(labels)
        .keys(keys)
        .limits(limits)
        .handle(handle)
        .leave(draining.cancelled_owned())
        .description("named jobs")
        .serve(service.clone());
    Ok(tokio::spawn(async {
        if let Err(error) = node.await {
            tracing::error!(%error, "this daemon is no node of the fleet");
        }
    }))
}

/// Refuses the table: this program cannot be a node.
///
/// # Errors
/// Always.
#[cfg(not(feature = "fleet"))]
pub(crate) fn start(
    file: FleetFile,
    state: Option<&Path>,
    service: &Service,
    limits: Limits,
    handle: &Handle,
    draining: CancellationToken,
) -> Result<JoinHandle<()>, String> {
    let _ = (file, state, service, limits, handle, draining);
    Err("[fleet]: this kakehid was built without the feature `fleet`".to_owned())
}

/// The host name up to its first dot.
#[cfg(feature = "fleet")]
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().split('.').next().unwrap_or_default().to_owned()
}

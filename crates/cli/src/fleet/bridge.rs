//! A node for a server that listens on a socket.

use kakehi_client::{Client, ClientSettings};
use kakehi_fleet::{Keys, Node};

use super::{Stop, arguments::BridgeArguments, of};
use crate::{args::Options, exit, reach, signals::Signals};

/// How many requests at once.
const POOL: usize = 64;

pub(super) async fn run(arguments: BridgeArguments, options: &Options) -> Result<u8, Stop> {
    let BridgeArguments { broker, node, labels, callers, unsigned, journal } = arguments;
    let mut keys = Keys::default().unsigned(unsigned);
    for caller in callers {
        let usage =
            |why: &dyn std::fmt::Display| Stop(format!("--caller {caller}: {why}"), exit::USAGE);
        let (name, key) = caller.split_once('=').ok_or_else(|| usage(&"expected NAME=KEY"))?;
        keys = keys.with_key(key, name, [""; 0]).map_err(|error| usage(&error))?;
    }
    let mut signals = Signals::new(false)?;
    let socket = reach::examined(options);
    let client =
        Client::new(socket, ClientSettings { pool_size: POOL, ..ClientSettings::default() });
    let handle = kakehi_server::Handle::default();
    let mut node = Node::connect(of(broker), node.as_str());
    if let Some(path) = journal {
        node = node.journal(path);
    }
    let bridge = node
        .labels(labels)
        .keys(keys)
        .handle(&handle)
        .description("a bridge to a socket")
        .bridge(client);
    tokio::pin!(bridge);
    tokio::select! {
        done = &mut bridge => done?,
        code = signals.next() => {
            handle.shutdown();
            bridge.await?;
            return Ok(code);
        }
    }
    Ok(exit::OK)
}

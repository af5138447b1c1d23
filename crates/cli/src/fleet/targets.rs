//! The nodes that are asked: those that are connected, and those that should be.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use kakehi_fleet::{Fleet, Labels, Name, NodeInfo, Selector};
use serde::{Deserialize, Serialize};

use super::{Stop, state};
use crate::{exit, text::elapsed};

/// How long a disconnected node is still expected, without an inventory.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// The maximum number of nodes in the file. The oldest are dropped.
const MAX_SEEN: usize = 10_000;

/// A node that is connected, or should be.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) labels: Labels,
    /// The process of a connected node that started last.
    pub(super) info: Option<NodeInfo>,
    /// When it was connected, in milliseconds since the Unix epoch.
    pub(super) seen_ms: Option<u64>,
}

impl Known {
    /// `last seen 6 m 02 s ago`, or `never seen`.
    pub(super) fn last_seen(&self) -> String {
        match self.seen_ms {
            Some(at) => {
                let ago = Duration::from_millis(state::now_ms().saturating_sub(at));
                format!("last seen {} ago", elapsed(ago))
            }
            None => "never seen".to_owned(),
        }
    }
}

/// All nodes that are connected or should be, by name.
pub(super) type Nodes = BTreeMap<Name, Known>;

/// The file of the nodes that were connected, of one broker and prefix.
#[derive(Debug)]
pub(super) struct Seen {
    path: Option<PathBuf>,
    nodes: BTreeMap<String, SeenNode>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct SeenNode {
    labels: String,
    at_ms: u64,
}

impl Seen {
    /// Reads the file. A file that cannot be read counts as empty.
    pub(super) fn read(url: &str, prefix: &str) -> Self {
        let name = file_name(url, prefix);
        let path = state::folder().ok().map(|folder| folder.join(name));
        let text = path.as_ref().and_then(|path| state::read(path).ok());
        let nodes = text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        Self { path, nodes }
    }

    /// Remembers the nodes that are connected now.
    fn update(&mut self, connected: &[NodeInfo]) {
        let now = state::now_ms();
        for node in connected {
            let seen = SeenNode { labels: node.labels.to_string(), at_ms: now };
            self.nodes.insert(node.name.to_string(), seen);
        }
        let age = u64::try_from(REMEMBERED.as_millis()).unwrap_or(u64::MAX);
        self.nodes.retain(|_, seen| seen.at_ms >= now.saturating_sub(age));
        if self.nodes.len() > MAX_SEEN {
            let mut times: Vec<_> = self.nodes.values().map(|seen| seen.at_ms).collect();
            times.sort_unstable();
            let oldest = times.get(times.len() - MAX_SEEN).copied().unwrap_or_default();
            self.nodes.retain(|_, seen| seen.at_ms >= oldest);
        }
        self.write();
    }

    /// Forgets a node. `false`: it was not known.
    pub(super) fn forget(&mut self, name: &Name) -> bool {
        let was_known = self.nodes.remove(name.as_str()).is_some();
        self.write();
        was_known
    }

    fn write(&self) {
        if let Some(path) = &self.path
            && let Ok(text) = serde_json::to_string(&self.nodes)
        {
            // Without the file, a disconnected node has no row.
            let _ = state::replace(path, &text);
        }
    }
}

/// The hosts and ports of URLs that are separated by commas.
pub(super) fn hosts(urls: &str) -> Vec<String> {
    let host = |url: &str| {
        let (_, rest) = url.split_once("://").unwrap_or(("", url));
        rest.rsplit_once('@').map_or(rest, |(_, host)| host).to_owned()
    };
    urls.split(',').map(str::trim).map(host).collect()
}

/// A file for each broker and prefix. Without the user and password of the URL.
fn file_name(url: &str, prefix: &str) -> String {
    const MAX: usize = 180;
    let text = format!("{prefix}-{}", hosts(url).join("-"));
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    format!("nodes-{}.json", text.chars().map(safe).take(MAX).collect::<String>())
}

/// Finds the nodes that are connected, and adds those of the inventory; without one, those that were
/// connected not long ago.
pub(super) async fn known(
    fleet: &Fleet,
    wait: Duration,
    inventory: Option<&Path>,
    seen: &mut Seen,
) -> Result<Nodes, Stop> {
    let mut nodes = match inventory {
        Some(path) => read_inventory(path)?,
        None => Nodes::new(),
    };
    let connected = fleet.nodes(wait).await?;
    for (name, seen) in &seen.nodes {
        let (Ok(name), Ok(labels)) = (name.parse(), seen.labels.parse()) else { continue };
        match nodes.get_mut(&name) {
            Some(known) => known.seen_ms = Some(seen.at_ms),
            None if inventory.is_none() => {
                nodes.insert(name, Known { labels, info: None, seen_ms: Some(seen.at_ms) });
            }
            None => {}
        }
    }
    seen.update(&connected);
    let now = state::now_ms();
    for info in connected {
        let (name, labels) = (info.name.clone(), info.labels.clone());
        nodes.insert(name, Known { labels, info: Some(info), seen_ms: Some(now) });
    }
    Ok(nodes)
}

/// The nodes that `selector` selects, and those of `expect`.
pub(super) fn select(nodes: &Nodes, selector: &Selector, expect: &[Name]) -> Nodes {
    let is_selected =
        |name: &Name, known: &Known| selector.matches(name, &known.labels) || expect.contains(name);
    let chosen = nodes.iter().filter(|(name, known)| is_selected(name, known));
    let mut chosen: Nodes = chosen.map(|(name, known)| (name.clone(), known.clone())).collect();
    for name in expect {
        let absent = Known { labels: Labels::default(), info: None, seen_ms: None };
        chosen.entry(name.clone()).or_insert(absent);
    }
    chosen
}

/// One node a line: its name, and its labels. `#` begins a comment.
fn read_inventory(path: &Path) -> Result<Nodes, Stop> {
    let failed = |why: &dyn std::fmt::Display| {
        Stop(format!("the inventory {}: {why}", path.display()), exit::USAGE)
    };
    let text = state::read(path).map_err(|error| failed(&error))?;
    parse_inventory(&text).map_err(|error| failed(&error))
}

fn parse_inventory(text: &str) -> Result<Nodes, String> {
    let mut nodes = Nodes::new();
    for (at, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(name) = words.next() else { continue };
        let failed = |error: &dyn std::fmt::Display| format!("line {at}: {error}");
        let name: Name = name.parse().map_err(|error| failed(&error))?;
        let labels = words.collect::<Vec<_>>().join(",");
        let labels = labels.parse().map_err(|error| failed(&error))?;
        nodes.insert(name, Known { labels, info: None, seen_ms: None });
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_named_after_the_hosts_without_a_password() {
        let name = file_name("nats://anna:se/cret@10.0.0.1:4222, tls://b", "kakehi");
        assert_eq!(name, "nodes-kakehi-10_0_0_1_4222-b.json");
    }

    #[test]
    fn an_inventory_has_a_node_a_line() {
        let text = "# the web\nweb-1 role=web,dc=fra\n\nweb-2 role=web dc=par # new\n  db-1\n";
        let nodes = parse_inventory(text).unwrap();
        let selected = select(&nodes, &"dc in (fra, par)".parse().unwrap(), &[]);
        assert_eq!((nodes.len(), selected.len()), (3, 2));
        let expected =
            select(&nodes, &Selector::none(), &["db-1".parse().unwrap(), "x".parse().unwrap()]);
        assert_eq!(expected.len(), 2);
        assert_eq!(
            parse_inventory("web-1\nweb 2").unwrap_err(),
            "line 2: \"2\" is not a name: use 1 to 64 of A-Z a-z 0-9 _ -"
        );
        assert!(parse_inventory("a.b").unwrap_err().starts_with("line 1: "));
    }
}

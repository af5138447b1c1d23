//! `fleet nodes` and `fleet forget`.

use std::time::Duration;

use kakehi_fleet::{Fleet, Name, Selector};
use serde_json::json;

use super::{
    NONE_STARTED, Stop,
    arguments::InventoryArguments,
    report::Report,
    targets::{self, Seen},
};
use crate::{escape::escape, exit};

/// Lists the nodes that are connected, and those that should be.
pub(super) async fn list(
    fleet: &Fleet,
    seen: &mut Seen,
    (on, inventory): (Option<Selector>, InventoryArguments),
    wait: Duration,
    report: &mut Report,
) -> Result<u8, Stop> {
    let selector = on.unwrap_or_else(Selector::all);
    let known = targets::known(fleet, wait, inventory.inventory.as_deref(), seen).await?;
    let nodes = targets::select(&known, &selector, &[]);
    let longest = nodes.keys().map(|name| name.as_str().len()).max().unwrap_or(0).max(4);
    if !nodes.is_empty() {
        report.text(&format!("{:longest$}  STATE      STARTED               LABELS", "NODE"))?;
    }
    for (name, node) in &nodes {
        let (state, start) = match &node.info {
            Some(info) => ("connected", escape(&info.start).into_owned()),
            None => ("no answer", node.last_seen()),
        };
        let text = format!("{name:longest$}  {state}  {start:20}  {}", node.labels);
        report.line(text.trim_end(), || {
            json!({
                "node": name.as_str(),
                "labels": node.labels.to_string(),
                "connected": node.info.is_some(),
                "seen_ms": node.seen_ms,
                "version": node.info.as_ref().map(|info| &info.version),
                "start": node.info.as_ref().map(|info| &info.start),
                "epoch": node.info.as_ref().map(|info| info.epoch.as_str()),
            })
        })?;
    }
    let is_any = nodes.values().any(|node| node.info.is_some());
    Ok(if is_any { exit::OK } else { NONE_STARTED })
}

/// Removes retired nodes from the file of seen nodes.
pub(super) fn forget(names: &[Name], seen: &mut Seen, report: &mut Report) -> Result<u8, Stop> {
    for name in names {
        let was_known = seen.forget(name);
        let text = if was_known { "forgotten" } else { "was not known" };
        report.line(
            &format!("{name}: {text}"),
            || json!({ "node": name.as_str(), "forgotten": was_known }),
        )?;
    }
    Ok(exit::OK)
}

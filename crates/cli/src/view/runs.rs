//! Records of runs as a table.

use std::time::Duration;

use serde::Deserialize;

use super::{
    table::{Style, table},
    tables::Users,
};
use crate::text::duration;

/// The shown fields of a run's record.
#[derive(Deserialize)]
struct Record {
    run: String,
    job: String,
    #[serde(default)]
    args: Vec<String>,
    uid: Option<u32>,
    /// The name of a caller on another machine, which has no uid.
    caller: Option<String>,
    outcome: String,
    #[serde(default)]
    duration_ms: u64,
    exit_code: Option<i64>,
    signal: Option<i64>,
    ended_by: Option<String>,
    /// Why it did not start.
    reason: Option<String>,
}

/// `None`: the content is not an array of records.
pub(super) fn table_of(content: &str, style: Style) -> Option<String> {
    let records: Vec<Record> = serde_json::from_str(content).ok()?;
    if records.is_empty() {
        return Some(String::new());
    }
    let mut users = Users::new(style.is_local);
    let rows: Vec<_> = records.into_iter().map(|record| row(record, &mut users)).collect();
    Some(table(&["RUN", "USER", "OUTCOME", "DURATION", "REQUEST"], &rows, style))
}

fn row(record: Record, users: &mut Users) -> Vec<String> {
    let Record {
        run,
        job,
        args,
        uid,
        caller,
        outcome,
        duration_ms,
        exit_code,
        signal,
        ended_by,
        reason,
    } = record;
    let why = match (ended_by, exit_code, signal) {
        (Some(by), ..) => format!(" ({by})"),
        (None, Some(code), _) if code != 0 => format!(" ({code})"),
        (None, None, Some(signal)) => format!(" (signal {signal})"),
        _ => reason.map(|reason| format!(" ({})", reason.replace('_', " "))).unwrap_or_default(),
    };
    let user = caller.or_else(|| uid.map(|uid| users.name(uid))).unwrap_or_else(|| "-".to_owned());
    // The end of an unknown run was not seen.
    let has_end = !matches!(outcome.as_str(), "running" | "queued" | "unknown");
    let request = [job].into_iter().chain(args).collect::<Vec<_>>().join(" ");
    let took = if has_end { duration(Duration::from_millis(duration_ms)) } else { "-".to_owned() };
    vec![run, user, outcome + &why, took, request]
}

/// The id of a run that was just started.
pub(super) fn id(content: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Started {
        run: String,
    }
    serde_json::from_str(content).ok().map(|Started { run }| run)
}

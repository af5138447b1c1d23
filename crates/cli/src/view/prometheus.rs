//! The status of `kakehid` as metrics, in the text format of Prometheus.

use std::{
    collections::BTreeMap,
    fmt::{Display, Write},
};

use serde::Deserialize;

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    version: String,
    uptime_ms: u64,
    connections: u64,
    running: Vec<Running>,
    counters: Counters,
}

#[derive(Deserialize)]
struct Running {
    job: Option<String>,
    #[serde(default)]
    waiting: bool,
}

#[derive(Deserialize)]
struct Counters {
    running: u64,
    accepted: u64,
    refused_connections: u64,
    ok: u64,
    error: u64,
    refused_requests: u64,
    cancelled: u64,
    panicked: u64,
    bytes_received: u64,
    bytes_sent: u64,
}

/// The metrics of a status; `None`: the content is another one. The names are those of the feature
/// `metrics` of `kakehi-server`.
pub(super) fn metrics(content: &str) -> Option<String> {
    let Status { version, uptime_ms, connections, running, counters } =
        serde_json::from_str(content).ok()?;
    let mut text = String::new();
    let mut add = |name: &str, help: &str, samples: &[(String, String)]| {
        family(&mut text, name, help, samples);
    };
    let plain = |value: &dyn Display| [(String::new(), value.to_string())];
    let version = [(label("version", &version), "1".to_owned())];
    add("kakehid_info", "The version of the daemon", &version);
    let (whole, rest) = (uptime_ms / 1000, uptime_ms % 1000);
    let uptime = format!("{whole}.{rest:03}");
    add("kakehid_uptime_seconds", "Time since the start of the daemon", &plain(&uptime));
    add("kakehid_runs", "Runs of jobs that the caller may see", &runs(&running));
    add("kakehi_server_connections", "Open connections", &plain(&connections));
    let accepted = plain(&counters.accepted);
    add("kakehi_server_accepted_connections_total", "Connections that were admitted", &accepted);
    let refused = plain(&counters.refused_connections);
    add("kakehi_server_refused_connections_total", "Connections that were refused", &refused);
    let running = plain(&counters.running);
    add("kakehi_server_requests_running", "Requests that are being answered", &running);
    let outcomes = [
        ("ok", counters.ok),
        ("error", counters.error),
        ("refused", counters.refused_requests),
        ("cancelled", counters.cancelled),
        ("panicked", counters.panicked),
    ];
    let requests = outcomes.map(|(name, count)| (label("outcome", name), count.to_string()));
    add("kakehi_server_requests_total", "Requests by their outcome", &requests);
    let received = plain(&counters.bytes_received);
    add("kakehi_server_received_bytes_total", "Bytes of complete requests", &received);
    let sent = plain(&counters.bytes_sent);
    add("kakehi_server_sent_bytes_total", "Bytes of written responses", &sent);
    Some(text)
}

/// The number of runs for each job and state. The jobs file bounds the number of jobs.
fn runs(running: &[Running]) -> Vec<(String, String)> {
    let mut counts = BTreeMap::<_, u64>::new();
    for Running { job, waiting } in running {
        if let Some(job) = job {
            *counts
                .entry((job.as_str(), if *waiting { "waiting" } else { "running" }))
                .or_default() += 1;
        }
    }
    let labels = |(job, state)| format!("{},{}", label("job", job), label("state", state));
    counts.into_iter().map(|(key, count)| (labels(key), count.to_string())).collect()
}

/// Writes a metric with its samples, which are labels and values.
fn family(text: &mut String, name: &str, help: &str, samples: &[(String, String)]) {
    let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}.\n# TYPE {name} {kind}");
    for (labels, value) in samples {
        let _ = match labels.as_str() {
            "" => writeln!(text, "{name} {value}"),
            labels => writeln!(text, "{name}{{{labels}}} {value}"),
        };
    }
}

/// Formats a label. The format escapes `\`, `"` and line feeds. Other control characters are
/// replaced, because a terminal obeys them.
fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
    let value: String = value
        .chars()
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    format!("{name}=\"{value}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_becomes_metrics() {
        let status = r#"{"version":"1.2 \"x\\\n\u001b","pid":7,"uptime_ms":61005,"connections":3,
            "running":[{"job":"b","waiting":true},{"job":"a"},{"job":"a"},{"command":"wait"}],
            "counters":{"connections":3,"running":4,"accepted":10,"refused_connections":1,"ok":5,
            "error":6,"refused_requests":7,"cancelled":8,"panicked":9,"bytes_received":100,
            "bytes_sent":200}}"#;
        let text = metrics(status).unwrap();
        for line in [
            "kakehid_info{version=\"1.2 \\\"x\\\\\\n\u{fffd}\"} 1",
            "kakehid_uptime_seconds 61.005",
            "# TYPE kakehid_runs gauge",
            r#"kakehid_runs{job="a",state="running"} 2"#,
            r#"kakehid_runs{job="b",state="waiting"} 1"#,
            "kakehi_server_connections 3",
            "kakehi_server_requests_running 4",
            "# TYPE kakehi_server_requests_total counter",
            r#"kakehi_server_requests_total{outcome="ok"} 5"#,
            r#"kakehi_server_requests_total{outcome="panicked"} 9"#,
            "kakehi_server_received_bytes_total 100",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert_eq!(metrics(r#"{"version":"1"}"#), None);
    }
}

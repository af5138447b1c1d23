//! `kakehi doctor`: examines the way to the server. A failed connection is explained by the problem
//! that it finds.

use std::{
    io::{self, IsTerminal},
    path::Path,
    time::Duration,
};

use kakehi_doctor::{Finding, PATIENCE, Problem, Report, examine};

use super::{
    exit,
    failure::Failure,
    output::{Output, Paint},
};

/// Examines the path to the server's socket, and the server, for up to `patience`. Prints the
/// findings. Returns the exit status of the problem, or 0.
pub(crate) async fn run(path: &Path, patience: Duration, is_json: bool, output: &mut Output) -> u8 {
    let report = examine(path, patience).await;
    let text = if is_json {
        // A report is always JSON.
        serde_json::to_string(&report).unwrap_or_default() + "\n"
    } else if io::stdout().is_terminal() {
        list(&report, output.paint)
    } else {
        format!("{report}\n")
    };
    let code = report.first_problem().map_or(exit::OK, |finding| kind(finding).0);
    output.result(text.as_bytes());
    output.flush_now(code)
}

/// Why no connection to `path` can be made. `None` if the examination finds no problem.
pub(crate) async fn explain(path: &Path) -> Option<Failure> {
    let report = examine(path, PATIENCE).await;
    let finding = report.first_problem()?;
    let (code, word) = kind(finding);
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    let (why, remedy) = (part(&finding.why), part(&finding.remedy));
    Some(Failure::unsent(code, word, [&finding.what, &why, &remedy]))
}

/// The exit status, and the word for a program.
fn kind(finding: &Finding) -> (u8, &'static str) {
    match finding.problem {
        None => (exit::OK, "ok"),
        Some(Problem::InvalidPath) => (exit::USAGE, "usage"),
        Some(Problem::Busy) => (exit::BUSY, "busy"),
        Some(Problem::Protocol) => (exit::PROTOCOL, "protocol"),
        Some(Problem::Permission) => (exit::PERMISSION, "permission"),
        Some(Problem::NoAnswer) => (exit::TIMEOUT, "timeout"),
        Some(_) => (exit::NOT_RUNNING, "not_running"),
    }
}

/// The findings for a person. The library has escaped them.
pub(super) fn list(report: &Report, paint: Paint) -> String {
    let mut lines = String::new();
    for Finding { problem, what, why, remedy, .. } in &report.findings {
        let mark = if problem.is_none() { paint.good("✓") } else { paint.bad("✗") };
        lines.extend([&*mark, " ", what, "\n"]);
        for (label, text) in [("  why: ", why), ("  try: ", remedy)] {
            if let Some(text) = text {
                lines.extend([label, text, "\n"]);
            }
        }
    }
    lines
}

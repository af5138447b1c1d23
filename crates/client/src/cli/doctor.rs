//! `client doctor`: what stands between here and the server, as a list; and its first finding, for
//! whoever cannot connect.

use std::{
    io::{self, IsTerminal},
    path::Path,
    time::Duration,
};

use kakehi_client::doctor::{Finding, PATIENCE, Problem, Report, examine};

use super::{
    exit,
    failure::Failure,
    output::{Output, Paint},
};

/// Examines the path to the server's socket, and the server, for up to `patience`, and prints what
/// it finds. Gives the exit status: that of the first problem.
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

/// Why no connection to `path` can be made, as far as an examination tells; `None`: it can.
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
        // There is no server to be had.
        Some(_) => (exit::NOT_RUNNING, "not_running"),
    }
}

/// For a person. The library has escaped what is in it.
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

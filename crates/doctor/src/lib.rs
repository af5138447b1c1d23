//! Explains why a server cannot be reached. Examines the path from `/` to the socket, then the
//! server, step by step.
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! # let (_dir, path) = server();
//! use std::time::Duration;
//! use kakehi_doctor::{Problem, examine};
//!
//! let report = examine(path, Duration::from_secs(1)).await;
//! assert!(report.is_healthy());
//!
//! let report = examine("/nowhere/app.sock", Duration::from_secs(1)).await;
//! let finding = report.first_problem().expect("no server listens");
//! assert_eq!(finding.problem, Some(Problem::NotRunning));
//! assert_eq!(finding.what, "/nowhere does not exist");
//! # }
//! ```

mod access;
mod answer;
mod file;
mod finding;
mod listener;
mod missing;
mod names;
mod process;
mod report;
mod show;
mod walk;

use std::{os::unix::ffi::OsStrExt, path::Path, time::Duration};

use tokio::time::Instant;

pub use finding::{Check, Finding, Problem};
pub use report::Report;
use show::{command, show};

/// The longest path of a socket, in bytes, without the terminating NUL.
const MAX_PATH: usize = 107;

/// The default time limit of [`examine`]: 1 s.
///
/// ```
/// assert_eq!(kakehi_doctor::PATIENCE.as_secs(), 1);
/// ```
pub const PATIENCE: Duration = Duration::from_secs(1);

/// Examines the path to a server's socket, and the server.
///
/// The checks, in order:
/// 1. The path is valid for a socket.
/// 2. Each directory on the path exists, and this process may search it.
/// 3. The socket exists, and this process may write to it.
/// 4. A server listens on the socket and answers.
/// 5. The server accepts requests from this user.
/// 6. The protocol versions match.
///
/// The examination ends at the first problem, because later steps depend on earlier ones.
///
/// The server receives one request, for its `status`. A server without that command refuses it,
/// which also counts as an answer. `patience` limits connecting and answering together; zero
/// counts as [`PATIENCE`]. Files are examined by blocking system calls, which can take long on an
/// unreachable network file system.
///
/// # Cancel safety
/// Cancel safe. Dropping the future closes the connection.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use kakehi_doctor::{PATIENCE, examine};
///
/// for finding in examine("/run/app/app.sock", PATIENCE).await.findings {
///     println!("{finding}");
/// }
/// # }
/// ```
pub async fn examine(path: impl AsRef<Path>, patience: Duration) -> Report {
    let path = path.as_ref();
    let patience = if patience.is_zero() { PATIENCE } else { patience };
    let mut findings = vec![];
    if let Err(problem) = look(path, patience, &mut findings).await {
        findings.push(problem);
    }
    Report { path: show(path), findings }
}

/// Each step adds a finding without a problem, or ends the examination with a problem.
async fn look(path: &Path, patience: Duration, findings: &mut Vec<Finding>) -> Result<(), Finding> {
    findings.push(path_itself(path)?);
    let place = walk::to_the_file(path, findings)?;
    findings.push(file::is_socket(&place)?);
    findings.push(file::is_writable(path, &place)?);

    let start = Instant::now();
    let (stream, listener) = listener::connect(path, patience).await?;
    findings.push(listener.finding());
    let left = patience.saturating_sub(start.elapsed());
    let answer = answer::ask(stream, left).await;
    if let (answer::Answer::Ended, Some(pid)) = (&answer, listener.pid) {
        process::exits(pid).await;
    }
    answer::judge(path, &listener, answer, patience, findings)
}

/// Returns the report for a first response with this payload. For fuzzing.
#[doc(hidden)]
#[must_use]
pub fn probe(payload: &[u8]) -> Report {
    let path = Path::new("/run/app/app.sock");
    let listener = listener::Listener { uid: 0, pid: None };
    let answer = answer::Answer::of(payload);
    let mut findings = vec![];
    let judged = answer::judge(path, &listener, answer, PATIENCE, &mut findings);
    findings.extend(judged.err());
    Report { path: show(path), findings }
}

fn path_itself(path: &Path) -> Result<Finding, Finding> {
    let bytes = path.as_os_str().as_bytes();
    let length = bytes.len();
    let invalid = |what: String, why: &str, remedy: String| {
        Err(Finding::problem(Check::Path, Problem::InvalidPath, what, why, remedy))
    };
    let choose = || "give the path of the server's socket, like /run/NAME/NAME.sock".to_owned();
    if bytes.is_empty() {
        return invalid("the path is empty".into(), "a socket needs a path", choose());
    }
    if bytes.contains(&0) {
        let what = format!("the path {} contains a NUL byte", show(path));
        return invalid(what, "the system ends the path there", choose());
    }
    if bytes.ends_with(b"/") || bytes.ends_with(b"/.") || bytes == b"." {
        let what = format!("the path {} names a directory", show(path));
        return invalid(what, "a socket is a file, not a directory", choose());
    }
    if length > MAX_PATH {
        let what = format!("the path has {length} bytes; the maximum for a socket is {MAX_PATH}");
        let why = "the system's socket addresses have no room for more";
        return invalid(what, why, shorter(path));
    }
    Ok(Finding::well(Check::Path, format!("the path has {length} bytes of at most {MAX_PATH}")))
}

/// A relative path reaches a socket at any depth, and a server may listen on one.
fn shorter(path: &Path) -> String {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if name.len() <= MAX_PATH && parent != Path::new("") => format!(
            "choose a shorter path; to reach an existing socket, use its name alone after: \
             cd {}",
            command(parent)
        ),
        _ => "choose a shorter path".to_owned(),
    }
}

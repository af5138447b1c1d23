//! Why a server cannot be reached: the path from `/` to the socket, and what is behind it, looked
//! at step by step as a person would who knows.
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/server.rs"));
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! # let (_dir, path) = server();
//! use std::time::Duration;
//! use kakehi_client::doctor::{Problem, examine};
//!
//! let report = examine(path, Duration::from_secs(1)).await;
//! assert!(report.is_healthy());
//!
//! let report = examine("/nowhere/app.sock", Duration::from_secs(1)).await;
//! let finding = report.first_problem().expect("nobody is there");
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

/// The bytes that the system has room for in a socket's path, the closing NUL aside.
const MAX_PATH: usize = 107;

/// How long [`examine`] waits for the server unless it is told otherwise: 1 s.
///
/// ```
/// assert_eq!(kakehi_client::doctor::PATIENCE.as_secs(), 1);
/// ```
pub const PATIENCE: Duration = Duration::from_secs(1);

/// Examines the path to a server's socket, and the server.
///
/// It checks that the path can be a socket's; of each directory on the way that it is there, is
/// one, and lets this process through; that there is a socket, and that this process may write to
/// it; that somebody listens on it, and answers; that the server takes requests from here; and the
/// versions. It ends at the first problem, since what comes behind cannot be known.
///
/// The server is sent one request, for its `status`: one that does not know that command says so,
/// which is an answer too. It takes up to `patience` for connecting and answering together; zero
/// counts as [`PATIENCE`], so that it never waits without limit. The files are looked at by plain
/// system calls, which on a dead network file system take their time.
///
/// # Cancel safety
/// Cancel safe: it leaves nothing behind, and the server's answer is nobody's.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use kakehi_client::doctor::{PATIENCE, examine};
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

/// Every step adds what is well, or ends all of it by what is not.
async fn look(path: &Path, patience: Duration, findings: &mut Vec<Finding>) -> Result<(), Finding> {
    findings.push(path_itself(path)?);
    let place = walk::to_the_file(path, findings)?;
    findings.push(file::is_socket(path, &place)?);
    findings.push(file::is_writable(path, &place)?);

    let start = Instant::now();
    let (stream, listener) = listener::connect(path, patience).await?;
    findings.push(listener.finding());
    let left = patience.saturating_sub(start.elapsed());
    let answer = answer::ask(stream, left).await;
    answer::judge(path, &listener, answer, patience, findings)
}

/// What is found if the first response has this payload: for the binary's probe.
#[cfg(feature = "cli")]
pub(crate) fn probe(payload: &[u8]) -> Report {
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
        return invalid("the path is empty".into(), "no socket has an empty path", choose());
    }
    if bytes.contains(&0) {
        let what = format!("the path {} holds a NUL byte", show(path));
        return invalid(what, "the system ends a path there", choose());
    }
    if bytes.ends_with(b"/") || bytes.ends_with(b"/.") || bytes == b"." {
        let what = format!("the path {} names a directory", show(path));
        return invalid(what, "a socket is a file in a directory", choose());
    }
    if length > MAX_PATH {
        let what = format!("the path has {length} bytes, where a socket's has {MAX_PATH} at most");
        let why = "the system has no room for more in a socket's address";
        return invalid(what, why, shorter(path));
    }
    Ok(Finding::well(Check::Path, format!("the path has {length} bytes of at most {MAX_PATH}")))
}

/// A relative path reaches a socket of any depth; a server can have been started that way too.
fn shorter(path: &Path) -> String {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if name.len() <= MAX_PATH && parent != Path::new("") => format!(
            "choose a shorter path; a socket that is there already is reached by its name alone: \
             cd {}",
            command(parent)
        ),
        _ => "choose a shorter path".to_owned(),
    }
}

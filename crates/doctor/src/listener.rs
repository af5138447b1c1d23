//! Connects to the socket and identifies the listening process.

use std::{fmt, io, path::Path, time::Duration};

use rustix::io::Errno;
use tokio::{net::UnixStream, time::timeout};

use super::{Check, Finding, Problem, command, names, process, show};

/// The credentials of the listening process at its call of `listen` (`SO_PEERCRED`).
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) uid: u32,
    /// `None` for a process in another container: it has no process id here.
    pub(super) pid: Option<i32>,
}

impl Listener {
    pub(super) fn finding(&self) -> Finding {
        Finding::well(Check::Listener, format!("a server listens: {self}"))
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid.map(|pid| (pid, process::name(pid))) {
            Some((pid, Some(name))) => write!(f, "{name} (pid {pid})")?,
            Some((pid, None)) => write!(f, "pid {pid}")?,
            None => f.write_str("a process in another container")?,
        }
        write!(f, ", run by {}", names::user(self.uid))
    }
}

pub(super) async fn connect(
    path: &Path,
    patience: Duration,
) -> Result<(UnixStream, Listener), Finding> {
    let connected = match timeout(patience, UnixStream::connect(path)).await {
        Ok(connected) => connected,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    let stream = connected.map_err(|error| unconnected(path, &error))?;
    let peer = stream.peer_cred().map_err(|error| unconnected(path, &error))?;
    let pid = peer.pid().filter(|pid| *pid != 0);
    Ok((stream, Listener { uid: peer.uid(), pid }))
}

fn unconnected(path: &Path, error: &io::Error) -> Finding {
    let (shown, word) = (show(path), command(path));
    let problem = |problem, what: String, why: &str, remedy: String| {
        Finding::problem(Check::Listener, problem, what, why, remedy)
    };
    match Errno::from_io_error(error) {
        Some(Errno::CONNREFUSED) => problem(
            Problem::NotRunning,
            format!("no server listens on {shown}"),
            "the file remains from a server that has exited or was killed",
            "start the server; it replaces such a socket".into(),
        ),
        Some(Errno::AGAIN) => problem(
            Problem::Busy,
            format!("the connection queue of {shown} is full"),
            "the server accepts no connections: it is stopped, hangs, or is overloaded",
            format!("show the process: ss -xlp src {word}"),
        ),
        Some(Errno::NOENT) => problem(
            Problem::NotRunning,
            format!("the socket {shown} no longer exists"),
            "the server has just exited",
            "start the server".into(),
        ),
        Some(Errno::PROTOTYPE) => problem(
            Problem::Protocol,
            format!("the socket {shown} is not a stream socket"),
            "it takes datagrams or packets, so it belongs to another program",
            format!(
                "give the path that the server listens on; to show the owner: ss -xlp src {word}"
            ),
        ),
        Some(Errno::ACCESS | Errno::PERM) => problem(
            Problem::Permission,
            format!("the system does not let this process connect to {shown}"),
            "the file permissions allow it; a security module, a sandbox, or the protection of \
             links in world-writable directories denies it",
            "read the kernel's log: journalctl -k".into(),
        ),
        _ => problem(
            Problem::System,
            format!("cannot connect to {shown}"),
            &error.to_string(),
            format!("show the socket's owner: ss -xlp src {word}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Errors that a test cannot cause on a real socket.
    #[test]
    fn each_error_of_connecting_is_a_finding_with_a_remedy() {
        for (error, found, words) in [
            (Errno::CONNREFUSED, Problem::NotRunning, "no server listens on"),
            (Errno::AGAIN, Problem::Busy, "is full"),
            (Errno::NOENT, Problem::NotRunning, "no longer exists"),
            (Errno::PROTOTYPE, Problem::Protocol, "is not a stream socket"),
            (Errno::ACCESS, Problem::Permission, "does not let this process connect"),
            (Errno::PERM, Problem::Permission, "does not let this process connect"),
            (Errno::NOMEM, Problem::System, "cannot connect to"),
        ] {
            let finding = unconnected(Path::new("/run/app.sock"), &error.into());
            assert_eq!((finding.check, finding.problem), (Check::Listener, Some(found)));
            assert!(finding.what.contains(words), "{finding}");
            assert!(finding.what.contains("/run/app.sock"), "{finding}");
            let [why, remedy] = [finding.why, finding.remedy].map(Option::unwrap_or_default);
            assert!(!why.is_empty() && !remedy.is_empty());
        }
    }

    #[test]
    fn a_process_in_another_container_is_named_as_such() {
        let listener = Listener { uid: 0, pid: None };
        assert_eq!(listener.to_string(), "a process in another container, run by root (uid 0)");
        let gone = Listener { uid: 0, pid: Some(i32::MAX) };
        assert_eq!(gone.to_string(), format!("pid {}, run by root (uid 0)", i32::MAX));
    }
}

//! Whether somebody listens, and who.

use std::{fmt, io, path::Path, time::Duration};

use rustix::io::Errno;
use tokio::{net::UnixStream, time::timeout};

use super::{Check, Finding, Problem, command, names, process, show};

/// Who listens, as the kernel knew them when they began to.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) uid: u32,
    /// Of another container, it has no number here.
    pub(super) pid: Option<i32>,
}

impl Listener {
    pub(super) fn finding(&self) -> Finding {
        Finding::well(Check::Listener, format!("somebody listens: {self}"))
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid.map(|pid| (pid, process::name(pid))) {
            Some((pid, Some(name))) => write!(f, "{name} (pid {pid})")?,
            Some((pid, None)) => write!(f, "pid {pid}")?,
            None => f.write_str("a process of another container")?,
        }
        write!(f, " of {}", names::user(self.uid))
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
            format!("nobody listens on {shown}"),
            "the file is left from a server that has ended or was killed",
            "start the server: it takes such a socket over by itself".into(),
        ),
        Some(Errno::AGAIN) => problem(
            Problem::Busy,
            format!("the queue of connections to {shown} is full"),
            "the server does not accept any: it is stopped, hangs, or has too much to do",
            format!("see which process it is, and what it does: ss -xlp src {word}"),
        ),
        Some(Errno::NOENT) => problem(
            Problem::NotRunning,
            format!("there is no socket at {shown} any more"),
            "the server has ended just now",
            "start the server".into(),
        ),
        Some(Errno::PROTOTYPE) => problem(
            Problem::Protocol,
            format!("the socket {shown} is not one for streams"),
            "it is made for single packets, by another kind of server",
            format!(
                "give the path that the server listens on; to see whose it is: ss -xlp src {word}"
            ),
        ),
        Some(Errno::ACCESS | Errno::PERM) => problem(
            Problem::Permission,
            format!("the system does not let this process connect to {shown}"),
            "the permissions of files would allow it: a security module or a sandbox does not, or \
             the protection of links in directories that all can write to",
            "see what the kernel says: journalctl -k".into(),
        ),
        _ => problem(
            Problem::System,
            format!("cannot connect to {shown}"),
            &error.to_string(),
            format!("see whose socket it is: ss -xlp src {word}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the system says, where it cannot be made to say it.
    #[test]
    fn each_error_of_connecting_is_a_finding_with_a_remedy() {
        for (error, found, words) in [
            (Errno::CONNREFUSED, Problem::NotRunning, "nobody listens on"),
            (Errno::AGAIN, Problem::Busy, "is full"),
            (Errno::NOENT, Problem::NotRunning, "any more"),
            (Errno::PROTOTYPE, Problem::Protocol, "is not one for streams"),
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
    fn a_process_of_another_container_is_called_so() {
        let listener = Listener { uid: 0, pid: None };
        assert_eq!(listener.to_string(), "a process of another container of root (uid 0)");
        let gone = Listener { uid: 0, pid: Some(i32::MAX) };
        assert_eq!(gone.to_string(), format!("pid {} of root (uid 0)", i32::MAX));
    }
}

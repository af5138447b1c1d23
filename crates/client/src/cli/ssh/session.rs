//! A running `ssh`, and what it says.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::AsyncReadExt,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::{SshError, SshHost, error::End};

/// How long ssh may take to end once the connection has.
const ENDING: Duration = Duration::from_secs(2);

/// How long its last words may take to arrive then. A connection that is shared stays open in the
/// background, and stderr with it.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// How much of them is kept.
const MOST_WORDS: usize = 4096;

/// An `ssh`, ended when this is dropped before it is established; later it ends by itself when its
/// stdin is closed, since connections of others may go through it.
pub(super) struct Session {
    pub(super) is_established: bool,
    child: Child,
    listening: tokio::task::JoinHandle<()>,
    said: Arc<Mutex<Vec<u8>>>,
    host: SshHost,
    client: OsString,
}

impl Session {
    pub(super) fn start(
        ssh: &Path,
        host: &SshHost,
        client: &OsStr,
        command: &str,
    ) -> Result<(Self, ChildStdin, ChildStdout), SshError> {
        // Ctrl-C reaches all that runs in the terminal. What it does is up to this process: ssh is
        // to carry the answer to that. It leaves a signal ignored that it finds so.
        let mut child = Command::new("/bin/sh")
            .args(["-c", r#"trap "" INT; exec "$0" "$@""#])
            .arg(ssh)
            .args(arguments(host))
            .args(["--", &host.host, command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| SshError::system("cannot start ssh", &error))?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(SshError::system("cannot talk to ssh", &std::io::ErrorKind::Other.into()));
        };
        let said = Arc::default();
        let listening = tokio::spawn(listen(stderr, Arc::clone(&said)));
        let (host, client) = (host.clone(), client.to_owned());
        let session = Self { is_established: false, child, listening, said, host, client };
        Ok((session, stdin, stdout))
    }

    /// Waits for ssh's end, and says what was wrong with it; `None`: nothing.
    pub(super) async fn end(mut self) -> Option<SshError> {
        let status = timeout(ENDING, self.child.wait()).await.ok()?.ok()?;
        let _ = timeout(LAST_WORDS, &mut self.listening).await;
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        SshError::of(End {
            host: &self.host,
            client: &self.client,
            was_established: self.is_established,
            status,
            said: &said,
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // No id: it has ended. A signal that it can act on, as it may be asking for a password.
        let pid = self.child.id().filter(|_| !self.is_established);
        if let Some(pid) = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            let _ = kill_process(pid, Signal::TERM);
        }
        self.listening.abort();
    }
}

/// No terminal there, no escape character, nothing that the user's settings add for a shell.
fn arguments(host: &SshHost) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["-T", "-e", "none", "-o", "RemoteCommand=none", "-o", "ClearAllForwardings=yes"]
            .map(str::to_owned)
            .into();
    if let Some(port) = host.port {
        arguments.extend(["-p".into(), port.to_string()]);
    }
    if let Some(user) = &host.user {
        arguments.extend(["-l".into(), user.clone()]);
    }
    arguments
}

/// Keeps the end of what is said, so that nobody who says a lot has to wait.
async fn listen(mut stderr: ChildStderr, said: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = vec![0; MOST_WORDS];
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let excess = said.len().saturating_sub(MOST_WORDS);
        said.drain(..excess);
    }
}

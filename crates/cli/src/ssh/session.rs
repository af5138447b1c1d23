//! A running `ssh`, and its error output.

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

/// How long its last error output may take to arrive then. A shared connection stays open in the
/// background, and stderr with it.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// How much of the error output is kept, in bytes.
const MOST_WORDS: usize = 4096;

/// A running `ssh`. Dropping this ends it before the connection is made. Later, it ends when its
/// stdin is closed, because other connections may share it.
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
        options: Vec<String>,
        host: &SshHost,
        client: &OsStr,
        command: &str,
    ) -> Result<(Self, ChildStdin, ChildStdout), SshError> {
        // Ctrl-C and Ctrl-\ signal all processes of the terminal. This process handles them, and needs ssh to
        // receive the final response. ssh keeps a signal ignored that is ignored at its start.
        let mut child = Command::new("/bin/sh")
            .args(["-c", r#"trap "" INT QUIT; exec "$0" "$@""#])
            .arg(ssh)
            .args(options)
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

    /// Waits until ssh ends. Returns its error, if it failed.
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
        // Without an id, it has ended. SIGTERM lets ssh restore a terminal that it asks for a password.
        let pid = self.child.id().filter(|_| !self.is_established);
        if let Some(pid) = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            let _ = kill_process(pid, Signal::TERM);
        }
        self.listening.abort();
    }
}

/// Options: no terminal, no escape character, and no command or forwarding from the configuration.
pub(super) fn arguments(host: &SshHost) -> Vec<String> {
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

/// Reads all error output and keeps its end, so that ssh never waits for a reader.
async fn listen(mut stderr: ChildStderr, said: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = vec![0; MOST_WORDS];
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let excess = said.len().saturating_sub(MOST_WORDS);
        said.drain(..excess);
    }
}

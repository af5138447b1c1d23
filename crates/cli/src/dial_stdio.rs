//! `kakehi dial-stdio`: the other end of `--host`. It connects its stdin and stdout to the server's
//! socket.
//!
//! At the end of stdin, the socket is closed at once, so that the server cancels the request. A
//! half-close would not do: when the client is killed, ssh closes stdin here and keeps stdout open.
//! The client never closes its sending side before the final response.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::Shutdown,
    os::{fd::AsFd, unix::net::UnixStream as StdStream},
    path::{Path, PathBuf},
    thread,
};

use kakehi_doctor::PATIENCE;
use serde_json::json;
use tokio::{net::UnixStream, time::timeout};

use super::{doctor::explain, exit, failure::Failure};

/// Written to stdout first, with `--announce`. Bytes before it come from a login script; they are
/// text, which has no NUL byte.
pub(crate) const ANNOUNCEMENT: &[u8] = b"\0kakehi\0";

/// Connects, and copies bytes until one side ends. Returns the exit status. A failure goes to
/// stderr: with `announce` as one line of JSON, for the client at the other end.
pub(crate) async fn run(path: Result<PathBuf, Failure>, announce: bool) -> u8 {
    let dialed = match path {
        Ok(path) => dial(&path, announce).await,
        Err(failure) => Err(failure),
    };
    let Err(failure) = dialed else { return exit::OK };
    let text = if announce {
        let Failure { what, why, remedy, .. } = &failure;
        format!("{}\n", json!({ "what": what, "why": why, "remedy": remedy }))
    } else {
        failure.text("error:")
    };
    // Without a reader of stderr, the exit status has to do.
    let _ = io::stderr().write_all(text.as_bytes());
    failure.code
}

async fn dial(path: &Path, announce: bool) -> Result<(), Failure> {
    let failed = |error: &io::Error| {
        let parts = ["cannot copy bytes to the server", &error.to_string(), "try again"];
        Failure::unsent(exit::NOT_RUNNING, "not_running", parts)
    };
    let connected = match timeout(PATIENCE, UnixStream::connect(path)).await {
        Ok(connected) => connected,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    match connected {
        Ok(socket) => socket
            .into_std()
            .and_then(|socket| join(&socket, announce))
            .map_err(|error| failed(&error)),
        // An examination says more than the error, unless it finds no problem.
        Err(error) => Err(explain(path).await.unwrap_or_else(|| failed(&error))),
    }
}

/// Uses threads: reading the standard streams blocks, and a runtime would wait for it at its end.
fn join(socket: &StdStream, announce: bool) -> io::Result<()> {
    socket.set_nonblocking(false)?;
    let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    if announce {
        stdout.write_all(ANNOUNCEMENT)?;
    }
    let to_server = socket.try_clone()?;
    thread::spawn(move || {
        // The end of stdin and the end of the server both end the connection.
        let _ = pass(stdin, &to_server);
        let _ = to_server.shutdown(Shutdown::Both);
    });
    match pass(socket, stdout) {
        Err(error) if is_end(&error) => Ok(()),
        passed => passed,
    }
}

/// Writes all bytes that it has read before it reads more, so that no byte waits here.
fn pass(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(buffer.get(..count).unwrap_or_default())?;
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

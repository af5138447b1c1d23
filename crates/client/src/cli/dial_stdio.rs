//! `client dial-stdio`: the far end of `--host`, which joins its own stdin and stdout to the
//! server's socket.
//!
//! The end of stdin is the end of the client: the socket is closed at once, so that the server
//! cancels what it does for it. It is not passed on as a half-close, since ssh cannot tell the two
//! apart: when the client is killed, ssh closes stdin here and keeps stdout open. Kakehi's client
//! never closes its sending side before it has its final answer.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::Shutdown,
    os::{fd::AsFd, unix::net::UnixStream as StdStream},
    path::Path,
    thread,
};

use kakehi_client::doctor::PATIENCE;
use serde_json::json;
use tokio::{net::UnixStream, time::timeout};

use super::{doctor::explain, exit, failure::Failure};

/// What is written to stdout first, where that was asked for: whatever comes before it was written
/// by a login script, and text holds no NUL byte.
pub(crate) const ANNOUNCEMENT: &[u8] = b"\0kakehi\0";

/// Connects, and passes bytes until one of the sides ends; gives the exit status. Why it cannot is
/// told on stderr: with `announce` as one line of JSON, for the client at the other end.
pub(crate) async fn run(path: &Path, announce: bool) -> u8 {
    let failure = match dial(path, announce).await {
        Ok(()) => return exit::OK,
        Err(failure) => failure,
    };
    let text = if announce {
        let Failure { what, why, remedy, .. } = &failure;
        format!("{}\n", json!({ "what": what, "why": why, "remedy": remedy }))
    } else {
        failure.text("error:")
    };
    // Where nobody reads stderr, there is nobody to tell.
    let _ = io::stderr().write_all(text.as_bytes());
    failure.code
}

async fn dial(path: &Path, announce: bool) -> Result<(), Failure> {
    let failed = |error: &io::Error| {
        let parts = ["the bytes cannot be passed on", &error.to_string(), "try again"];
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
        // An examination says more than the error does, unless all is well by now.
        Err(error) => Err(explain(path).await.unwrap_or_else(|| failed(&error))),
    }
}

/// In threads: reading the standard streams blocks, and a runtime would wait for it at its end.
fn join(socket: &StdStream, announce: bool) -> io::Result<()> {
    socket.set_nonblocking(false)?;
    let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    if announce {
        stdout.write_all(ANNOUNCEMENT)?;
    }
    let to_server = socket.try_clone()?;
    thread::spawn(move || {
        // The end of stdin, or of the server: in both cases of all of it.
        let _ = pass(stdin, &to_server);
        let _ = to_server.shutdown(Shutdown::Both);
    });
    match pass(socket, stdout) {
        Err(error) if is_end(&error) => Ok(()),
        passed => passed,
    }
}

/// What was read is written before more is read, so that nothing waits here.
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

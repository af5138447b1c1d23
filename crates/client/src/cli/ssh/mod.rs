//! `--host ssh://[user@]host[:port]`: a server on another machine, by way of `ssh`, as if its socket
//! were here.
//!
//! Here runs `ssh HOST client dial-stdio`, there the bytes are passed to the socket; the same
//! protocol goes over that. Who may log in is ssh's business, with its own files, agent and
//! questions.

mod error;
mod host;
mod quote;
mod session;
mod stream;

use std::{
    env,
    ffi::OsStr,
    io,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::ExitStatus,
};

use tokio::io::AsyncReadExt;

use super::{dial_stdio::ANNOUNCEMENT, signals::Signals};
pub(crate) use error::SshError;
pub(crate) use host::SshHost;
use quote::quote;
use session::Session;
pub(crate) use stream::SshStream;

/// What there is to say, for the probe, when ssh has ended with this code and these last words.
pub(crate) fn probe(code: u8, said: &[u8]) -> Option<SshError> {
    let host: SshHost = "ssh://user@example.org:22".parse().ok()?;
    let client = OsStr::new("client");
    let status = ExitStatus::from_raw(i32::from(code) << 8);
    SshError::of(error::End { host: &host, client, was_established: said.is_ascii(), status, said })
}

/// Names the client on the other machine, where it is not on the PATH there.
const REMOTE_CLIENT: &str = "KAKEHI_REMOTE_CLIENT";

/// What login scripts may write before the client there has its turn.
const MOST_NOISE: usize = 64 * 1024;

/// Connects to a server's socket on another machine: `socket` is its path there, by default what
/// the client there goes by.
///
/// There is no clock in it, since ssh may ask the user for something: whoever wants one puts it
/// around. Ctrl-C and SIGTERM end it with an error, and from here on do not end this process by
/// themselves.
///
/// # Errors
/// Nothing of a request has been sent: there is no ssh here, it cannot connect or log in, there is
/// no client, or the client finds no server.
///
/// # Cancel safety
/// Dropped before it is ready, it ends ssh.
pub(crate) async fn connect(host: &SshHost, socket: Option<&Path>) -> Result<SshStream, SshError> {
    // Before ssh starts, which is left alone by Ctrl-C.
    let mut signals =
        Signals::new().map_err(|error| SshError::system("cannot wait for signals", &error))?;
    let client = env::var_os(REMOTE_CLIENT).filter(|name| !name.is_empty());
    let client = client.unwrap_or_else(|| "client".into());
    let command = remote_command(&client, socket)?;
    let (mut session, stdin, mut stdout) = Session::start(&ssh()?, host, &client, &command)?;
    let announced = tokio::select! {
        announced = announced(&mut stdout) => announced,
        code = signals.next() => return Err(SshError::interrupted(code, host)),
    };
    match announced {
        Ok(Some(early)) => {
            session.is_established = true;
            Ok(SshStream::new(session, stdin, stdout, early))
        }
        Ok(None) => {
            drop((stdin, stdout));
            Err(session.end().await.unwrap_or_else(|| SshError::not_the_client(host, &client)))
        }
        Err(error) => Err(SshError::system("cannot read from ssh", &error)),
    }
}

/// As the shell there takes it.
fn remote_command(client: &OsStr, socket: Option<&Path>) -> Result<String, SshError> {
    let mut command = quote(client)?;
    if let Some(path) = socket {
        command.push_str(" --socket ");
        command.push_str(&quote(path.as_os_str())?);
    }
    command.push_str(" dial-stdio --announce");
    Ok(command)
}

/// Waits for the client there to be connected. Gives what came behind that; `None` if it ends
/// before, or is no such client.
async fn announced(stdout: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut seen = Vec::with_capacity(1024);
    loop {
        if let Some(at) = seen.windows(ANNOUNCEMENT.len()).position(|bytes| bytes == ANNOUNCEMENT) {
            return Ok(Some(seen.split_off(at + ANNOUNCEMENT.len())));
        }
        if seen.len() > MOST_NOISE || stdout.read_buf(&mut seen).await? == 0 {
            return Ok(None);
        }
    }
}

fn ssh() -> Result<PathBuf, SshError> {
    let folders = env::var_os("PATH").unwrap_or_default();
    let is_program = |path: &PathBuf| {
        path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    env::split_paths(&folders)
        .map(|folder| folder.join("ssh"))
        .find(is_program)
        .ok_or_else(SshError::no_ssh)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn what_login_scripts_write_is_left_out_however_it_is_cut() {
        for early in [&b""[..], b"{}\0"] {
            let bytes = [b"welcome\nto \0kake", ANNOUNCEMENT, early].concat();
            for size in 1..bytes.len() {
                let (mut theirs, mut ours) = tokio::io::duplex(size);
                let bytes = bytes.clone();
                tokio::spawn(async move { theirs.write_all(&bytes).await });
                let mut found = announced(&mut ours).await.unwrap().unwrap();
                ours.read_to_end(&mut found).await.unwrap();
                assert_eq!(found, early);
            }
        }
        assert_eq!(announced(&mut &b"welcome\n"[..]).await.unwrap(), None);
        assert_eq!(announced(&mut tokio::io::repeat(b'x')).await.unwrap(), None);
    }
}

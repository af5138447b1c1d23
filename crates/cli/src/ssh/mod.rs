//! `--host ssh://[user@]host[:port]`: a server on another machine, through ssh.
//!
//! This machine runs `ssh HOST kakehi dial-stdio`, which connects its standard streams to the socket
//! on the other machine. The protocol is the same. Login and keys are left to ssh.

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

/// The error for an ssh that ended with this code and these last words, for fuzzing.
pub(crate) fn probe(code: u8, said: &[u8]) -> Option<SshError> {
    let host: SshHost = "ssh://user@example.org:22".parse().ok()?;
    let client = OsStr::new("kakehi");
    let status = ExitStatus::from_raw(i32::from(code) << 8);
    SshError::of(error::End { host: &host, client, was_established: said.is_ascii(), status, said })
}

/// The variable that names the client on the other machine. Default: `kakehi`.
const REMOTE_CLIENT: &str = "KAKEHI_REMOTE_CLIENT";

/// The most bytes that login scripts may write before the client starts.
const MOST_NOISE: usize = 64 * 1024;

/// Connects to a server's socket on another machine. `socket` is the path there; by default, the
/// client there chooses it.
///
/// Has no timeout of its own, because with `may_ask` ssh may ask the user for a password. Ctrl-C and SIGTERM end it
/// with an error. From then on, they do not end this process by themselves.
///
/// # Errors
/// ssh is missing, cannot connect or cannot log in; or the client is missing there, or finds no
/// server. The request was not sent.
///
/// # Cancel safety
/// Cancel safe: dropping the future ends ssh.
pub(crate) async fn connect(
    host: &SshHost,
    socket: Option<&Path>,
    may_ask: bool,
) -> Result<SshStream, SshError> {
    // Handled before ssh starts, which ignores Ctrl-C.
    let mut signals =
        Signals::new(false).map_err(|error| SshError::system("cannot wait for signals", &error))?;
    let client = env::var_os(REMOTE_CLIENT).filter(|name| !name.is_empty());
    let client = client.unwrap_or_else(|| "kakehi".into());
    let command = remote_command(&client, socket)?;
    let mut options = session::arguments(host);
    if !may_ask {
        options.extend(["-o".to_owned(), "BatchMode=yes".to_owned()]);
    }
    let start = Session::start(&ssh()?, options, host, &client, &command);
    let (mut session, stdin, mut stdout) = start?;
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

/// The command for the shell on the other machine.
fn remote_command(client: &OsStr, socket: Option<&Path>) -> Result<String, SshError> {
    let mut command = quote(client)?;
    if let Some(path) = socket {
        command.push_str(" --socket ");
        command.push_str(&quote(path.as_os_str())?);
    }
    command.push_str(" dial-stdio --announce");
    Ok(command)
}

/// Waits until the client there has connected. Returns the bytes that follow; `None` if the program
/// ends before, or is not the client.
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
    async fn output_of_login_scripts_is_skipped() {
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

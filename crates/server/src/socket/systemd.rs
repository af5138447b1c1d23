//! A socket handed over by systemd: `LISTEN_PID` and `LISTEN_FDS`, as in `sd_listen_fds(3)`.

use std::{env, io, os::unix::net::UnixListener, process};

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;

use super::error::BindError;

/// `None` when nothing was handed over to this process.
pub(super) fn take_listener() -> Result<Option<UnixListener>, BindError> {
    // `listenfd` takes descriptors without a `LISTEN_PID` too; they may be meant for a parent.
    if number("LISTEN_PID")? != Some(process::id()) {
        return Ok(None);
    }
    match number("LISTEN_FDS")? {
        None | Some(0) => return Ok(None),
        Some(1) => {}
        Some(n) => return Err(BindError::activation(format!("it hands over {n} sockets, not 1"))),
    }
    let Some(listener) = ListenFd::from_env().take_unix_listener(0).map_err(unusable)? else {
        return Ok(None);
    };
    match socket_acceptconn(&listener) {
        Ok(true) => Ok(Some(listener)),
        Ok(false) => Err(BindError::activation("it does not listen")),
        Err(error) => Err(unusable(error.into())),
    }
}

pub(super) fn unusable(error: io::Error) -> BindError {
    BindError::activation(error.to_string()).with_source(error)
}

fn number(name: &str) -> Result<Option<u32>, BindError> {
    let Some(value) = env::var_os(name) else { return Ok(None) };
    let value = value.to_string_lossy();
    let not_a_number = |_| BindError::activation(format!("{name}={value:?} is not a number"));
    value.parse().map(Some).map_err(not_a_number)
}

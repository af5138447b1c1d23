//! What is already there: refused, or removed if it is the dead socket of an earlier server.

use std::os::{fd::OwnedFd, unix::net::UnixStream as StdStream};

use rustix::{
    fs::{FileType, Stat},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with},
    process::geteuid,
};
use tokio::net::UnixStream;

use super::{
    error::{BindError, BindErrorKind},
    place::Place,
};

enum Probe {
    Live(Option<i32>),
    Stale,
    Gone,
}

/// Refuses what is never to be removed. `owner`: whom an earlier server gave its socket to.
/// Without the lock already, so that no lock file is left beside what is none of ours.
pub(super) fn refuse(place: &Place, owner: Option<u32>) -> Result<(), BindError> {
    match place.stat()? {
        Some(stat) => refuse_unless_ours(place, &stat, owner),
        None => Ok(()),
    }
}

/// Removes a socket that nobody listens on any more, and refuses everything else. The lock has to
/// be held: between its `bind` and its `listen`, a server looks as if it were dead.
pub(super) fn remove_stale(place: &Place, owner: Option<u32>) -> Result<(), BindError> {
    let Some(stat) = place.stat()? else { return Ok(()) };
    refuse_unless_ours(place, &stat, owner)?;
    match probe(place)? {
        Probe::Gone => Ok(()),
        Probe::Live(pid) => Err(in_use(place, pid)),
        Probe::Stale => match place.remove() {
            Ok(()) => {
                tracing::info!(path = %place.path.display(), "removed the socket of a dead server");
                Ok(())
            }
            Err(Errno::NOENT) => Ok(()),
            Err(error) => {
                let doing = "the socket of a dead server is there and cannot be removed";
                Err(BindError::io(&place.path, doing, error))
            }
        },
    }
}

fn refuse_unless_ours(place: &Place, stat: &Stat, owner: Option<u32>) -> Result<(), BindError> {
    let is_ours = stat.st_uid == geteuid().as_raw() || Some(stat.st_uid) == owner;
    let (what, remedy) = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Socket if is_ours => return Ok(()),
        FileType::Socket => {
            let why = format!("a socket of another user is there, of uid {}", stat.st_uid);
            let remedy = "have that user remove it, or choose another path";
            return Err(BindError::new(BindErrorKind::ForeignSocket, &place.path, why, remedy));
        }
        FileType::RegularFile => {
            ("a regular file", "choose another path, or remove the file if it is of no use")
        }
        FileType::Directory => ("a directory", "choose a path in that directory"),
        FileType::Symlink => ("a symbolic link", "choose the path that it leads to, or remove it"),
        FileType::Fifo => ("a named pipe", "choose another path, or remove the pipe"),
        _ => ("a device", "choose another path"),
    };
    let why = format!("{what} is there");
    Err(BindError::new(BindErrorKind::NotASocket, &place.path, why, remedy))
}

fn probe(place: &Place) -> Result<Probe, BindError> {
    let failed = |error| BindError::io(&place.path, "the socket there cannot be tried", error);
    // Non-blocking: a live server whose backlog is full would keep us waiting.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
    let address = SocketAddrUnix::new(&place.path).map_err(failed)?;
    match connect(&socket, &address) {
        Ok(()) => Ok(Probe::Live(peer_pid(socket))),
        // The backlog is full; or somebody listens in another way, by datagrams or the like.
        Err(Errno::AGAIN | Errno::PROTOTYPE) => Ok(Probe::Live(None)),
        Err(Errno::CONNREFUSED) => Ok(Probe::Stale),
        Err(Errno::NOENT) => Ok(Probe::Gone),
        Err(error) => Err(failed(error)),
    }
}

/// Not by `rustix`, whose process ids are never 0: that of a peer in another container is.
fn peer_pid(socket: OwnedFd) -> Option<i32> {
    let peer = UnixStream::from_std(StdStream::from(socket)).ok()?;
    peer.peer_cred().ok()?.pid().filter(|&pid| pid != 0)
}

pub(super) fn in_use(place: &Place, pid: Option<i32>) -> BindError {
    let why = match pid {
        Some(pid) => format!("another server listens there (pid {pid})"),
        None => "another server listens there".into(),
    };
    let remedy = "stop that server, or choose another path";
    BindError::new(BindErrorKind::InUse, &place.path, why, remedy)
}

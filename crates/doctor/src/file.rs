//! Checks the file at the end of the path.

use std::{fmt, path::Path};

use rustix::fs::{FileType, Stat};

use super::{
    Check, Finding, Problem,
    access::{Want, is_allowed, letters, refusal},
    missing::failed,
    names, show,
    walk::Place,
};

/// The metadata of a file.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: FileType,
    /// The permission bits, without the file type.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl From<Stat> for Node {
    fn from(stat: Stat) -> Self {
        Self {
            kind: FileType::from_raw_mode(stat.st_mode),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
        }
    }
}

impl Node {
    pub(super) fn kind(&self) -> &'static str {
        match self.kind {
            FileType::Socket => "a socket",
            FileType::RegularFile => "a regular file",
            FileType::Directory => "a directory",
            FileType::Symlink => "a symbolic link",
            FileType::Fifo => "a named pipe",
            FileType::BlockDevice | FileType::CharacterDevice => "a device",
            FileType::Unknown => "a file of an unknown kind",
        }
    }
}

/// The owner, the group and the mode.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mode, uid, gid, .. } = self;
        let (owner, group, rwx) = (names::user(*uid), names::group(*gid), letters(*mode));
        write!(f, "owner {owner}, group {group}, mode {mode:04o} ({rwx})")
    }
}

pub(super) fn is_socket(place: &Place) -> Result<Finding, Finding> {
    let (node, shown, kind) = (&place.node, show(&place.path), place.node.kind());
    if node.kind == FileType::Socket {
        return Ok(Finding::well(Check::Socket, format!("{shown} is a socket: {node}")));
    }
    let remedy = match node.kind {
        FileType::Directory => "give the path of the socket, not of its directory",
        // Not the advice to remove it: it may be any file of the system.
        _ => "name another path: the one that the server listens on",
    };
    let what = format!("{shown} is {kind}, not a socket");
    let why = format!("no server can listen on it; {node}");
    Err(Finding::problem(Check::Socket, Problem::NotASocket, what, why, remedy))
}

pub(super) fn is_writable(path: &Path, place: &Place) -> Result<Finding, Finding> {
    match is_allowed(&place.directory, &place.name, Want::Write) {
        Err(error) => Err(failed(Check::Permission, &place.path, error)),
        Ok(false) => Err(refusal(path, &place.node, Want::Write)),
        Ok(true) => {
            let me = names::user(rustix::process::geteuid().as_raw());
            let what = format!("{me} may connect: write permission is granted");
            Ok(Finding::well(Check::Permission, what))
        }
    }
}

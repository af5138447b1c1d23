//! The path of a socket: its directory, and a file that exists there already.

use std::{
    ffi::OsString,
    fs::DirBuilder,
    io,
    os::fd::OwnedFd,
    os::unix::{ffi::OsStrExt, fs::DirBuilderExt, net::UnixStream as StdStream},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, open, openat, statat, unlinkat},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with},
    process::geteuid,
};
use tokio::net::UnixStream;

use crate::error::{BindError, BindErrorKind, show};

/// The size of `sun_path` in bytes, without the closing NUL.
const MAX_PATH: usize = 107;

/// The mode bits of a directory in which other users can replace files, unless it is sticky.
const WRITABLE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// A name in an open directory. The path itself may lead elsewhere after a rename or `chdir`.
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    directory: OwnedFd,
    name: OsString,
}

impl Place {
    /// Opens the directory of `path`. No other user can replace files in it, so a file that was
    /// checked is the file that is changed next. The directories above are not checked.
    pub(crate) fn find(path: &Path, create_parent: bool) -> Result<Self, BindError> {
        let (parent, name) = split(path)?;
        if create_parent {
            match DirBuilder::new().mode(0o700).create(parent) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(missing(path, parent.parent().unwrap_or(parent)));
                }
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    let doing = format!("the directory {} cannot be created", show(parent));
                    return Err(BindError::io(path, doing, error));
                }
                Ok(()) | Err(_) => {}
            }
        }

        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = match open(parent, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Err(missing(path, parent)),
            Err(Errno::NOTDIR) => {
                let why = format!("{} is not a directory", show(parent));
                let remedy = "choose a path in a directory";
                return Err(BindError::new(BindErrorKind::MissingParent, path, why, remedy));
            }
            Err(error) => {
                let doing = format!("the directory {} cannot be opened", show(parent));
                return Err(BindError::io(path, doing, error));
            }
        };
        check_directory(path, parent, &directory)?;
        Ok(Self { path: path.into(), directory, name })
    }

    /// Does not follow a symbolic link.
    pub(crate) fn stat(&self) -> Result<Option<Stat>, BindError> {
        match statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => {
                Err(BindError::io(&self.path, "the file there cannot be examined", error))
            }
        }
    }

    /// Opens the file for its metadata only.
    pub(crate) fn open_inode(&self) -> Result<OwnedFd, BindError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.directory, &self.name, flags, Mode::empty())
            .map_err(|error| BindError::io(&self.path, "the new socket cannot be opened", error))
    }

    /// Opens the file in the same directory with the same name and `suffix`.
    pub(crate) fn open_beside(&self, suffix: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        openat(&self.directory, self.name_beside(suffix), flags, Mode::RUSR | Mode::WUSR)
    }

    pub(crate) fn stat_beside(&self, suffix: &str) -> rustix::io::Result<Stat> {
        statat(&self.directory, self.name_beside(suffix), AtFlags::SYMLINK_NOFOLLOW)
    }

    pub(crate) fn remove(&self) -> rustix::io::Result<()> {
        unlinkat(&self.directory, &self.name, AtFlags::empty())
    }

    /// Refuses a file that is never removed: any but a socket of this user, or of the `owner` that an
    /// earlier server set. Called before the lock, so that no lock file is created beside such a file.
    pub(crate) fn refuse_foreign(&self, owner: Option<u32>) -> Result<(), BindError> {
        match self.stat()? {
            Some(stat) => self.refuse_unless_ours(&stat, owner),
            None => Ok(()),
        }
    }

    /// Removes a socket without a server, and refuses any other file. The caller holds the lock,
    /// because a server between `bind` and `listen` looks dead.
    pub(crate) fn remove_stale(&self, owner: Option<u32>) -> Result<(), BindError> {
        let Some(stat) = self.stat()? else { return Ok(()) };
        self.refuse_unless_ours(&stat, owner)?;
        match self.probe()? {
            Probe::Gone => Ok(()),
            Probe::Live(pid) => Err(self.in_use(pid)),
            Probe::Stale => match self.remove() {
                Ok(()) => {
                    tracing::info!(path = %self.path.display(), "removed the socket of a dead server");
                    Ok(())
                }
                Err(Errno::NOENT) => Ok(()),
                Err(error) => {
                    let doing = "the socket of a dead server is there and cannot be removed";
                    Err(BindError::io(&self.path, doing, error))
                }
            },
        }
    }

    fn refuse_unless_ours(&self, stat: &Stat, owner: Option<u32>) -> Result<(), BindError> {
        let is_ours = stat.st_uid == geteuid().as_raw() || Some(stat.st_uid) == owner;
        let (what, remedy) = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Socket if is_ours => return Ok(()),
            FileType::Socket => {
                let why = format!("a socket of another user is there, of uid {}", stat.st_uid);
                let remedy = "have that user remove it, or choose another path";
                return Err(BindError::new(BindErrorKind::ForeignSocket, &self.path, why, remedy));
            }
            FileType::RegularFile => {
                ("a regular file", "choose another path, or remove the file if you do not need it")
            }
            FileType::Directory => ("a directory", "choose a path in that directory"),
            FileType::Symlink => {
                ("a symbolic link", "choose the path that it leads to, or remove it")
            }
            FileType::Fifo => ("a named pipe", "choose another path, or remove the pipe"),
            _ => ("a device", "choose another path"),
        };
        let why = format!("{what} is there");
        Err(BindError::new(BindErrorKind::NotASocket, &self.path, why, remedy))
    }

    fn probe(&self) -> Result<Probe, BindError> {
        let failed = |error| BindError::io(&self.path, "the socket there cannot be tested", error);
        // Non-blocking: `connect` would wait for a live server whose backlog is full.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
        let address = SocketAddrUnix::new(&self.path).map_err(failed)?;
        match connect(&socket, &address) {
            Ok(()) => Ok(Probe::Live(peer_pid(socket))),
            // The backlog is full, or the socket is not a stream socket.
            Err(Errno::AGAIN | Errno::PROTOTYPE) => Ok(Probe::Live(None)),
            Err(Errno::CONNREFUSED) => Ok(Probe::Stale),
            Err(Errno::NOENT) => Ok(Probe::Gone),
            Err(error) => Err(failed(error)),
        }
    }

    pub(crate) fn in_use(&self, pid: Option<i32>) -> BindError {
        let why = match pid {
            Some(pid) => format!("another server listens there (pid {pid})"),
            None => "another server listens there".into(),
        };
        let remedy = "stop that server, or choose another path";
        BindError::new(BindErrorKind::InUse, &self.path, why, remedy)
    }

    fn name_beside(&self, suffix: &str) -> OsString {
        let mut name = self.name.clone();
        name.push(suffix);
        name
    }
}

/// A server at the socket that exists already.
enum Probe {
    Live(Option<i32>),
    Stale,
    Gone,
}

/// Not with `rustix`, whose process ids are never 0. The process id of a peer in another container
/// is 0.
fn peer_pid(socket: OwnedFd) -> Option<i32> {
    let peer = UnixStream::from_std(StdStream::from(socket)).ok()?;
    peer.peer_cred().ok()?.pid().filter(|&pid| pid != 0)
}

fn split(path: &Path) -> Result<(&Path, OsString), BindError> {
    let bytes = path.as_os_str().as_bytes();
    let invalid = |why: &str| {
        let remedy = "name a file, like /run/NAME/NAME.sock";
        Err(BindError::new(BindErrorKind::InvalidPath, path, why, remedy))
    };
    if bytes.is_empty() {
        return invalid("the path is empty");
    }
    if bytes.contains(&0) {
        return invalid("the path contains a NUL byte");
    }
    if bytes.len() > MAX_PATH {
        let length = bytes.len();
        let why =
            format!("the path has {length} bytes, and the path of a socket at most {MAX_PATH}");
        let remedy = "choose a shorter path, or a relative one";
        return Err(BindError::new(BindErrorKind::PathTooLong, path, why, remedy));
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if bytes.ends_with(name.as_bytes()) => {
            let here = parent.as_os_str().is_empty();
            Ok((if here { Path::new(".") } else { parent }, name.into()))
        }
        _ => invalid("the path names a directory"),
    }
}

fn check_directory(path: &Path, parent: &Path, directory: &OwnedFd) -> Result<(), BindError> {
    let insecure =
        |why, remedy| Err(BindError::new(BindErrorKind::InsecureParent, path, why, remedy));
    let shown = show(parent);
    let stat = fstat(directory).map_err(|error| {
        BindError::io(path, format!("the directory {shown} cannot be examined"), error)
    })?;
    let (owner, euid) = (stat.st_uid, geteuid().as_raw());
    if owner != euid && owner != 0 {
        return insecure(
            format!("the directory {shown} belongs to uid {owner}, who could replace the socket"),
            format!("choose a directory of uid {euid}, or: chown {euid} {shown}"),
        );
    }
    if stat.st_mode & WRITABLE_BY_OTHERS != 0 && stat.st_mode & STICKY == 0 {
        let mode = stat.st_mode & 0o7777;
        return insecure(
            format!("others can write to the directory {shown} (mode {mode:04o})"),
            format!("chmod go-w {shown}"),
        );
    }
    Ok(())
}

fn missing(path: &Path, directory: &Path) -> BindError {
    let directory = show(directory);
    let why = format!("the directory {directory} does not exist");
    let remedy = format!("create it: mkdir -p -m 700 {directory}");
    BindError::new(BindErrorKind::MissingParent, path, why, remedy)
}

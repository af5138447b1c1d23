//! From a path to a socket that listens there.

use std::{
    fs::{self, Permissions},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{PermissionsExt, chown},
        unix::net::UnixListener as StdListener,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, fchmod, fstat},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with},
};
use tokio::net::UnixListener;

use super::{Socket, claim::Claim, error::BindError, existing, lock::Lock, place::Place};

/// For the owner only: to be born with, before the wanted mode.
const BIRTH_MODE: u32 = 0o600;

/// Connections that may wait to be accepted. The kernel caps it by `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

/// How to listen at a path; made by [`Socket::bind`].
///
/// ```
/// use kakehi_server::Socket;
/// use std::{fs, os::unix::fs::PermissionsExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("daemon.sock");
/// let socket = Socket::bind(&path).mode(0o666).listen()?;
/// assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, 0o666);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing listens before `listen`"]
pub struct Bind {
    path: PathBuf,
    mode: u32,
    owner: Option<u32>,
    group: Option<u32>,
    create_parent: bool,
}

/// Options, then [`listen`](Self::listen).
///
/// ```
/// use kakehi_server::Socket;
/// use std::{fs, os::unix::fs::MetadataExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let own = fs::metadata(dir.path())?;
/// # let (uid, gid) = (own.uid(), own.gid());
/// let path = dir.path().join("daemon/daemon.sock");
/// let socket =
///     Socket::bind(&path).mode(0o660).owner(uid).group(gid).create_parent().listen()?;
///
/// let there = fs::metadata(&path)?;
/// assert_eq!((there.mode() & 0o777, there.uid(), there.gid()), (0o660, uid, gid));
/// assert_eq!(fs::metadata(dir.path().join("daemon"))?.mode() & 0o777, 0o700);
/// # Ok(()) }
/// ```
impl Bind {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.into(), mode: BIRTH_MODE, owner: None, group: None, create_parent: false }
    }

    /// The permission bits, whatever the umask; 0600 if not said. Whoever may write may connect.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode & 0o777;
        self
    }

    /// The user id of its owner; this process's own if not said. Only root can give a socket away.
    pub fn owner(mut self, uid: u32) -> Self {
        self.owner = Some(uid);
        self
    }

    /// The group id; that of any new file if not said. It takes root, or a group of this process.
    pub fn group(mut self, gid: u32) -> Self {
        self.group = Some(gid);
        self
    }

    /// Creates the directory of the socket, with mode 0700, if it is missing; not those above it.
    pub fn create_parent(mut self) -> Self {
        self.create_parent = true;
        self
    }

    /// Listens. A dead server's socket at the path is removed, if it is of the same owner.
    ///
    /// # Errors
    /// A [`BindError`] whose [`kind`](BindError::kind) tells what is in the way.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O enabled.
    pub fn listen(&self) -> Result<Socket, BindError> {
        let place = Place::find(&self.path, self.create_parent)?;
        existing::refuse(&place, self.owner)?;
        let lock = Lock::acquire(&place)?;
        existing::remove_stale(&place, self.owner)?;

        let failed = |doing| move |error: Errno| BindError::io(&self.path, doing, error);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(failed("a socket cannot be made"))?;
        let claim = self.bind_private(&socket, place, lock)?;
        self.widen(&claim)?;
        // Only now can anybody connect.
        listen(&socket, BACKLOG).map_err(failed("the socket cannot listen"))?;

        let listener = UnixListener::from_std(StdListener::from(socket))
            .map_err(|error| BindError::io(&self.path, "the runtime cannot watch it", error))?;
        Ok(Socket { claim: Some(claim), listener, path: Some(self.path.clone()) })
    }

    /// On Linux, a bound file is born with the mode of the descriptor, less the umask. To set the
    /// umask instead would change it for every thread of the process.
    fn bind_private(&self, socket: &OwnedFd, place: Place, lock: Lock) -> Result<Claim, BindError> {
        let failed = |error| BindError::io(&self.path, "the socket cannot be bound", error);
        let mode = Mode::from_raw_mode(self.mode & BIRTH_MODE);
        fchmod(socket, mode).map_err(failed)?;
        let address = SocketAddrUnix::new(&self.path).map_err(failed)?;
        match bind(socket, &address) {
            Ok(()) => {}
            Err(Errno::ADDRINUSE) => return Err(existing::in_use(&place, None)),
            Err(error) => return Err(failed(error)),
        }
        Claim::new(place, lock)?.ok_or_else(|| failed(Errno::NOENT))
    }

    /// The owner first: what the wider mode permits is meant for the new owner and group.
    fn widen(&self, claim: &Claim) -> Result<(), BindError> {
        let failed = |doing| move |error| BindError::io(&self.path, doing, error);
        let inode = claim.place().open_inode()?;
        let stat = fstat(&inode).map_err(|error| failed("it cannot be looked at")(error.into()))?;
        if !claim.is_bound(&stat) {
            return Err(existing::in_use(claim.place(), None));
        }
        // By its handle: a new owner could put a link to another file at the path meanwhile.
        // `fchmod` does not take such a handle, and `fchmodat2` is of Linux 6.6; this is of any.
        let inode_path = format!("/proc/self/fd/{}", inode.as_raw_fd());
        if self.owner.is_some() || self.group.is_some() {
            chown(&inode_path, self.owner, self.group)
                .map_err(failed("its owner and group cannot be set"))?;
        }
        if stat.st_mode & 0o777 != self.mode {
            fs::set_permissions(&inode_path, Permissions::from_mode(self.mode))
                .map_err(failed("its mode cannot be set"))?;
        }
        Ok(())
    }
}

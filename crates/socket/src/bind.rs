//! Creating a socket at a path.

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
    fs::{Mode, Stat, fchmod, fstat},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with},
};
use tokio::net::UnixListener;

use crate::{Socket, error::BindError, lock::Lock, place::Place};

/// The mode of a new socket file, before its owner, group and mode are set.
const INITIAL_MODE: u32 = 0o600;

/// Connections that may wait to be accepted. The kernel limits it to `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

/// The options of a socket, from [`Socket::bind`].
///
/// ```
/// use kakehi_socket::Socket;
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
#[must_use = "the socket listens after `listen`"]
pub struct Bind {
    path: PathBuf,
    mode: u32,
    owner: Option<u32>,
    group: Option<u32>,
    create_parent: bool,
}

/// Each option returns the value; [`listen`](Self::listen) comes last.
///
/// ```
/// use kakehi_socket::Socket;
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
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.into(),
            mode: INITIAL_MODE,
            owner: None,
            group: None,
            create_parent: false,
        }
    }

    /// Sets the permission bits, regardless of the umask. Default: 0600. A user with write
    /// permission can connect.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode & 0o777;
        self
    }

    /// Sets the user id of the owner, which requires root. Default: that of this process.
    pub fn owner(mut self, uid: u32) -> Self {
        self.owner = Some(uid);
        self
    }

    /// Sets the group id, which requires root or a group of this process. Default: that of a new
    /// file in the directory.
    pub fn group(mut self, gid: u32) -> Self {
        self.group = Some(gid);
        self
    }

    /// Creates the directory of the socket with mode 0700, if it does not exist. Default: off. The
    /// directories above must exist.
    pub fn create_parent(mut self) -> Self {
        self.create_parent = true;
        self
    }

    /// Listens. Removes a dead server's socket at the path if it has the same owner.
    ///
    /// # Errors
    /// A [`BindError`]; its [`kind`](BindError::kind) is the reason.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O enabled.
    pub fn listen(&self) -> Result<Socket, BindError> {
        let place = Place::find(&self.path, self.create_parent)?;
        place.refuse_foreign(self.owner)?;
        let lock = Lock::acquire(&place)?;
        place.remove_stale(self.owner)?;

        let failed = |doing| move |error: Errno| BindError::io(&self.path, doing, error);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(failed("a socket cannot be created"))?;
        let claim = self.bind_private(&socket, place, lock)?;
        self.widen(&claim)?;
        // No client can connect before this.
        listen(&socket, BACKLOG).map_err(failed("the socket cannot listen"))?;

        let listener = UnixListener::from_std(StdListener::from(socket)).map_err(|error| {
            BindError::io(&self.path, "the runtime cannot poll the socket", error)
        })?;
        Ok(Socket { claim: Some(claim), listener, path: Some(self.path.clone()) })
    }

    /// Binds the socket with at most mode 0600. On Linux, the file gets the mode of the descriptor
    /// without the bits of the umask. The umask itself belongs to all threads of the process.
    fn bind_private(&self, socket: &OwnedFd, place: Place, lock: Lock) -> Result<Claim, BindError> {
        let failed = |error| BindError::io(&self.path, "the socket cannot be bound", error);
        let mode = Mode::from_raw_mode(self.mode & INITIAL_MODE);
        fchmod(socket, mode).map_err(failed)?;
        let address = SocketAddrUnix::new(&self.path).map_err(failed)?;
        match bind(socket, &address) {
            Ok(()) => {}
            Err(Errno::ADDRINUSE) => return Err(place.in_use(None)),
            Err(error) => return Err(failed(error)),
        }
        Claim::new(place, lock)?.ok_or_else(|| failed(Errno::NOENT))
    }

    /// Sets the owner and group, then the mode, because the wider mode is for the new group.
    fn widen(&self, claim: &Claim) -> Result<(), BindError> {
        let failed = |doing| move |error| BindError::io(&self.path, doing, error);
        let inode = claim.place.open_inode()?;
        let stat = fstat(&inode)
            .map_err(|error| failed("the new socket cannot be examined")(error.into()))?;
        if !claim.is_bound(&stat) {
            return Err(claim.place.in_use(None));
        }
        // Not by the path, where the new owner could put a link to another file. `fchmod` rejects
        // a descriptor opened with `O_PATH`, and `fchmodat2` requires Linux 6.6.
        let inode_path = format!("/proc/self/fd/{}", inode.as_raw_fd());
        if self.owner.is_some() || self.group.is_some() {
            chown(&inode_path, self.owner, self.group)
                .map_err(failed("the owner and group of the socket cannot be set"))?;
        }
        if stat.st_mode & 0o777 != self.mode {
            fs::set_permissions(&inode_path, Permissions::from_mode(self.mode))
                .map_err(failed("the mode of the socket cannot be set"))?;
        }
        Ok(())
    }
}

/// The file of a bound socket. When dropped, it removes the file if that is still the same, and then
/// releases the lock.
pub(crate) struct Claim {
    place: Place,
    bound: Stat,
    _lock: Lock,
}

impl Claim {
    /// Call it right after `bind`. The lock is held and no other user can replace files in the
    /// directory, so the file is the bound one. `None`: the file does not exist.
    fn new(place: Place, lock: Lock) -> Result<Option<Self>, BindError> {
        let bound = place.stat()?;
        Ok(bound.map(|bound| Self { place, bound, _lock: lock }))
    }

    fn is_bound(&self, stat: &Stat) -> bool {
        (stat.st_dev, stat.st_ino) == (self.bound.st_dev, self.bound.st_ino)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let path = self.place.path.display();
        match self.place.stat() {
            Ok(Some(stat)) if self.is_bound(&stat) => {
                if let Err(error) = self.place.remove() {
                    tracing::warn!(%path, %error, "cannot remove the socket");
                }
            }
            Ok(Some(_)) => {
                tracing::warn!(%path, "another file has replaced the socket; it is not removed");
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "cannot remove the socket"),
        }
    }
}

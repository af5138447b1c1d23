//! Why a server does not listen.

use std::{
    error::Error,
    fmt, io,
    path::{Path, PathBuf},
};

use rustix::{io::Errno, process::geteuid};

/// A socket that cannot be listened on. The message says what, why, and what to do.
///
/// ```
/// use kakehi_server::{BindErrorKind, Socket};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let path = dir.path().join("notes.txt");
/// std::fs::write(&path, "Do not lose me")?;
///
/// let error = Socket::bind(&path).listen().unwrap_err();
/// assert_eq!(error.kind(), BindErrorKind::NotASocket);
/// assert_eq!(
///     error.to_string(),
///     format!(
///         "cannot listen on {}: a regular file is there; \
///          choose another path, or remove the file if it is of no use",
///         path.display()
///     )
/// );
/// # Ok(()) }
/// ```
pub struct BindError(Box<Refusal>);

struct Refusal {
    kind: BindErrorKind,
    path: Option<PathBuf>,
    why: String,
    remedy: String,
    source: Option<io::Error>,
}

/// What is in the way of a socket.
///
/// ```
/// use kakehi_server::{BindErrorKind, Socket};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let error = Socket::bind("/run/".repeat(100)).listen().unwrap_err();
/// assert_eq!(error.kind(), BindErrorKind::PathTooLong);
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BindErrorKind {
    /// The path is empty, holds a NUL byte, or does not name a file.
    InvalidPath,
    /// The path has more than 107 bytes.
    PathTooLong,
    /// The directory for the socket does not exist, or is no directory.
    MissingParent,
    /// Another user can replace files in the directory: it is theirs, or open to be written to.
    InsecureParent,
    /// Another server holds the lock file.
    Locked,
    /// The lock file is another user's, or not a plain file.
    InsecureLock,
    /// A server listens there, though it does not hold the lock file.
    InUse,
    /// A file, directory, symbolic link or the like is there. It is never removed.
    NotASocket,
    /// Another user's socket is there. It is never removed.
    ForeignSocket,
    /// What systemd hands over is not one Unix stream socket that listens.
    Activation,
    /// The system says no: follow the [`source`](Error::source).
    Io,
}

/// What it is.
///
/// ```
/// use kakehi_server::{BindErrorKind, Socket};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let error = Socket::bind("/nowhere/daemon.sock").listen().unwrap_err();
/// assert_eq!(error.kind(), BindErrorKind::MissingParent);
/// assert_eq!(error.path(), Some("/nowhere/daemon.sock".as_ref()));
/// assert!(!error.is_in_use() && error.io_kind().is_none());
/// # }
/// ```
impl BindError {
    /// What is in the way.
    #[must_use]
    pub fn kind(&self) -> BindErrorKind {
        self.0.kind
    }

    /// Another server has the path now: [`Locked`](BindErrorKind::Locked) or
    /// [`InUse`](BindErrorKind::InUse).
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        matches!(self.kind(), BindErrorKind::Locked | BindErrorKind::InUse)
    }

    /// The path to be listened at; `None` for the socket of systemd.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// What the system said, if it is the system's error.
    #[must_use]
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        self.0.source.as_ref().map(io::Error::kind)
    }

    pub(super) fn new(
        kind: BindErrorKind,
        path: &Path,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (why, remedy) = (why.into(), remedy.into());
        Self(Box::new(Refusal { kind, path: Some(path.into()), why, remedy, source: None }))
    }

    pub(super) fn activation(why: impl Into<String>) -> Self {
        let remedy = "in the .socket unit, give one ListenStream=/PATH, and Accept=no".into();
        let kind = BindErrorKind::Activation;
        Self(Box::new(Refusal { kind, path: None, why: why.into(), remedy, source: None }))
    }

    /// The system says no to `doing`.
    pub(super) fn io(path: &Path, doing: impl fmt::Display, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        let remedy = match Errno::from_io_error(&source) {
            Some(Errno::ACCESS | Errno::PERM) => {
                let uid = geteuid().as_raw();
                &*format!("permit it to uid {uid}, or choose another path")
            }
            Some(Errno::ROFS) => "choose a path on a file system that can be written to",
            Some(Errno::NOSPC | Errno::DQUOT) => {
                "free space and inodes on that file system, or choose another path"
            }
            Some(Errno::MFILE | Errno::NFILE) => "raise the limit of open files (ulimit -n)",
            _ => "choose another path",
        };
        let mut error = Self::new(BindErrorKind::Io, path, format!("{doing}: {source}"), remedy);
        error.0.source = Some(source);
        error
    }

    pub(super) fn with_source(mut self, source: io::Error) -> Self {
        self.0.source = Some(source);
        self
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { path, why, remedy, .. } = &*self.0;
        match path {
            Some(path) => write!(f, "cannot listen on {}: {why}; {remedy}", show(path)),
            None => write!(f, "cannot listen on the socket of systemd: {why}; {remedy}"),
        }
    }
}

impl fmt::Debug for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BindError({:?}, {:?})", self.0.kind, self.to_string())
    }
}

impl Error for BindError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_ref().map(|source| source as _)
    }
}

/// A path for a person: quoted and escaped where it would not be seen, or would break the line.
pub(super) fn show(path: &Path) -> String {
    let plain = path.display().to_string();
    let is_plain = !plain.is_empty() && !plain.contains(char::is_control);
    if is_plain { plain } else { format!("{plain:?}") }
}

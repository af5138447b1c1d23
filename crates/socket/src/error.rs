//! The error of binding a socket.

use std::{
    error::Error,
    fmt, io,
    path::{Path, PathBuf},
};

use rustix::{io::Errno, process::geteuid};

/// A socket cannot listen. The message contains the path, the reason and a remedy.
///
/// ```
/// use kakehi_socket::{BindErrorKind, Socket};
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
///          choose another path, or remove the file if you do not need it",
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

/// The reason why a socket cannot listen.
///
/// ```
/// use kakehi_socket::{BindErrorKind, Socket};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let error = Socket::bind("/run/".repeat(100)).listen().unwrap_err();
/// assert_eq!(error.kind(), BindErrorKind::PathTooLong);
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BindErrorKind {
    /// The path is empty, contains a NUL byte, or does not name a file.
    InvalidPath,
    /// The path has more than 107 bytes.
    PathTooLong,
    /// The parent directory does not exist, or is not a directory.
    MissingParent,
    /// Another user owns the directory or can write to it, and so could replace the socket.
    InsecureParent,
    /// Another server holds the lock file.
    Locked,
    /// The lock file belongs to another user, or is not a regular file.
    InsecureLock,
    /// A server listens there without the lock file.
    InUse,
    /// A file that is not a socket is there. It is never removed.
    NotASocket,
    /// Another user's socket is there. It is never removed.
    ForeignSocket,
    /// systemd did not pass exactly one listening Unix stream socket.
    Activation,
    /// A system call failed. Its error is the [`source`](Error::source).
    Io,
}

/// ```
/// use kakehi_socket::{BindErrorKind, Socket};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let error = Socket::bind("/nowhere/daemon.sock").listen().unwrap_err();
/// assert_eq!(error.kind(), BindErrorKind::MissingParent);
/// assert_eq!(error.path(), Some("/nowhere/daemon.sock".as_ref()));
/// assert!(!error.is_in_use());
/// # }
/// ```
impl BindError {
    /// The reason.
    #[must_use]
    pub fn kind(&self) -> BindErrorKind {
        self.0.kind
    }

    /// Whether another server listens at the path: [`Locked`](BindErrorKind::Locked) or
    /// [`InUse`](BindErrorKind::InUse).
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        matches!(self.kind(), BindErrorKind::Locked | BindErrorKind::InUse)
    }

    /// The path of the socket. `None` for a socket from systemd.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    pub(crate) fn new(
        kind: BindErrorKind,
        path: &Path,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (why, remedy) = (why.into(), remedy.into());
        Self(Box::new(Refusal { kind, path: Some(path.into()), why, remedy, source: None }))
    }

    pub(crate) fn activation(why: impl Into<String>) -> Self {
        let remedy = "in the .socket unit, give one ListenStream=/PATH, and Accept=no".into();
        let kind = BindErrorKind::Activation;
        Self(Box::new(Refusal { kind, path: None, why: why.into(), remedy, source: None }))
    }

    /// An error of a system call; `doing` says what failed.
    pub(crate) fn io(path: &Path, doing: impl fmt::Display, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        let remedy = match Errno::from_io_error(&source) {
            Some(Errno::ACCESS | Errno::PERM) => {
                let uid = geteuid().as_raw();
                &*format!("give uid {uid} the permission, or choose another path")
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

    pub(crate) fn with_source(mut self, source: io::Error) -> Self {
        self.0.source = Some(source);
        self
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { path, why, remedy, .. } = &*self.0;
        match path {
            Some(path) => write!(f, "cannot listen on {}: {why}; {remedy}", show(path)),
            None => write!(f, "cannot listen on the socket from systemd: {why}; {remedy}"),
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

/// Quotes and escapes a path that is empty or contains control characters.
pub(crate) fn show(path: &Path) -> String {
    let plain = path.display().to_string();
    let is_plain = !plain.is_empty() && !plain.contains(char::is_control);
    if is_plain { plain } else { format!("{plain:?}") }
}

//! Where a server listens when nobody says otherwise.

use std::{env, error::Error, fmt, path::PathBuf};

/// The socket that Kakehi's own server and client use by default:
/// `$XDG_RUNTIME_DIR/kakehi/kakehi.sock`; for root without such a directory,
/// `/run/kakehi/kakehi.sock`.
///
/// Never a folder that everybody can write to: anyone could listen there first.
///
/// # Errors
/// [`NoDefaultSocket`] when neither applies.
///
/// ```
/// match kakehi_channel::default_socket() {
///     Ok(path) => assert!(path.ends_with("kakehi/kakehi.sock")),
///     Err(error) => assert!(error.to_string().contains("--socket")),
/// }
/// ```
pub fn default_socket() -> Result<PathBuf, NoDefaultSocket> {
    let runtime_dir = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    // The XDG base directory specification: a relative path is invalid and ignored.
    match runtime_dir.filter(|dir| dir.is_absolute()) {
        Some(dir) => Ok(dir.join("kakehi/kakehi.sock")),
        None if rustix::process::geteuid().is_root() => Ok("/run/kakehi/kakehi.sock".into()),
        None => Err(NoDefaultSocket(())),
    }
}

/// There is no folder of the user's own for sockets.
///
/// ```
/// # fn f() -> Result<(), kakehi_channel::NoDefaultSocket> {
/// let path = kakehi_channel::default_socket()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoDefaultSocket(());

impl fmt::Display for NoDefaultSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no default socket: XDG_RUNTIME_DIR is not set; say where by --socket PATH")
    }
}

impl Error for NoDefaultSocket {}

//! The default path of the socket.

use std::{env, io, path::PathBuf};

/// The default socket of Kakehi's server and client: `$XDG_RUNTIME_DIR/kakehi/kakehi.sock`. For root
/// without this variable: `/run/kakehi/kakehi.sock`.
///
/// The folder is never one that all users can write to, because another user could listen there
/// first.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] if neither applies.
///
/// ```
/// match kakehi_channel::default_socket() {
///     Ok(path) => assert!(path.ends_with("kakehi/kakehi.sock")),
///     Err(error) => assert!(error.to_string().contains("XDG_RUNTIME_DIR")),
/// }
/// ```
pub fn default_socket() -> io::Result<PathBuf> {
    const NONE: &str =
        "no default socket: XDG_RUNTIME_DIR is not set; set it, or give the path of the socket";
    let runtime_dir = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    // The XDG base directory specification: a relative path is invalid and ignored.
    match runtime_dir.filter(|dir| dir.is_absolute()) {
        Some(dir) => Ok(dir.join("kakehi/kakehi.sock")),
        None if rustix::process::geteuid().is_root() => Ok("/run/kakehi/kakehi.sock".into()),
        None => Err(io::Error::new(io::ErrorKind::NotFound, NONE)),
    }
}

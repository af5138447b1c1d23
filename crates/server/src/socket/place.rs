//! A name in a directory, where a socket is to be.

use std::{
    ffi::OsString,
    fs::DirBuilder,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, Stat, fstat, open, openat, statat, unlinkat},
    io::Errno,
    process::geteuid,
};

use super::error::{BindError, BindErrorKind, show};

/// The bytes that `sun_path` has room for, the closing NUL aside.
const MAX_PATH: usize = 107;

/// Who may write to a directory, and the bit that keeps them off each other's files.
const WRITABLE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// By the directory's descriptor, since the path may lead elsewhere after a rename or `chdir`.
pub(super) struct Place {
    pub(super) path: PathBuf,
    directory: OwnedFd,
    name: OsString,
}

impl Place {
    /// In a directory where nobody else can swap files: what is found there and what is done to it
    /// next are the same file, without further ado. The directories above are taken on trust.
    pub(super) fn find(path: &Path, create_parent: bool) -> Result<Self, BindError> {
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

    /// What is there, itself: a link is not followed.
    pub(super) fn stat(&self) -> Result<Option<Stat>, BindError> {
        match statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(BindError::io(&self.path, "it cannot be looked at", error)),
        }
    }

    /// A handle of what is there, good for its metadata and for naming it.
    pub(super) fn open_inode(&self) -> Result<OwnedFd, BindError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.directory, &self.name, flags, Mode::empty())
            .map_err(|error| BindError::io(&self.path, "the new socket cannot be opened", error))
    }

    /// The file beside it by the name with `suffix`.
    pub(super) fn open_beside(&self, suffix: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        openat(&self.directory, self.name_beside(suffix), flags, Mode::RUSR | Mode::WUSR)
    }

    pub(super) fn stat_beside(&self, suffix: &str) -> rustix::io::Result<Stat> {
        statat(&self.directory, self.name_beside(suffix), AtFlags::SYMLINK_NOFOLLOW)
    }

    pub(super) fn remove(&self) -> rustix::io::Result<()> {
        unlinkat(&self.directory, &self.name, AtFlags::empty())
    }

    fn name_beside(&self, suffix: &str) -> OsString {
        let mut name = self.name.clone();
        name.push(suffix);
        name
    }
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
        return invalid("the path holds a NUL byte");
    }
    if bytes.len() > MAX_PATH {
        let length = bytes.len();
        let why = format!("the path has {length} bytes, where a socket's has {MAX_PATH} at most");
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
        BindError::io(path, format!("the directory {shown} cannot be looked at"), error)
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

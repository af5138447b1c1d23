//! Follows the path from `/` to the file, as the kernel resolves it.

use std::{
    ffi::{OsStr, OsString},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, readlinkat, statat},
    io::Errno,
};

use super::{
    Check, Finding,
    access::{Want, is_allowed, refusal},
    file::Node,
    missing::{self, failed, in_a_circle, in_the_way},
    show,
};

/// The number of symbolic links that Linux follows.
const MOST_LINKS: u32 = 40;

/// An existing file.
pub(super) struct Place {
    pub(super) directory: OwnedFd,
    pub(super) name: OsString,
    pub(super) path: PathBuf,
    /// The file's metadata, with links followed.
    pub(super) node: Node,
}

/// Follows the path directory by directory. Each directory stays open and is examined by its
/// descriptor: the working directory may lie below a directory that this process may not search.
pub(super) fn to_the_file(path: &Path, findings: &mut Vec<Finding>) -> Result<Place, Finding> {
    let mut walk = Walk::start(path, findings)?;
    loop {
        if let Some(place) = walk.step()? {
            return Ok(place);
        }
    }
}

struct Walk<'f> {
    whole: PathBuf,
    directory: OwnedFd,
    at: PathBuf,
    /// The names that remain to be looked up, in reverse order.
    names: Vec<OsString>,
    /// The number of links that were resolved by their text, and the last of them.
    links: u32,
    link: Option<PathBuf>,
    findings: &'f mut Vec<Finding>,
}

impl<'f> Walk<'f> {
    fn start(path: &Path, findings: &'f mut Vec<Finding>) -> Result<Self, Finding> {
        let (from, at) = if path.is_absolute() {
            ("/", PathBuf::from("/"))
        } else {
            (".", std::env::current_dir().unwrap_or_else(|_| ".".into()))
        };
        let directory = open_directory(CWD, OsStr::new(from))
            .map_err(|error| failed(Check::Directory, &at, error))?;
        let whole = path.to_owned();
        let mut walk = Self { whole, directory, at, names: vec![], links: 0, link: None, findings };
        walk.push_names(path.as_os_str());
        walk.search()?;
        Ok(walk)
    }

    /// Looks up one name. Returns the place after the last one.
    fn step(&mut self) -> Result<Option<Place>, Finding> {
        let Some(name) = self.names.pop() else {
            // The path does not end in a file name, for example a link to `/`.
            return self.place(OsString::from("."), AtFlags::empty()).map(Some);
        };
        let path = self.at.join(&name);
        let stat = statat(&self.directory, &name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| self.not_found(&path, error))?;
        let node = Node::from(stat);
        if node.kind == FileType::Symlink {
            return self.follow(name, path);
        }
        if self.names.is_empty() {
            return self.place(name, AtFlags::SYMLINK_NOFOLLOW).map(Some);
        }
        match open_directory(&self.directory, &name) {
            Ok(directory) => self.enter(directory, path)?,
            Err(Errno::NOTDIR) => return Err(in_the_way(&path, &node)),
            Err(error) => return Err(self.not_found(&path, error)),
        }
        Ok(None)
    }

    /// Lets the kernel follow a link, because the text of some links, such as those in `/proc`, is
    /// not their target. If that fails, follows the text of the link to find the cause.
    fn follow(&mut self, name: OsString, path: PathBuf) -> Result<Option<Place>, Finding> {
        let target = readlinkat(&self.directory, &name, vec![])
            .map_err(|error| failed(Check::Link, &path, error))?;
        let target = OsStr::from_bytes(target.as_bytes());
        let (from, to) = (show(&path), show(Path::new(target)));
        self.findings
            .push(Finding::well(Check::Link, format!("{from} is a symbolic link to {to}")));
        let error = if self.names.is_empty() {
            match statat(&self.directory, &name, AtFlags::empty()) {
                Ok(_) => return self.place(name, AtFlags::empty()).map(Some),
                Err(error) => error,
            }
        } else {
            match open_directory(&self.directory, &name) {
                Ok(directory) => return self.enter(directory, path).map(|()| None),
                Err(error) => error,
            }
        };

        self.links += 1;
        if error == Errno::LOOP || self.links > MOST_LINKS {
            return Err(in_a_circle(&path));
        }
        self.link = Some(path);
        self.push_names(target);
        if target.as_bytes().starts_with(b"/") {
            self.at = "/".into();
            self.directory = open_directory(CWD, OsStr::new("/"))
                .map_err(|error| failed(Check::Directory, &self.at, error))?;
        }
        Ok(None)
    }

    fn enter(&mut self, directory: OwnedFd, path: PathBuf) -> Result<(), Finding> {
        (self.directory, self.at) = (directory, path);
        self.search()
    }

    /// Checks that names may be looked up in this directory.
    fn search(&mut self) -> Result<(), Finding> {
        let failed = |error| failed(Check::Directory, &self.at, error);
        let node = Node::from(rustix::fs::fstat(&self.directory).map_err(failed)?);
        if !is_allowed(&self.directory, OsStr::new("."), Want::Search).map_err(failed)? {
            return Err(refusal(&self.at, &node, Want::Search));
        }
        let what = format!("{} is a directory: {node}", show(&self.at));
        self.findings.push(Finding::well(Check::Directory, what));
        Ok(())
    }

    fn place(&self, name: OsString, flags: AtFlags) -> Result<Place, Finding> {
        let path = self.at.join(&name);
        let stat =
            statat(&self.directory, &name, flags).map_err(|error| self.not_found(&path, error))?;
        let directory =
            self.directory.try_clone().map_err(|error| failed(Check::Socket, &path, error))?;
        Ok(Place { directory, name, path, node: stat.into() })
    }

    fn push_names(&mut self, path: &OsStr) {
        let names = path.as_bytes().split(|byte| *byte == b'/');
        let names = names.filter(|name| !name.is_empty() && *name != b".");
        self.names.extend(names.rev().map(|name| OsStr::from_bytes(name).to_owned()));
    }

    fn not_found(&self, path: &Path, error: Errno) -> Finding {
        let whole = (!self.names.is_empty()).then_some(self.whole.as_path());
        missing::not_found(path, whole, self.link.as_deref(), error)
    }
}

/// Opens a directory by `O_PATH`, which needs no permission to search it.
fn open_directory(base: impl rustix::fd::AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(base, name, flags, Mode::empty())
}

//! The lock file of a socket, which only one server can hold.

use std::{
    fs::{File, TryLockError},
    io::{self, Read, Seek, Write},
};

use rustix::{
    fs::{FileType, OFlags, Stat, fstat},
    io::Errno,
    process::{Pid, geteuid, getpid, test_kill_process},
};

use crate::{
    error::{BindError, BindErrorKind, show},
    place::Place,
};

const SUFFIX: &str = ".lock";

/// More bytes than a process id has.
const MAX_PID: u64 = 16;

/// A held lock. It is released when dropped, or when the process ends.
///
/// The file is never removed. A second server may have opened and locked it already. A third server
/// would then create and lock a new file of the same name, and two servers would run.
pub(crate) struct Lock(File);

impl Lock {
    pub(crate) fn acquire(place: &Place) -> Result<Self, BindError> {
        let file = open(place)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(place, &file)),
            Err(TryLockError::Error(error)) => return Err(failed(place, "locked", error)),
        }
        let lock = Self(file);
        // The pid is for error messages only.
        write_pid(&lock.0).map_err(|error| failed(place, "written to", error))?;
        Ok(lock)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough, because a child process that has not yet called `exec`
        // may have it open too.
        let released = self.0.set_len(0).and_then(|()| self.0.unlock());
        if let Err(error) = released {
            tracing::warn!(%error, "cannot release the lock file of a socket");
        }
    }
}

fn open(place: &Place) -> Result<File, BindError> {
    // Non-blocking and without a terminal, because the file may be a pipe or a device.
    let flags = OFlags::RDWR
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC;
    let opened = place.open_beside(SUFFIX, flags);
    let stat = match &opened {
        Ok(file) => fstat(file),
        // The type of the file may explain the error better.
        Err(_) => place.stat_beside(SUFFIX),
    };
    if let Ok(stat) = stat {
        check(place, &stat)?;
    }
    opened.map(File::from).map_err(|error| failed(place, "opened", error))
}

/// Refuses a file that another user can lock, or has linked there so that it is overwritten.
fn check(place: &Place, stat: &Stat) -> Result<(), BindError> {
    let shown = lock_path(place);
    let euid = geteuid().as_raw();
    let why = if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        format!("its lock file {shown} is not a regular file")
    } else if stat.st_uid != euid {
        format!("its lock file {shown} belongs to uid {}", stat.st_uid)
    } else if stat.st_nlink > 1 {
        format!("its lock file {shown} has other hard links")
    } else {
        return Ok(());
    };
    let remedy = "remove that file if no server uses it, or choose another path";
    Err(BindError::new(BindErrorKind::InsecureLock, &place.path, why, remedy))
}

fn held(place: &Place, file: &File) -> BindError {
    let shown = lock_path(place);
    let why = match read_pid(file) {
        Some(pid) => format!("another server holds it (pid {pid}, by {shown})"),
        None => format!("another server holds it (by {shown})"),
    };
    let remedy = "stop that server, or choose another path";
    BindError::new(BindErrorKind::Locked, &place.path, why, remedy)
}

fn write_pid(mut file: &File) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all(format!("{}\n", getpid()).as_bytes())
}

/// Returns the holder's pid. `None`: the holder has not written it yet, so it is partial or old.
fn read_pid(mut file: &File) -> Option<Pid> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(MAX_PID).read_to_string(&mut text).ok()?;
    let pid = text.strip_suffix('\n')?.parse().ok().filter(|pid: &i32| pid.is_positive())?;
    let pid = Pid::from_raw(pid)?;
    (test_kill_process(pid) != Err(Errno::SRCH)).then_some(pid)
}

fn failed(place: &Place, what: &str, error: impl Into<io::Error>) -> BindError {
    let doing = format!("its lock file {} cannot be {what}", lock_path(place));
    BindError::io(&place.path, doing, error)
}

fn lock_path(place: &Place) -> String {
    let mut path = place.path.clone().into_os_string();
    path.push(SUFFIX);
    show(path.as_ref())
}

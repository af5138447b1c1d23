//! Whether the caller closed standard output, as `>&-` of a shell does.
//!
//! Rust's runtime opens `/dev/null` for reading and writing in the place of a closed standard
//! descriptor, before `main`. Other programs may pass such a descriptor on purpose, for example
//! Python by `DEVNULL`. A shell does not: `>/dev/null` is for writing only. So standard output counts
//! as closed if it is such a `/dev/null` and the parent is a shell that has another standard output.
//! Without `/proc`, it counts as open.

use std::{fs, io, os::fd::AsFd};

use rustix::{
    fs::{FileType, OFlags, fcntl_getfl, fstat, major, minor},
    process::getppid,
    stdio::stdout,
};

const SHELLS: [&str; 9] = ["ash", "bash", "busybox", "dash", "fish", "ksh", "mksh", "sh", "zsh"];

pub(super) fn is_stdout_closed() -> bool {
    let is_open_for_both =
        fcntl_getfl(stdout()).is_ok_and(|flags| flags & OFlags::RWMODE == OFlags::RDWR);
    is_open_for_both && is_null(stdout()) && is_parent_a_shell_with_another()
}

fn is_null(fd: impl AsFd) -> bool {
    fstat(fd).is_ok_and(|stat| {
        let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
        is_device && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3)
    })
}

fn is_parent_a_shell_with_another() -> bool {
    let Some(parent) = getppid().map(|pid| format!("/proc/{}", pid.as_raw_nonzero())) else {
        return false;
    };
    let name = fs::read_to_string(format!("{parent}/comm")).unwrap_or_default();
    if !SHELLS.contains(&name.trim_end()) {
        return false;
    }
    match fs::read_link(format!("{parent}/fd/1")) {
        Ok(target) => target.as_os_str() != "/dev/null",
        // The shell itself runs without standard output.
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

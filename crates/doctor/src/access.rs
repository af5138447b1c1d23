//! Checks permissions, and explains a refusal by the mode bits.

use std::{ffi::OsStr, iter, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{Access, AtFlags, accessat},
    io::Errno,
    process::{Gid, getegid, geteuid, getgroups},
};

use super::{Check, Finding, Problem, command, file::Node, names, show};

/// The permission that is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// Look up a name in a directory.
    Search,
    /// Connect to a socket, which needs write permission.
    Write,
}

/// The part of the mode that applies to this process: the first that matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Owner,
    Group,
    Others,
}

/// Asks the kernel, which also considers capabilities, access control lists and security modules.
pub(super) fn is_allowed(directory: &OwnedFd, name: &OsStr, want: Want) -> Result<bool, Errno> {
    let access = match want {
        Want::Search => Access::EXEC_OK,
        Want::Write => Access::WRITE_OK,
    };
    match accessat(directory, name, access, AtFlags::EACCESS) {
        Ok(()) => Ok(true),
        Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Explains a refusal, as far as the mode shows the cause.
pub(super) fn refusal(path: &Path, node: &Node, want: Want) -> Finding {
    let (check, permission) = match want {
        Want::Search => (Check::Directory, "search"),
        Want::Write => (Check::Permission, "write"),
    };
    let what = format!("no {permission} permission on {}", show(path));
    let class = class(node);
    let (why, remedy) = if has_bit(node, class, want) {
        let word = command(path);
        (
            format!("the mode {:04o} permits it", node.mode),
            format!(
                "check its access control list (getfacl {word}), and the kernel's log for a \
                 security module or a sandbox (journalctl -k)"
            ),
        )
    } else {
        (lacking(node, class, want), remedy(path, node, class, want))
    };
    Finding::problem(check, Problem::Permission, what, why, remedy)
}

fn class(node: &Node) -> Class {
    if node.uid == geteuid().as_raw() {
        Class::Owner
    } else if groups().any(|group| group == node.gid) {
        Class::Group
    } else {
        Class::Others
    }
}

fn groups() -> impl Iterator<Item = u32> {
    let further = getgroups().unwrap_or_default();
    iter::once(getegid()).chain(further).map(Gid::as_raw)
}

fn has_bit(node: &Node, class: Class, want: Want) -> bool {
    let bit = match want {
        Want::Search => 1,
        Want::Write => 2,
    };
    bits(node, class) & bit != 0
}

fn bits(node: &Node, class: Class) -> u32 {
    let shift = match class {
        Class::Owner => 6,
        Class::Group => 3,
        Class::Others => 0,
    };
    node.mode >> shift & 7
}

fn lacking(node: &Node, class: Class, want: Want) -> String {
    let Node { mode, uid, gid, .. } = *node;
    let (me, owner, group) = (names::user(geteuid().as_raw()), names::user(uid), names::group(gid));
    let being = match class {
        Class::Owner => "its owner".to_owned(),
        Class::Group => format!("in its group {group}"),
        Class::Others => format!("neither its owner {owner} nor in its group {group}"),
    };
    let (all, part, letter) = (letters(mode), letters_of(bits(node, class)), letter(want));
    format!(
        "its mode is {mode:04o} ({all}); {me} is {being}, which gives {part}; {letter} is needed"
    )
}

fn remedy(path: &Path, node: &Node, class: Class, want: Want) -> String {
    let (word, letter) = (command(path), letter(want));
    let as_owner = format!("run this as its owner (sudo -u {})", names::sudo_user(node.uid));
    match (class, names::group_name(node.gid)) {
        (Class::Owner, _) => format!("chmod u+{letter} {word}"),
        (Class::Group, _) => {
            format!("{as_owner}, or grant the group access: chmod g+{letter} {word}")
        }
        // Do not suggest joining root's group.
        (Class::Others, Some(group)) if node.gid != 0 && has_bit(node, Class::Group, want) => {
            let me = names::sudo_user(geteuid().as_raw());
            format!(
                "join its group and log in again (sudo usermod -aG {group} {me}), or {as_owner}"
            )
        }
        (Class::Others, _) if want == Want::Search => {
            format!("{as_owner}, or grant others access: chmod o+{letter} {word}")
        }
        (Class::Others, _) => format!(
            "{as_owner}, or configure the server to give its socket a group of yours and mode 0660"
        ),
    }
}

fn letter(want: Want) -> char {
    match want {
        Want::Search => 'x',
        Want::Write => 'w',
    }
}

/// A mode as `ls` writes it.
pub(super) fn letters(mode: u32) -> String {
    [6, 3, 0].iter().map(|shift| letters_of(mode >> shift & 7)).collect()
}

fn letters_of(bits: u32) -> String {
    let letter = |bit, letter| if bits & bit == 0 { '-' } else { letter };
    [letter(4, 'r'), letter(2, 'w'), letter(1, 'x')].iter().collect()
}

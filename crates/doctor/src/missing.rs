//! Findings for files that are missing on the path.

use std::{io, path::Path};

use rustix::io::Errno;

use super::{Check, Finding, Problem, command, file::Node, show};

/// `whole` is the path of the socket if `path` is a directory on it. `link` is the link that led to
/// `path`.
pub(super) fn not_found(
    path: &Path,
    whole: Option<&Path>,
    link: Option<&Path>,
    error: Errno,
) -> Finding {
    let check = if whole.is_none() { Check::Socket } else { Check::Directory };
    if error != Errno::NOENT {
        return failed(check, path, error);
    }
    let shown = show(path);
    let what = match (link, whole) {
        (Some(link), _) => {
            format!("the symbolic link {} leads to {shown}, which does not exist", show(link))
        }
        (None, None) => format!("there is no socket at {shown}"),
        (None, Some(_)) => format!("{shown} does not exist"),
    };
    let start = "start the server, or give the path that it listens on";
    let (why, remedy) = match whole {
        None => ("no server listens there yet", start.to_owned()),
        Some(whole) => {
            let parent = whole.parent().filter(|_| link.is_none());
            let create = parent.map_or_else(String::new, |parent| {
                format!("; to create the directory: mkdir -p -m 700 {}", command(parent))
            });
            ("the path of the socket leads through it", format!("{start}{create}"))
        }
    };
    Finding::problem(check, Problem::NotRunning, what, why, remedy)
}

pub(super) fn in_the_way(path: &Path, node: &Node) -> Finding {
    let what = format!("{} is {}, not a directory", show(path), node.kind());
    let why = "the path of the socket leads through it";
    let remedy = "give the path that the server listens on";
    Finding::problem(Check::Directory, Problem::NotASocket, what, why, remedy)
}

pub(super) fn in_a_circle(link: &Path) -> Finding {
    let what = format!("the symbolic link {} leads nowhere", show(link));
    let why = "it forms a loop, or the path has more links than the system follows";
    let remedy = format!("show its target, and remove it: namei {}", command(link));
    Finding::problem(Check::Link, Problem::NotASocket, what, why, remedy)
}

/// A finding with the system's own error text.
pub(super) fn failed(check: Check, path: &Path, error: impl Into<io::Error>) -> Finding {
    let what = format!("{} cannot be examined", show(path));
    let why = error.into().to_string();
    let remedy = format!("show each step of the path: namei -l {}", command(path));
    Finding::problem(check, Problem::System, what, why, remedy)
}

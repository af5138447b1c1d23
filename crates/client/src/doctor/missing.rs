//! What cannot be found on the way, and why.

use std::{io, path::Path};

use rustix::io::Errno;

use super::{Check, Finding, Problem, command, file::Node, show};

/// `whole`: of a directory, the path that leads through it. `link`: what led to it.
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
        None => ("no server listens there, or it has not begun to", start.to_owned()),
        Some(whole) => {
            let parent = whole.parent().filter(|_| link.is_none());
            let create = parent.map_or_else(String::new, |parent| {
                format!("; to create the directory: mkdir -p -m 700 {}", command(parent))
            });
            ("it is to be a directory on the way to the socket", format!("{start}{create}"))
        }
    };
    Finding::problem(check, Problem::NotRunning, what, why, remedy)
}

pub(super) fn in_the_way(path: &Path, node: &Node) -> Finding {
    let what = format!("{} is {}, not a directory", show(path), node.kind());
    let why = "the path leads through it as if it were one";
    let remedy = "give the path that the server listens on";
    Finding::problem(Check::Directory, Problem::NotASocket, what, why, remedy)
}

pub(super) fn in_a_circle(link: &Path) -> Finding {
    let what = format!("the symbolic link {} leads nowhere", show(link));
    let why = "it leads in a circle, or through more links than the system follows";
    let remedy = format!("see where it leads, and remove it: namei {}", command(link));
    Finding::problem(Check::Link, Problem::NotASocket, what, why, remedy)
}

/// What the system says, where nothing more is known.
pub(super) fn failed(check: Check, path: &Path, error: impl Into<io::Error>) -> Finding {
    let what = format!("{} cannot be looked at", show(path));
    let why = error.into().to_string();
    let remedy = format!("see each step of the path: namei -l {}", command(path));
    Finding::problem(check, Problem::System, what, why, remedy)
}

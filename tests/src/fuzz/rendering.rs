//! Whatever a server says, as the `client` binary shows it.

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use kakehi_client::cli::probe::{Probe, doctor_report, ssh_failure};

/// Each way of asking, and so of showing.
const COMMANDS: [&str; 6] = ["", "run x", "list", "status", "cancel x", "send {}"];
const OPTIONS: [&str; 4] = ["", "--json", "--color always", "--quiet"];

static PROBES: LazyLock<Vec<Probe>> = LazyLock::new(|| {
    let lines = COMMANDS.iter().flat_map(|command| {
        OPTIONS.iter().map(move |options| format!("client {options} {command}"))
    });
    let probes = lines.map(|line| Probe::new(line.split_whitespace()).expect("it asks a server"));
    probes.collect()
});

#[derive(Arbitrary, Debug)]
struct Said<'a> {
    /// What shows it.
    by: u8,
    /// The width of the live line, if there is one; or the exit status of ssh.
    number: Option<u8>,
    /// Frames, each with a NUL byte behind it; or the last words of ssh.
    bytes: &'a [u8],
}

/// Nothing that the binary shows of what a server says, or the other end of an ssh, can do more to
/// a terminal than a text: it has no C0, C1, DEL, bidirectional control or separator in it, but for
/// the ends of lines, and the colours that were asked for.
///
/// # Panics
/// When it is not so.
pub fn rendering(data: &[u8]) {
    let Some(Said { by, number, bytes }) = super::input(data) else { return };
    let shown = match by {
        0xf8.. => ssh_failure(number.unwrap_or(255), bytes),
        0xf0.. => doctor_report(bytes),
        _ => return drop(show(by.into(), number, bytes)),
    };
    assert!(is_harmless(&shown), "{shown:?}");
}

/// What is shown of answers, each with a NUL byte behind it, without the colours; which way of
/// showing it is, counts on from the first.
///
/// # Panics
/// When it is not harmless.
#[must_use]
pub fn show(by: usize, columns: Option<u8>, frames: &[u8]) -> String {
    let probe = &PROBES[by % PROBES.len()];
    let shown = probe.show(frames.split(|byte| *byte == 0), columns.map(usize::from));
    let shown = String::from_utf8(shown).expect("it is UTF-8");
    let shown = if probe.is_painted() { without_colours(&shown) } else { shown };
    assert!(is_harmless(&shown), "{shown:?}");
    shown
}

/// Without the colours that the binary itself uses.
fn without_colours(text: &str) -> String {
    ["\x1b[32m", "\x1b[1;31m", "\x1b[1m", "\x1b[0m"]
        .iter()
        .fold(text.to_owned(), |text, colour| text.replace(colour, ""))
}

/// Whether a terminal obeys nothing in `text` but the ends of its lines. Spelled out once more, as
/// the requirement has it.
#[must_use]
pub fn is_harmless(text: &str) -> bool {
    text.chars().map(u32::from).all(|code| match code {
        0x0a => true,
        0..0x20 | 0x7f..=0x9f | 0x61c | 0x200e..=0x200f | 0x2028..=0x202e | 0x2066..=0x2069 => {
            false
        }
        _ => true,
    })
}

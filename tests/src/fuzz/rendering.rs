//! Fuzzes the output of the `kakehi` program for any responses.

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use kakehi_cli::probe::{Probe, doctor_report, ssh_failure};

/// Commands whose output differs.
const COMMANDS: [&str; 6] = ["demo", "run x", "list", "status", "cancel x", "send {}"];
const OPTIONS: [&str; 4] = ["", "--json", "--color always", "--quiet"];

static PROBES: LazyLock<Vec<Probe>> = LazyLock::new(|| {
    let lines = COMMANDS.iter().flat_map(|command| {
        OPTIONS.iter().map(move |options| format!("kakehi {options} {command}"))
    });
    let probes = lines.map(|line| Probe::new(line.split_whitespace()).expect("it asks a server"));
    probes.collect()
});

#[derive(Arbitrary, Debug)]
struct Said<'a> {
    /// Selects the command and its options.
    by: u8,
    /// The width of the live line, if any; or the exit status of ssh.
    number: Option<u8>,
    /// Frames ended by NUL bytes; or the last output of ssh.
    bytes: &'a [u8],
}

/// Checks that the program's output is harmless for a terminal: apart from line ends and its own
/// colours, it has no C0, C1, DEL, bidirectional control or separator.
///
/// # Panics
/// If the property does not hold.
pub fn rendering(data: &[u8]) {
    let Some(Said { by, number, bytes }) = super::input(data) else { return };
    let shown = match by {
        0xf8.. => ssh_failure(number.unwrap_or(255), bytes),
        0xf0.. => doctor_report(bytes),
        _ => return drop(show(by.into(), number, bytes)),
    };
    assert!(is_harmless(&shown), "{shown:?}");
}

/// Returns the output for frames ended by NUL bytes, without the program's own colours. `by`
/// selects the command and its options.
///
/// # Panics
/// If the output is not harmless.
#[must_use]
pub fn show(by: usize, columns: Option<u8>, frames: &[u8]) -> String {
    let probe = &PROBES[by % PROBES.len()];
    let shown = probe.show(frames.split(|byte| *byte == 0), columns.map(usize::from));
    let shown = String::from_utf8(shown).expect("it is UTF-8");
    let shown = if probe.is_painted() { without_colours(&shown) } else { shown };
    assert!(is_harmless(&shown), "{shown:?}");
    shown
}

/// Removes the colours that the program itself uses.
fn without_colours(text: &str) -> String {
    ["\x1b[32m", "\x1b[31m", "\x1b[1m", "\x1b[0m"]
        .iter()
        .fold(text.to_owned(), |text, colour| text.replace(colour, ""))
}

/// Whether `text` has no control character but line ends, and tabs, which a job may write. Independent of the program's own code.
#[must_use]
pub fn is_harmless(text: &str) -> bool {
    text.chars().map(u32::from).all(|code| match code {
        0x09 | 0x0a => true,
        0..0x20 | 0x7f..=0x9f | 0x61c | 0x200e..=0x200f | 0x2028..=0x202e | 0x2066..=0x2069 => {
            false
        }
        _ => true,
    })
}

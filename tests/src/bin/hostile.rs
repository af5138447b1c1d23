//! `hostile COUNT`: renders hostile texts as each command of the `kakehi` program does, and looks
//! for control characters in the output. `tests/hostile` runs it.

use std::{
    env,
    error::Error,
    io::{Write, stdout},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::Instant,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use fastrand::Rng;
use kakehi_tests::fuzz::show;
use serde_json::json;

/// The number of texts in one output.
const BATCH: u64 = 256;

/// Control characters and their neighbours.
const HOSTILE: [std::ops::Range<u32>; 9] = [
    0..0x20,
    0x7f..0xa1,
    0x61b..0x61e,
    0x200b..0x2011,
    0x2027..0x2030,
    0x2065..0x206b,
    0xfeff..0xff00,
    0x1b..0x1c,
    0x9b..0x9e,
];

fn text(random: &mut Rng) -> String {
    (0..random.usize(..24)).map(|_| character(random)).collect()
}

fn character(random: &mut Rng) -> char {
    let code = match random.u8(..4) {
        0 => random.u32(0x20..0x7f),
        1 => random.u32(..0x11_0000),
        _ => {
            let range = random.choice(HOSTILE).unwrap_or(0..1);
            random.u32(range)
        }
    };
    char::from_u32(code).unwrap_or('\u{fffd}')
}

/// A response with a text in each field that can have one.
fn frame(random: &mut Rng, out: &mut Vec<u8>) {
    let text = json!(text(random)).to_string();
    let content = match random.u8(..4) {
        0 => r#"{"stream":"stdout","line":1}"#.to_owned(),
        1 => {
            let bytes: Vec<u8> = (0..random.usize(..24)).map(|_| random.u8(..)).collect();
            format!(r#"{{"stream":"stderr","line":1,"base64":"{}"}}"#, STANDARD.encode(bytes))
        }
        2 => format!("{{{text}:{text},\"done\":1,\"total\":2}}"),
        _ => "null".to_owned(),
    };
    let head = format!(r#"{{"id":{text},"version":0,"status":"PROCESSING","message":{text}"#);
    out.extend_from_slice(format!("{head},\"content\":{content}}}\0").as_bytes());
}

/// Renders batches until none is `left`. Returns the number of bytes.
fn work(seed: u64, left: &AtomicU64) -> usize {
    let (mut random, mut bytes) = (Rng::with_seed(seed), 0);
    while left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
        let mut frames = Vec::new();
        (0..BATCH).for_each(|_| frame(&mut random, &mut frames));
        let columns = random.bool().then(|| random.u8(..));
        bytes += show(random.usize(..), columns, &frames).len();
    }
    bytes
}

fn main() -> Result<(), Box<dyn Error>> {
    let count: u64 = env::args().nth(1).ok_or("usage: hostile COUNT")?.parse()?;
    let batches = count.div_ceil(BATCH);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let (begun, left) = (Instant::now(), AtomicU64::new(batches));
    let bytes = thread::scope(|scope| {
        let left = &left;
        let workers: Vec<_> =
            (0..threads as u64).map(|seed| scope.spawn(move || work(seed, left))).collect();
        workers.into_iter().map(|worker| worker.join().ok()).sum::<Option<usize>>()
    });
    let bytes = bytes.ok_or("an output has a control character")?;
    let (texts, took) = (batches * BATCH, begun.elapsed());
    writeln!(
        stdout(),
        "{texts} texts, shown as {bytes} bytes in {took:.0?}: none can harm a terminal"
    )?;
    Ok(())
}

//! A raw client that can send any bytes, and can read slowly or not at all.

use std::time::Duration;

use fastrand::Rng;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split},
    join,
    time::{sleep, timeout},
};

use super::{reading, request};
use crate::{
    listener::Port,
    plan::{maybe, milliseconds},
    stream::Stream,
    world::World,
};

const WRONG: &[&str] = &[
    "",
    "null",
    "[]",
    r#"["a"]"#,
    r#"["a",0]"#,
    "{",
    r#"{"id":"a"}"#,
    r#"{"id":"a","version":1}"#,
    r#"{"id":"a","id":"b","version":0}"#,
    r#"{"id":7,"version":0}"#,
    r#"{"id":"a","version":0,"command":{"token":-1}}"#,
    r#"{"id":"a","version":0,"timeout_ms":"1"}"#,
    r#"{"id":"a","version":0}x"#,
    "\u{feff}{}",
];

#[derive(Clone, Copy)]
enum Reading {
    All,
    /// Pauses for this time after each read.
    Slowly(Duration),
    Never,
}

pub(crate) async fn act(world: World, port: Port, mut rng: Rng) {
    let Ok(stream) = port.connect(&mut rng) else { return };
    let link = stream.number;
    let manner = match rng.u32(..10) {
        0..6 => Reading::All,
        6..8 => Reading::Slowly(milliseconds(&mut rng, 1..=50)),
        _ => Reading::Never,
    };
    let patience = milliseconds(&mut rng, 0..=1500);
    let (reader, writer) = split(stream);
    let mut own = Rng::with_seed(rng.u64(..));
    // The timeout drops both halves, which disconnects in the middle.
    let talk = async { join!(write(&world, writer, &mut own), read(reader, manner)) };
    let Ok(((writer, is_half_closed), reader)) = timeout(patience, talk).await else {
        world.lock().court.journal.reach("left in the middle of the talk");
        return;
    };
    let stream = reader.unsplit(writer);
    if is_half_closed && matches!(manner, Reading::All) {
        world.lock().court.journal.reach("half-closed");
        reading::to_the_end(&world, link, stream).await;
    } else {
        sleep(milliseconds(&mut rng, 0..=500)).await;
    }
}

/// Writes frames. Returns whether it has closed its sending side.
async fn write(
    world: &World,
    mut writer: WriteHalf<Stream>,
    rng: &mut Rng,
) -> (WriteHalf<Stream>, bool) {
    for _ in 0..rng.usize(..8) {
        if maybe(rng, 30, |_| ()).is_some() {
            sleep(milliseconds(rng, 0..=100)).await;
        }
        let (frame, goes_on) = frame(world, rng);
        if writer.write_all(&frame).await.is_err() {
            return (writer, false);
        }
        if !goes_on {
            // The frame stays unfinished.
            sleep(milliseconds(rng, 0..=1000)).await;
            return (writer, false);
        }
    }
    let is_half_closed = rng.bool() && writer.shutdown().await.is_ok();
    (writer, is_half_closed)
}

/// A frame, and whether another may follow.
fn frame(world: &World, rng: &mut Rng) -> (Vec<u8>, bool) {
    let most = world.lock().court.limits.request_bytes;
    let (mut request, _) = request(world, rng);
    request.timeout_ms = maybe(rng, 40, |rng| [0, 1, 20, 100, 1000, u64::MAX][rng.usize(..6)]);
    request.deadline_ms = maybe(rng, 30, |rng| [0, 1, 50, 500, u64::MAX][rng.usize(..5)]);
    let mut bytes = match rng.u32(..100) {
        0..12 => WRONG[rng.usize(..WRONG.len())].as_bytes().to_vec(),
        12..15 => vec![0xff, 0xfe],
        15..18 => format!(r#"{{"id":"none","version":0,"x":{}}}"#, rng.u8(..)).into_bytes(),
        18..21 => " ".repeat(most + rng.usize(..50)).into_bytes(),
        _ => serde_json::to_vec(&request).expect("a request is JSON"),
    };
    if maybe(rng, 8, |_| ()).is_some() {
        bytes.truncate(rng.usize(..=bytes.len()));
        return (bytes, false);
    }
    bytes.push(0);
    (bytes, true)
}

async fn read(mut reader: ReadHalf<Stream>, manner: Reading) -> ReadHalf<Stream> {
    let mut sink = [0; 256];
    let (count, pause) = match manner {
        Reading::All => (10_000, None),
        Reading::Slowly(pause) => (30, Some(pause)),
        Reading::Never => (0, None),
    };
    for _ in 0..count {
        // Stops once no byte has come for 100 ms.
        match timeout(Duration::from_millis(100), reader.read(&mut sink)).await {
            Ok(Ok(1..)) => {}
            _ => break,
        }
        if let Some(pause) = pause {
            sleep(pause).await;
        }
    }
    reader
}

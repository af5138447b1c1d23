//! Encodes one response and decodes it again, as often as its argument says. A count of the
//! instructions shows whether a message has become more expensive.
//!
//! `.ci/instructions` runs it under valgrind with two counts; the difference is what the messages
//! cost, and nothing of how a process starts.

use std::{error::Error, hint::black_box};

use kakehi_channel::{Decode, Encode, Format, Json, Request, Response, low_level::Buffer};

fn main() -> Result<(), Box<dyn Error>> {
    let count = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(1);
    let request = Request::with_command("ID-00000001", "x".repeat(41));
    let response = Response::<()>::processing("ID-00000001", "step 00000001 ...................");
    let mut out = Buffer::new(1024, 1024);
    for _ in 0..count {
        there_and_back(black_box(&request), &mut out)?;
        there_and_back(black_box(&response), &mut out)?;
    }
    Ok(())
}

fn there_and_back<T>(message: &T, out: &mut Buffer) -> Result<(), Box<dyn Error>>
where
    Json: Encode<T> + Decode<T>,
{
    let mut json = Json::default();
    json.encode_frame(message, out, 1024)?;
    let frame = json.find(out.data(), 1024)?.ok_or("half a frame")?;
    let payload = out.data().get(frame.payload).ok_or("outside")?;
    let message: T = json.decode(payload)?;
    black_box(message);
    out.consume(frame.len);
    Ok(())
}

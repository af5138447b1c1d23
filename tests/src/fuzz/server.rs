//! Fuzzes a server's connection with any bytes.

use std::collections::VecDeque;

use arbitrary::Arbitrary;
use kakehi_channel::{Decode, Json, Refusal, Request, Response, Status};
use kakehi_server::{Answer, Context, Failure, Limits, Peer, serve_stream};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex, split},
    time::sleep,
};

use super::{PAUSE, chunks, plain::Fields, runtime, write_in_pieces};

#[derive(Arbitrary, Debug)]
struct Attack<'a> {
    pipe: u8,
    request_bytes: u8,
    sizes: [u8; 6],
    stream: &'a [u8],
}

/// The final response to one frame.
#[derive(Debug)]
enum Final {
    /// The response to a request.
    Of(Request),
    /// The refusal of a malformed request. `None`: its id is not checked.
    Refusal(Refusal, Option<String>),
}

/// Checks that each request receives its progress and exactly one final response, that each
/// malformed frame is refused, both in the order of the frames, and that the connection then ends.
///
/// # Panics
/// If the property does not hold.
pub fn server(data: &[u8]) {
    let Some(attack) = super::input::<Attack>(data) else { return };
    // More would be too slow.
    if attack.stream.len() > 8000 {
        return;
    }
    let max = 16 * (usize::from(attack.request_bytes) + 1);
    let limits = Limits { request_bytes: max, ..Limits::default() };
    let (ours, theirs) = duplex(usize::from(attack.pipe) + 1);
    let (mut reading, mut writing) = split(theirs);
    let write = async {
        let mut pieces = chunks(&attack.sizes).into_iter().cycle();
        // After a frame over the limit, the server stops reading.
        let _ = write_in_pieces(&mut writing, attack.stream, &mut pieces).await;
        let _ = writing.shutdown().await;
    };
    let read = async {
        let mut answers = vec![];
        reading.read_to_end(&mut answers).await.expect("its end is clean");
        answers
    };
    let serve = serve_stream(ours, Peer::own(), handle, limits);
    let ((), (), answers) = runtime::run(async { tokio::join!(serve, write, read) });
    check(&answers, finals(attack.stream, max));
}

/// Sends progress as often as the command says, if it is a number; then OK or ERROR.
async fn handle(request: Request, context: Context) -> Result<Answer<Value>, Failure> {
    for step in 0..steps(&request) {
        sleep(PAUSE).await;
        context.progress(step.to_string()).await?;
    }
    match request.command {
        Some(Value::Bool(_)) => Err(Failure::refused(Refusal::Denied, "no")),
        Some(Value::Array(_)) => Err(Failure::new("failed")),
        command => Ok(Answer { message: "done".into(), content: command }),
    }
}

fn steps(request: &Request) -> u64 {
    request.command.as_ref().and_then(Value::as_u64).unwrap_or_default() % 8
}

/// The final responses that docs/protocol.md promises for these bytes.
fn finals(mut stream: &[u8], max: usize) -> VecDeque<Final> {
    let mut finals = VecDeque::new();
    while let Some(nul) = stream.iter().take(max).position(|byte| *byte == 0) {
        let payload = &stream[..nul];
        let fields = Fields::of(payload);
        let request = fields.as_ref().and_then(Fields::request);
        finals.push_back(request.map_or_else(
            || {
                let id = fields.and_then(|fields| fields.id()).unwrap_or_default();
                // The server may read the id of a frame that is not UTF-8.
                let is_text = std::str::from_utf8(payload).is_ok();
                Final::Refusal(Refusal::Malformed, is_text.then_some(id))
            },
            Final::Of,
        ));
        stream = &stream[nul + 1..];
    }
    match stream.len() {
        0 => {}
        len if len >= max => {
            finals.push_back(Final::Refusal(Refusal::TooLarge, Some(String::new())));
        }
        _ => finals.push_back(Final::Refusal(Refusal::Malformed, Some(String::new()))),
    }
    finals
}

fn check(answers: &[u8], mut finals: VecDeque<Final>) {
    let mut seen = 0;
    let mut frames = answers.split(|byte| *byte == 0);
    assert_eq!(frames.next_back(), Some(&[][..]), "the last frame is whole");
    for frame in frames {
        let response: Response = Json::default().decode(frame).expect("it is a response");
        let expected = finals.front().expect("there was something to answer");
        match expected {
            Final::Of(request) if response.status == Status::Processing => {
                assert_eq!(response.id, request.id);
                let is_keep_alive = response.message.is_empty();
                assert!(!is_keep_alive || request.timeout().is_some(), "a keep-alive, no timeout");
                if !is_keep_alive {
                    assert_eq!(response.message, seen.to_string());
                    seen += 1;
                }
                continue;
            }
            Final::Of(request) => check_final(&response, request, seen),
            Final::Refusal(why, id) => {
                assert_eq!((response.status, response.refused), (Status::Error, Some(*why)));
                assert!(
                    id.as_ref().is_none_or(|id| id == &response.id),
                    "{response:?}, not {id:?}"
                );
            }
        }
        seen = 0;
        finals.pop_front();
    }
    assert!(finals.is_empty(), "no response to {finals:?}");
}

fn check_final(response: &Response, request: &Request, seen: u64) {
    assert_eq!(response.id, request.id);
    let is_late = request.deadline().is_some_and(|deadline| deadline <= 10 * PAUSE);
    if is_late && response.status == Status::Error && response.refused.is_none() {
        return;
    }
    assert_eq!(seen, steps(request), "progress is missing");
    let (status, refused, content) = match &request.command {
        Some(Value::Bool(_)) => (Status::Error, Some(Refusal::Denied), None),
        Some(Value::Array(_)) => (Status::Error, None, None),
        command => (Status::Ok, None, command.clone()),
    };
    assert_eq!((response.status, response.refused), (status, refused));
    assert_eq!(response.content, content);
}

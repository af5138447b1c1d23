//! A protocol with the required methods only.

#![allow(clippy::unwrap_used, reason = "this is a test")]

use std::str::from_utf8;

use kakehi_channel::{
    ChannelError, Decode, Encode, Format, Request, Response,
    low_level::{Buffer, Frame},
};
use kakehi_server::{AnyContent, Context, Limits, Peer, Protocol, serve_stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A command a line; a response has its id, its status and its message.
#[derive(Default)]
struct Lines;

impl Format for Lines {
    fn find(&mut self, data: &[u8], _: usize) -> Result<Option<Frame>, ChannelError> {
        let end = data.iter().position(|byte| *byte == b'\n');
        Ok(end.map(|end| Frame { payload: 0..end, len: end + 1 }))
    }
}

impl Decode<Request<String>> for Lines {
    fn decode(&mut self, payload: &[u8]) -> Result<Request<String>, ChannelError> {
        let command = from_utf8(payload).map_err(ChannelError::malformed)?;
        Ok(Request::with_command("a", command.to_owned()))
    }
}

impl Encode<Response<&(), &str>> for Lines {
    fn encode(
        &mut self,
        response: &Response<&(), &str>,
        out: &mut Buffer,
    ) -> Result<(), ChannelError> {
        let Response { id, status, message, .. } = response;
        Ok(out.put(format!("{id:?} {status} {message}\n").as_bytes())?)
    }
}

impl Protocol<String> for Lines {}

#[tokio::test]
async fn what_is_no_request_has_no_id_where_the_wire_names_none() {
    let (ours, mut theirs) = tokio::io::duplex(1024);
    let handler = async |request: Request<String>, _: Context<AnyContent, Lines>| {
        request.command.ok_or("no command")
    };
    let serving = serve_stream(ours, Peer::own(), handler, Limits::default());
    let serving = tokio::spawn(serving);
    theirs.write_all(b"go\n\xFF\n").await.unwrap();
    theirs.shutdown().await.unwrap();
    let mut answers = String::new();
    theirs.read_to_string(&mut answers).await.unwrap();
    let mut answers = answers.lines();
    assert_eq!(answers.next(), Some("\"a\" OK go"));
    let refused = answers.next().unwrap();
    assert!(refused.starts_with("\"\" ERROR "), "{refused}");
    assert_eq!(answers.next(), None);
    serving.await.unwrap();
}

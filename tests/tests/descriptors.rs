//! Messages sent in pieces with descriptors: a read ends at each, although more bytes are there.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::{
        fd::AsFd,
        unix::net::{UnixListener, UnixStream},
    },
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context as Task, Poll},
    time::Duration,
};

use kakehi_channel::{BUSY_POLL, BusyPoll, Channel, Json, Request, Response};
use kakehi_client::{Client, ClientSettings, Connection};
use kakehi_server::{Context, Limits, Socket, serve};
use kakehi_tests::wire::poll_once;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::yield_now,
    time::{sleep, timeout},
};

/// Far below the server's time for a request, which is 10 s.
const PATIENCE: Duration = Duration::from_secs(5);
const POLLING: [Duration; 2] = [Duration::ZERO, BUSY_POLL];

/// Sends `bytes` with a descriptor, in one message that a read does not cross.
fn send_piece(socket: &UnixStream, bytes: &[u8]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [socket.as_fd()];
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let sent = sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::empty());
    assert_eq!(sent.unwrap(), bytes.len());
}

fn send_in_pieces(socket: &UnixStream, bytes: &[u8], count: usize) {
    for piece in bytes.chunks(bytes.len().div_ceil(count)) {
        send_piece(socket, piece);
    }
}

/// A client of a server that answers each request with its id.
fn client(dir: &TempDir, busy_poll: Duration) -> UnixStream {
    let path = dir.path().join("app.sock");
    let socket = Socket::bind(&path).listen().unwrap();
    let answer = async |request: Request, _: Context| Ok::<_, String>(request.id);
    tokio::spawn(
        serve(socket, answer).limits(Limits { busy_poll, ..Limits::default() }).into_future(),
    );
    UnixStream::connect(path).unwrap()
}

async fn answers(client: UnixStream, ids: &[&str]) {
    client.set_nonblocking(true).unwrap();
    let client = tokio::net::UnixStream::from_std(client).unwrap();
    let mut client = Channel::<Request, Response>::new(client);
    for id in ids {
        let response = timeout(PATIENCE, client.next()).await.unwrap();
        let response = response.unwrap().unwrap();
        assert_eq!((response.message.as_str(), response.refused), (*id, None));
    }
}

/// Waits for `count` frames and leaves them in the socket.
async fn peek_responses(client: &UnixStream, count: usize) {
    let mut space = [0; 1024];
    loop {
        let peeked = recv(client, &mut space, RecvFlags::PEEK | RecvFlags::DONTWAIT);
        let bytes = peeked.map_or(&[][..], |(_, len)| space.get(..len).unwrap());
        if bytes.split(|byte| *byte == 0).count() > count {
            return;
        }
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_request_in_three_messages_with_descriptors_is_answered_at_once() {
    for busy_poll in POLLING {
        let dir = TempDir::new().unwrap();
        let client = client(&dir, busy_poll);
        send_in_pieces(&client, b"{\"id\":\"a\",\"version\":0}\0", 3);
        answers(client, &["a"]).await;
    }
}

#[tokio::test]
async fn a_request_that_begins_behind_another_one_is_answered_at_once() {
    for busy_poll in POLLING {
        let dir = TempDir::new().unwrap();
        let client = client(&dir, busy_poll);
        send_piece(&client, b"{\"id\":\"a\",\"version\":0}\0{\"id\":");
        send_piece(&client, b"\"b\",\"version\"");
        send_piece(&client, b":0}\0");
        // A client that reads wakes the server, which then sees the rest by chance.
        timeout(PATIENCE, peek_responses(&client, 2)).await.expect("both are answered in time");
        answers(client, &["a", "b"]).await;
    }
}

#[tokio::test]
async fn a_response_in_three_messages_with_descriptors_is_read_at_once() {
    const RESPONSE: &[u8] =
        b"{\"id\":\"a\",\"version\":0,\"status\":\"OK\",\"message\":\"done\"}\0";
    for busy_poll in POLLING {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("app.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let client = Client::new(
            &path,
            ClientSettings { busy_poll, deadline: Some(PATIENCE), ..ClientSettings::default() },
        );
        let asked = tokio::spawn(async move { client.request("x").id("a").await });
        let server = loop {
            yield_now().await;
            listener.set_nonblocking(true).unwrap();
            if let Ok((server, _)) = listener.accept() {
                break server;
            }
        };
        send_in_pieces(&server, RESPONSE, 3);
        assert_eq!(asked.await.unwrap().unwrap().message, "done");
    }
}

#[tokio::test]
async fn a_connection_over_any_stream_reads_to_the_end_of_a_response() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let ours = tokio::net::UnixStream::from_std(ours).unwrap();
    let mut connection = Connection::busy_poll(Channel::<Request, Response>::new(ours), BUSY_POLL);
    send_in_pieces(
        &theirs,
        b"{\"id\":\"a\",\"version\":0,\"status\":\"OK\",\"message\":\"done\"}\0",
        3,
    );
    let asked = connection.request("x").id("a").deadline(PATIENCE).await;
    assert_eq!(asked.unwrap().message, "done");
}

/// Gives one byte, then nothing: the rest is past it.
struct OneByte(bool);

impl AsyncRead for OneByte {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Task<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Pending;
        }
        buffer.put_slice(b"1");
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for OneByte {
    fn poll_write(self: Pin<&mut Self>, _: &mut Task<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

#[tokio::test]
async fn a_message_in_very_many_pieces_leaves_other_tasks_their_turn() {
    static READS: AtomicUsize = AtomicUsize::new(0);
    let channel = Channel::<(), u64, Json, _>::new(OneByte(false));
    let mut channel = channel.busy_poll(|stream| {
        BusyPoll::with_read(stream, BUSY_POLL, |_, space| {
            READS.fetch_add(1, Ordering::Relaxed);
            let byte = space.first_mut().unwrap();
            *byte = b'1';
            Ok(1)
        })
    });
    assert!(poll_once(channel.next()).is_pending());
    let reads = READS.load(Ordering::Relaxed);
    assert!((1..1000).contains(&reads), "{reads} reads in one turn");
}

//! Requests of the fleet as connections of `kakehi-server`: each is a byte stream of its own.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures::{StreamExt, channel::mpsc};
use kakehi_server::{Identity, Listener, Peer};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    sync::Mutex,
};

/// The capacity of a stream in each direction, in bytes.
const STREAM: usize = 128 * 1024;

/// The server's end of the stream of one request.
#[derive(Debug)]
pub(crate) struct RequestStream {
    stream: DuplexStream,
    identity: Arc<Identity>,
    has_left: Arc<AtomicBool>,
}

/// The node's end. Dropped, it is a client that has disconnected.
#[derive(Debug)]
pub(crate) struct ClientEnd {
    pub(crate) stream: DuplexStream,
    has_left: Arc<AtomicBool>,
}

impl Drop for ClientEnd {
    fn drop(&mut self) {
        // Before the stream ends: the server asks when it reads the end.
        self.has_left.store(true, Ordering::SeqCst);
    }
}

pub(crate) fn pair(identity: Arc<Identity>) -> (ClientEnd, RequestStream) {
    let (ours, theirs) = tokio::io::duplex(STREAM);
    let has_left = Arc::new(AtomicBool::new(false));
    let client = ClientEnd { stream: ours, has_left: Arc::clone(&has_left) };
    (client, RequestStream { stream: theirs, identity, has_left })
}

/// Where the server accepts the streams.
#[derive(Debug)]
pub(crate) struct Requests(Mutex<mpsc::Receiver<RequestStream>>);

impl Requests {
    pub(crate) fn new(streams: mpsc::Receiver<RequestStream>) -> Self {
        Self(Mutex::new(streams))
    }
}

impl Listener for Requests {
    type Stream = RequestStream;

    async fn accept(&self) -> io::Result<RequestStream> {
        match self.0.lock().await.next().await {
            Some(stream) => Ok(stream),
            None => std::future::pending().await,
        }
    }

    fn peer(stream: &RequestStream) -> io::Result<Peer> {
        Ok(Peer::remote(Arc::clone(&stream.identity)))
    }

    fn has_left(stream: &RequestStream) -> bool {
        stream.has_left.load(Ordering::SeqCst)
    }
}

impl AsyncRead for RequestStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for RequestStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

//! A client cannot keep a handler running after its deadline, or the memory of other clients.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::{
    future::{Future, pending},
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::{Duration, Instant},
};

use kakehi_channel::{Channel, Request, Response, Status};
use kakehi_server::{Context, Handle, Limits, Peer, Socket, serve, serve_stream};
use serde::{Deserialize, Deserializer};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::UnixStream,
    time::{sleep, timeout},
};

const PATIENCE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);

struct Place {
    path: PathBuf,
    handle: Handle,
    _folder: TempDir,
}

/// Serves on a socket, until the test ends.
fn served<H, C>(limits: Limits, handler: H) -> Place
where
    H: kakehi_server::Handler<C>,
    C: for<'de> Deserialize<'de> + Send + 'static,
{
    let folder = tempfile::tempdir().unwrap();
    let (path, handle) = (folder.path().join("s"), Handle::default());
    let socket = Socket::bind(&path).listen().unwrap();
    tokio::spawn(serve(socket, handler).limits(limits).handle(&handle).into_future());
    Place { path, handle, _folder: folder }
}

impl Place {
    async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.path).await.unwrap()
    }

    async fn until(&self, what: impl Fn(&Handle) -> bool) {
        let look = async {
            while !what(&self.handle) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, look).await.unwrap();
    }
}

fn request(id: &str, command: &str) -> Vec<u8> {
    let request = Request::with_command(id, command);
    [serde_json::to_vec(&request).unwrap(), vec![0]].concat()
}

/// Waits for the final response on a connection.
async fn last<S: tokio::io::AsyncRead + Unpin>(stream: &mut S) -> Response {
    let mut frame = vec![];
    loop {
        let byte = timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap();
        if byte != 0 {
            frame.push(byte);
            continue;
        }
        let response: Response = serde_json::from_slice(&frame).unwrap();
        if response.status.is_final() {
            return response;
        }
        frame.clear();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_only_ever_waits_for_room_has_its_deadline() {
    let handler = async |_: Request<String>, context: Context| {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            // It takes longer to make a message than to read it.
            std::thread::sleep(Duration::from_micros(50));
            context.progress("x".repeat(2000)).await?;
        }
        Ok::<_, kakehi_channel::ChannelError>(())
    };
    let place = served(Limits::default(), handler);
    let mut client = Channel::<Request<String>, Response>::connect(&place.path).await.unwrap();
    let mut request = Request::with_command("a", String::new());
    request.deadline_ms = Some(300);
    let begun = Instant::now();
    client.send(request).await.unwrap();
    let answer = loop {
        let response = timeout(PATIENCE, client.next()).await.unwrap().unwrap().unwrap();
        if response.status.is_final() {
            break response;
        }
    };
    assert_eq!(answer.message, "cancelled: the deadline has passed");
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_partial_request_behind_a_running_one_has_the_request_time() {
    let limits = Limits { request_time: 5 * SHORT, unfinished_bytes: 1000, ..Limits::default() };
    let handler = async |request: Request<String>, _: Context| match request.command.as_deref() {
        Some("hang") => pending().await,
        _ => Ok::<_, String>(()),
    };
    let place = served(limits, handler);
    let mut holding = place.connect().await;
    let half = [request("a", "hang"), b"\"".to_vec(), vec![b'x'; 900]].concat();
    holding.write_all(&half).await.unwrap();
    place.until(|handle| handle.stats().running == 1).await;
    sleep(7 * SHORT).await;
    let mut other = place.connect().await;
    let long = request("b", &"y".repeat(600));
    let (start, rest) = long.split_at(500);
    other.write_all(start).await.unwrap();
    sleep(SHORT / 5).await;
    other.write_all(rest).await.unwrap();
    assert_eq!(last(&mut other).await.status, Status::Ok);
    assert_eq!(place.handle.stats().running, 1, "what runs goes on");
}

#[tokio::test]
async fn a_waiting_request_is_discarded_when_its_client_disconnects() {
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    let handler = async |_: Request<String>, context: Context| {
        STARTED.fetch_add(1, SeqCst);
        context.detach_from_client();
        sleep(SHORT).await;
        Ok::<_, String>(())
    };
    let place = served(Limits::default(), handler);
    let mut client = place.connect().await;
    let both = [request("a", "x"), request("b", "x")].concat();
    client.write_all(&both).await.unwrap();
    place.until(|handle| handle.stats().running == 1).await;
    drop(client);
    place.until(|handle| handle.stats().connections == 0).await;
    assert_eq!(STARTED.load(SeqCst), 1);
}

/// One end of a served stream, with responses of 400 bytes at most.
fn narrow<A>(
    handler: impl Fn(Request<String>, Context) -> A + Clone + Send + Sync + 'static,
) -> DuplexStream
where
    A: Future<Output = Result<String, String>> + Send + 'static,
{
    let (ours, theirs) = tokio::io::duplex(4096);
    let limits = Limits { response_bytes: 400, ..Limits::default() };
    tokio::spawn(serve_stream(ours, Peer::own(), handler, limits));
    theirs
}

#[tokio::test(start_paused = true)]
async fn a_request_with_too_large_an_id_gets_a_response_without_it() {
    let handler = async |request: Request<String>, _: Context| match request.command.as_deref() {
        Some("panic") => panic!("on request"),
        Some("hang") => pending().await,
        _ => Ok("done".into()),
    };
    let mut client = narrow(handler);
    for (command, expected) in [
        ("x", "the answer cannot be sent"),
        ("panic", "the handler panicked"),
        ("hang", "cancelled: the deadline has passed"),
    ] {
        let mut asked = Request::with_command("i".repeat(500), command);
        asked.deadline_ms = Some(100);
        client.write_all(&[serde_json::to_vec(&asked).unwrap(), vec![0]].concat()).await.unwrap();
        let answer = last(&mut client).await;
        assert_eq!((&*answer.id, answer.status), ("", Status::Error));
        assert!(answer.message.starts_with(expected), "{}", answer.message);
    }
    client.write_all(&request("short", "x")).await.unwrap();
    assert_eq!(last(&mut client).await.id, "short", "the next one has its own");
}

/// A command whose `Deserialize` panics.
#[derive(Debug)]
struct Panicking;

impl<'de> Deserialize<'de> for Panicking {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            text if text.starts_with("panic") => panic!("on request"),
            _ => Ok(Self),
        }
    }
}

#[tokio::test]
async fn the_memory_of_a_request_whose_decoding_panics_is_released() {
    let limits = Limits { unfinished_bytes: 1000, ..Limits::default() };
    let handler = async |_: Request<Panicking>, _: Context| Ok::<_, String>(());
    let place = served(limits, handler);
    let mut clients = vec![];
    for (text, status) in [("panic", Status::Error), ("panic", Status::Error), ("ok", Status::Ok)] {
        let mut client = place.connect().await;
        let long = request("a", &format!("{text}{}", "y".repeat(600)));
        let (start, rest) = long.split_at(600);
        client.write_all(start).await.unwrap();
        sleep(SHORT / 2).await;
        client.write_all(rest).await.unwrap();
        assert_eq!(last(&mut client).await.status, status);
        // The memory is released while the connection stays open.
        clients.push(client);
    }
}

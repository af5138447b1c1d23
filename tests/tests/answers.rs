//! One byte stream, any handler: each accepted request gets exactly one final answer.
//! Time is paused: what takes seconds here takes none.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "this is a test"
)]

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kakehi_channel::{Refusal, Request, Response, Status};
use kakehi_server::{Answer, Context, Failure, Handler, Limits, Peer, serve_stream};
use serde::{Serialize, Serializer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::mpsc,
    task::JoinHandle,
    time::Instant,
};

/// A server of `handler` and the other end of its stream.
fn start<H: Handler<String>>(handler: H, limits: Limits) -> (DuplexStream, JoinHandle<()>) {
    let (ours, theirs) = tokio::io::duplex(4096);
    (theirs, tokio::spawn(serve_stream(ours, Peer::own(), handler, limits)))
}

async fn ask(stream: &mut DuplexStream, requests: &[&str]) {
    let wire: String = requests.iter().flat_map(|request| [*request, "\0"]).collect();
    stream.write_all(wire.as_bytes()).await.unwrap();
}

/// The next response, or `None` at the end of the stream.
async fn response(stream: &mut DuplexStream) -> Option<Response> {
    let mut frame = vec![];
    loop {
        match stream.read_u8().await {
            Ok(0) => return Some(serde_json::from_slice(&frame).unwrap()),
            Ok(byte) => frame.push(byte),
            Err(_) => {
                assert!(frame.is_empty(), "the stream ended inside a frame");
                return None;
            }
        }
    }
}

/// Everything until the end, in short: `id STATUS message`.
async fn all(stream: &mut DuplexStream) -> Vec<String> {
    let mut seen = vec![];
    while let Some(response) = response(stream).await {
        seen.push(format!("{} {} {}", response.id, response.status, response.message));
    }
    seen
}

const ASK: &str = r#"{"id":"a","version":0,"command":"go"}"#;

#[tokio::test(start_paused = true)]
async fn progress_is_at_the_client_before_any_time_has_passed() {
    let (mut stream, _) = start(
        async |_: Request<String>, context: Context| {
            for step in ["one", "two"] {
                context.progress(step).await?;
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
            Ok::<_, Failure>("done")
        },
        Limits::default(),
    );
    ask(&mut stream, &[ASK]).await;
    let began = Instant::now();
    for (message, seconds) in [("one", 0), ("two", 5), ("done", 10)] {
        assert_eq!(response(&mut stream).await.unwrap().message, message);
        assert_eq!(began.elapsed(), Duration::from_secs(seconds), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn returning_ok_is_one_ok_after_the_progress() {
    let (mut stream, _) = start(
        async |_: Request<String>, context: Context| {
            context.progress("half").await.unwrap();
            Ok::<_, String>(Answer::new("done").with_content(7))
        },
        Limits::default(),
    );
    ask(&mut stream, &[ASK]).await;
    assert_eq!(response(&mut stream).await, Some(Response::processing("a", "half")));
    let last = Response::ok("a", "done").with_content(7.into());
    assert_eq!(response(&mut stream).await, Some(last));
    stream.shutdown().await.unwrap();
    assert_eq!(response(&mut stream).await, None);
}

#[tokio::test(start_paused = true)]
async fn returning_err_is_one_error_with_its_content_and_refusal() {
    let (mut stream, _) = start(
        async |request: Request<String>, _: Context| match request.id.as_str() {
            "plain" => Err::<(), _>(Failure::new("it failed").with_content(vec![1])),
            _ => Err(Failure {
                refused: Some(Refusal::Denied),
                ..Failure::new("no").with_content(vec![])
            }),
        },
        Limits::default(),
    );
    ask(&mut stream, &[r#"{"id":"plain","version":0}"#, r#"{"id":"no","version":0}"#]).await;
    let failed = Response::error("plain", "it failed").with_content(vec![1]);
    assert_eq!(typed(response(&mut stream).await), Some(failed));
    let refused = response(&mut stream).await.unwrap();
    assert_eq!((refused.status, refused.refused), (Status::Error, Some(Refusal::Denied)));
}

fn typed(response: Option<Response>) -> Option<Response<Vec<u8>>> {
    response.map(|r| serde_json::from_value(serde_json::to_value(r).unwrap()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_one_error_that_keeps_its_text_from_the_client() {
    let (mut stream, _) = start(
        async |request: Request<String>, _: Context| {
            assert!(request.id != "a", "the secret text");
            Ok::<_, String>("fine")
        },
        Limits::default(),
    );
    ask(&mut stream, &[ASK, r#"{"id":"b","version":0}"#]).await;
    stream.shutdown().await.unwrap();
    assert_eq!(all(&mut stream).await, ["a ERROR the handler panicked", "b OK fine"]);
}

/// Content whose serialization fails in one of two ways, after it has begun.
struct Broken {
    panics: bool,
}

impl Serialize for Broken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::{Error, SerializeSeq};
        let mut list = serializer.serialize_seq(None)?;
        list.serialize_element("begun")?;
        assert!(!self.panics, "the secret text");
        Err(S::Error::custom("the list is broken"))
    }
}

#[tokio::test(start_paused = true)]
async fn content_that_cannot_be_written_is_one_error_and_no_half_frame() {
    let (mut stream, _) = start(
        async |request: Request<String>, _: Context| {
            let panics = request.id == "panics";
            Ok::<_, String>(Answer::new("never seen").with_content(Broken { panics }))
        },
        Limits::default(),
    );
    ask(&mut stream, &[r#"{"id":"fails","version":0}"#, r#"{"id":"panics","version":0}"#]).await;
    stream.shutdown().await.unwrap();
    let seen = all(&mut stream).await;
    assert_eq!(
        seen,
        [
            "fails ERROR the answer cannot be sent: cannot encode the message: the list is broken",
            "panics ERROR the handler panicked",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_over_the_limit_is_one_error_that_names_the_limit() {
    let (mut stream, _) = start(
        async |_: Request<String>, _: Context| Ok::<_, String>("x".repeat(2000)),
        Limits { response_bytes: 1000, ..Limits::default() },
    );
    ask(&mut stream, &[ASK]).await;
    let answer = response(&mut stream).await.unwrap();
    assert_eq!(answer.status, Status::Error);
    assert!(answer.message.contains("limit of 1000 bytes"), "{}", answer.message);
}

#[tokio::test(start_paused = true)]
async fn progress_is_there_as_soon_as_the_handler_waits() {
    let (release, released) = mpsc::channel::<()>(1);
    let released = Arc::new(tokio::sync::Mutex::new(released));
    let (mut stream, _) = start(
        move |_: Request<String>, context: Context| {
            let released = Arc::clone(&released);
            async move {
                context.progress("one").await?;
                context.progress("two").await?;
                released.lock().await.recv().await;
                Ok::<_, kakehi_channel::ChannelError>("done")
            }
        },
        Limits::default(),
    );
    ask(&mut stream, &[ASK]).await;
    let before = Instant::now();
    assert_eq!(response(&mut stream).await.unwrap().message, "one");
    assert_eq!(response(&mut stream).await.unwrap().message, "two");
    assert_eq!(before.elapsed(), Duration::ZERO, "nothing was held back");
    release.send(()).await.unwrap();
    assert_eq!(response(&mut stream).await.unwrap().status, Status::Ok);
}

#[tokio::test(start_paused = true)]
async fn five_requests_in_one_write_get_five_answers_in_order() {
    let (mut stream, _) = start(
        async |request: Request<String>, context: Context| {
            context.progress("on it").await.unwrap();
            // The later the request, the shorter it takes.
            let turn: u64 = request.id.parse().unwrap();
            tokio::time::sleep(Duration::from_secs(10 - turn)).await;
            Ok::<_, String>(())
        },
        Limits::default(),
    );
    let requests: Vec<_> = (0..5).map(|n| format!(r#"{{"id":"{n}","version":0}}"#)).collect();
    ask(&mut stream, &requests.iter().map(String::as_str).collect::<Vec<_>>()).await;
    stream.shutdown().await.unwrap();
    let expected: Vec<_> =
        (0..5).flat_map(|n| [format!("{n} PROCESSING on it"), format!("{n} OK ")]).collect();
    assert_eq!(all(&mut stream).await, expected);
}

#[tokio::test(start_paused = true)]
async fn garbage_gets_one_error_each_and_spares_what_follows() {
    let (mut stream, _) = start(ok, Limits::default());
    let garbage = [
        "",
        "garbage",
        "[1]",
        r#"{"id":"v","version":9}"#,
        r#"{"id":"c","version":0,"command":3}"#,
    ];
    ask(&mut stream, &garbage).await;
    ask(&mut stream, &[ASK]).await;
    for id in ["", "", "", "v", "c"] {
        let answer = response(&mut stream).await.unwrap();
        assert_eq!((answer.id.as_str(), answer.status), (id, Status::Error));
        assert_eq!(answer.refused, Some(Refusal::Malformed));
        assert!(answer.message.contains("column"), "it says where: {}", answer.message);
    }
    assert_eq!(response(&mut stream).await, Some(Response::ok("a", "ok")));
}

async fn ok(_: Request<String>, _: Context) -> Result<&'static str, String> {
    Ok("ok")
}

#[tokio::test(start_paused = true)]
async fn half_a_request_before_the_end_gets_one_error() {
    let (mut stream, _) = start(ok, Limits::default());
    ask(&mut stream, &[ASK]).await;
    stream.write_all(br#"{"id":"ha"#).await.unwrap();
    stream.shutdown().await.unwrap();
    let seen = all(&mut stream).await;
    assert_eq!(
        seen,
        ["a OK ok", " ERROR the connection ended inside a frame, after 9 bytes of it"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_over_the_limit_gets_one_error_and_the_end() {
    let (mut stream, server) = start(ok, Limits { request_bytes: 100, ..Limits::default() });
    ask(&mut stream, &[ASK, &"x".repeat(200), ASK]).await;
    assert_eq!(response(&mut stream).await, Some(Response::ok("a", "ok")));
    let refused = response(&mut stream).await.unwrap();
    assert_eq!((refused.status, refused.refused), (Status::Error, Some(Refusal::TooLarge)));
    assert!(refused.message.contains("100 bytes"), "{}", refused.message);
    assert_eq!(response(&mut stream).await, None);
    server.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_request_must_end_in_time_while_an_idle_connection_may_stay() {
    let (mut stream, server) = start(ok, Limits::default());
    tokio::time::sleep(Duration::from_secs(3600)).await;
    ask(&mut stream, &[ASK]).await;
    assert_eq!(response(&mut stream).await, Some(Response::ok("a", "ok")));
    let begun = Instant::now();
    for byte in br#"{"id":"slow"# {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let refused = response(&mut stream).await.unwrap();
    assert_eq!(refused.refused, Some(Refusal::TooSlow));
    assert_eq!(begun.elapsed().as_secs(), 10);
    assert_eq!(response(&mut stream).await, None);
    server.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn keep_alives_come_at_half_of_the_timeout_and_only_when_asked_for() {
    let (mut stream, _) = start(
        async |_: Request<String>, _: Context| {
            tokio::time::sleep(Duration::from_millis(2200)).await;
            Ok::<_, String>("done")
        },
        Limits { max_timeout: Some(Duration::from_secs(2)), ..Limits::default() },
    );
    for (asked, expected) in [
        ("", 0),
        (r#","timeout_ms":0"#, 0),
        (r#","timeout_ms":1000"#, 4),
        (r#","timeout_ms":3600000"#, 2),
    ] {
        ask(&mut stream, &[&format!(r#"{{"id":"k","version":0{asked}}}"#)]).await;
        let mut alive = 0;
        loop {
            let response = response(&mut stream).await.unwrap();
            if response.status.is_final() {
                break;
            }
            assert_eq!(response, Response::processing("k", ""));
            alive += 1;
        }
        assert_eq!(alive, expected, "with {asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn keep_alives_and_deadlines_of_many_hours_are_kept_too() {
    const HOUR: Duration = Duration::from_secs(3600);
    let (mut stream, _) = start(
        async |_: Request<String>, _: Context| pending::<Result<(), String>>().await,
        Limits::default(),
    );
    let begun = Instant::now();
    let (timeout, deadline) = (10 * HOUR.as_millis(), 30 * HOUR.as_millis());
    let clocks = format!(r#""timeout_ms":{timeout},"deadline_ms":{deadline}"#);
    ask(&mut stream, &[&format!(r#"{{"id":"h","version":0,{clocks}}}"#)]).await;
    for hour in (5..30).step_by(5) {
        assert!(response(&mut stream).await.unwrap().status == Status::Processing);
        assert_eq!(begun.elapsed(), hour * HOUR);
    }
    let last = response(&mut stream).await.unwrap();
    assert!(last.status.is_final() && last.message.contains("deadline"), "{last:?}");
    assert_eq!(begun.elapsed(), 30 * HOUR);
}

#[tokio::test(start_paused = true)]
async fn progress_delays_the_next_keep_alive() {
    let (mut stream, _) = start(
        async |_: Request<String>, context: Context| {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_millis(300)).await;
                context.progress("alive anyway").await.unwrap();
            }
            Ok::<_, String>("done")
        },
        Limits::default(),
    );
    ask(&mut stream, &[r#"{"id":"k","version":0,"timeout_ms":1000}"#]).await;
    stream.shutdown().await.unwrap();
    let seen = all(&mut stream).await;
    assert_eq!(seen.len(), 11, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_handler_can_read_the_time_until_its_deadline() {
    let handler = async |_: Request<String>, context: Context| {
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok::<_, String>(format!("{:?}", context.remaining()))
    };
    let (mut stream, _serving) = start(handler, Limits::default());
    for (asked, left) in [(r#","deadline_ms":5000"#, "Some(3s)"), ("", "None")] {
        ask(&mut stream, &[&format!(r#"{{"id":"d","version":0{asked}}}"#)]).await;
        assert_eq!(response(&mut stream).await.unwrap().message, left);
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_cancels_the_handler_and_answers() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&dropped);
    let (mut stream, _) = start(
        move |_: Request<String>, _: Context| {
            let guard = OnDrop(Arc::clone(&counter));
            async move {
                let _guard = guard;
                pending::<Result<(), String>>().await
            }
        },
        Limits { max_deadline: Some(Duration::from_secs(60)), ..Limits::default() },
    );
    for (asked, seconds) in
        [(r#","deadline_ms":5000"#, 5), ("", 60), (r#","deadline_ms":18446744073709551615"#, 60)]
    {
        let begun = Instant::now();
        ask(&mut stream, &[&format!(r#"{{"id":"d","version":0{asked}}}"#)]).await;
        let answer = response(&mut stream).await.unwrap();
        assert_eq!(answer.status, Status::Error);
        assert!(answer.message.contains("deadline"), "{}", answer.message);
        assert_eq!(begun.elapsed().as_secs(), seconds);
    }
    assert_eq!(dropped.load(Ordering::SeqCst), 3);
}

struct OnDrop(Arc<AtomicUsize>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_with_a_cancellation_token_may_clean_up_for_a_limited_time() {
    let cleaned = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&cleaned);
    let (mut stream, _) = start(
        move |request: Request<String>, context: Context| {
            let counter = Arc::clone(&counter);
            async move {
                let token = context.cancellation();
                token.cancelled().await;
                context.progress("too late to be sent").await.unwrap();
                if request.id == "stubborn" {
                    pending::<()>().await;
                }
                tokio::time::sleep(Duration::from_secs(3)).await;
                counter.fetch_add(1, Ordering::SeqCst);
                Ok::<_, String>("too late as well")
            }
        },
        Limits::default(),
    );
    let begun = Instant::now();
    let deadline = r#","version":0,"deadline_ms":1000"#;
    ask(
        &mut stream,
        &[
            &format!(r#"{{"id":"polite"{deadline}}}"#),
            &format!(r#"{{"id":"stubborn"{deadline}}}"#),
            r#"{"id":"next","version":9}"#,
        ],
    )
    .await;
    for (id, seconds) in [("polite", 1), ("stubborn", 1 + 3 + 1), ("next", 1 + 3 + 1 + 10)] {
        assert_eq!(response(&mut stream).await.unwrap().id, id);
        assert_eq!(begun.elapsed().as_secs(), seconds, "{id}");
    }
    assert_eq!(cleaned.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_does_not_clean_up_in_time_is_dropped() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&dropped);
    let (mut stream, _) = start(
        move |_: Request<String>, context: Context| {
            let guard = OnDrop(Arc::clone(&counter));
            async move {
                let _guard = guard;
                let _token = context.cancellation();
                pending::<Result<(), String>>().await
            }
        },
        Limits::default(),
    );
    ask(&mut stream, &[r#"{"id":"s","version":0,"deadline_ms":1000}"#]).await;
    assert_eq!(response(&mut stream).await.unwrap().status, Status::Error);
    tokio::time::sleep(Duration::from_millis(9900)).await;
    assert_eq!(dropped.load(Ordering::SeqCst), 0);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_progress_is_bounded_in_memory_and_arrives_complete() {
    const MESSAGES: usize = 20_000;
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let (mut stream, _) = start(
        move |_: Request<String>, context: Context| {
            let counter = Arc::clone(&counter);
            async move {
                for n in 0..MESSAGES {
                    context.progress(format!("{n:060}")).await?;
                    counter.store(n, Ordering::SeqCst);
                }
                Ok::<_, kakehi_channel::ChannelError>("done")
            }
        },
        Limits { outgoing_bytes: 64 * 1024, ..Limits::default() },
    );
    ask(&mut stream, &[ASK]).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let ahead = sent.load(Ordering::SeqCst) * 110;
    assert!(ahead < 80 * 1024, "{ahead} bytes of progress wait for the client");
    for n in 0..MESSAGES {
        assert_eq!(response(&mut stream).await.unwrap().message, format!("{n:060}"));
    }
    assert_eq!(response(&mut stream).await.unwrap().status, Status::Ok);
}

/// Answers come to about 1 KiB each; a server of them, with room for its requests in the stream.
fn start_long_winded(count: &Arc<AtomicUsize>) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(256 * 1024);
    let count = Arc::clone(count);
    let handler = move |_: Request<String>, _: Context| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Ok::<_, String>(format!("{number:01000}")))
    };
    tokio::spawn(serve_stream(ours, Peer::own(), handler, Limits::default()));
    theirs
}

#[tokio::test(start_paused = true)]
async fn requests_wait_while_the_client_reads_no_responses_and_none_is_lost() {
    const REQUESTS: usize = 20_000;
    let handled = Arc::new(AtomicUsize::new(0));
    let stream = start_long_winded(&handled);
    let (mut reading, mut writing) = tokio::io::split(stream);
    // Malformed ones in between are answered too.
    let wire = format!("{ASK}\0[]\0").repeat(REQUESTS);
    let asking = tokio::spawn(async move { writing.write_all(wire.as_bytes()).await.unwrap() });
    tokio::time::sleep(Duration::from_secs(10)).await;
    let ahead = handled.load(Ordering::SeqCst);
    assert!(ahead < 400, "{ahead} KiB of responses wait for the client");

    let mut wire = vec![];
    let mut frames = 0;
    while frames < 2 * REQUESTS {
        let start = wire.len();
        assert!(reading.read_buf(&mut wire).await.unwrap() > 0, "{frames} answers only");
        frames += wire[start..].split(|byte| *byte == 0).count() - 1;
    }
    asking.await.unwrap();
    assert_eq!(handled.load(Ordering::SeqCst), REQUESTS);
}

#[tokio::test(start_paused = true)]
async fn a_client_with_many_requests_does_not_starve_others() {
    let handled = Arc::new(AtomicUsize::new(0));
    let mut stream = start_long_winded(&handled);
    ask(&mut stream, &[r#"{"id":"","version":9}"#; 1_000]).await;
    let mut turns = 0;
    while handled.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
        turns += 1;
        if turns == 1 {
            ask(&mut stream, &[ASK]).await;
        }
    }
    assert!(turns > 5, "{turns} turns while 1,000 requests were refused");
}

#[tokio::test(start_paused = true)]
async fn a_handler_without_a_client_does_not_starve_others() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let (mut stream, _) = start(
        move |_: Request<String>, context: Context| {
            let tell = tell.clone();
            async move {
                context.cancellation().cancelled().await;
                let turns = AtomicUsize::new(0);
                let count = std::future::poll_fn(|_| {
                    turns.fetch_add(1, Ordering::SeqCst);
                    std::task::Poll::<()>::Pending
                });
                let flood = async {
                    for _ in 0..10_000 {
                        context.progress("is anybody there?").await.unwrap();
                    }
                };
                tokio::select! { biased; () = count => {}, () = flood => {} }
                tell.send(turns.load(Ordering::SeqCst)).unwrap();
                Ok::<_, String>(())
            }
        },
        Limits { max_deadline: Some(Duration::from_secs(1)), ..Limits::default() },
    );
    ask(&mut stream, &[ASK]).await;
    let turns = told.recv().await.unwrap();
    assert!(turns > 50, "{turns} turns of others while it said 10,000 things");
}

#[tokio::test(start_paused = true)]
async fn a_large_answer_may_follow_large_progress() {
    const LARGE: usize = 3 * 1024 * 1024;
    let limits = Limits { response_bytes: 4 * 1024 * 1024, ..Limits::default() };
    let (mut stream, _) = start(
        async |_: Request<String>, context: Context| {
            context.progress("a".repeat(LARGE)).await?;
            Ok::<_, kakehi_channel::ChannelError>("b".repeat(LARGE))
        },
        limits,
    );
    ask(&mut stream, &[ASK]).await;
    stream.shutdown().await.unwrap();
    let mut wire = String::new();
    stream.read_to_string(&mut wire).await.unwrap();
    let answer: Response = serde_json::from_str(wire.split('\0').nth(1).unwrap()).unwrap();
    assert_eq!(
        (answer.status, answer.message.len()),
        (Status::Ok, LARGE),
        "{}",
        &wire[wire.len() - 200..]
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_for_the_write_time_counts_as_disconnected() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&dropped);
    let (mut stream, server) = start(
        move |_: Request<String>, context: Context| {
            let guard = OnDrop(Arc::clone(&counter));
            async move {
                let _guard = guard;
                loop {
                    context.progress("flood").await?;
                }
                #[expect(unreachable_code, reason = "it names the type")]
                Ok::<(), kakehi_channel::ChannelError>(())
            }
        },
        Limits::default(),
    );
    let begun = Instant::now();
    ask(&mut stream, &[ASK]).await;
    server.await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 30);
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_may_have_its_own_write_time() {
    let (mut stream, server) = start(
        async |request: Request<String>, context: Context| {
            if request.id == "patient" {
                context.set_write_time(Duration::from_secs(100));
            }
            loop {
                context.progress("flood").await?;
            }
            #[expect(unreachable_code, reason = "it names the type")]
            Ok::<(), kakehi_channel::ChannelError>(())
        },
        Limits::default(),
    );
    let begun = Instant::now();
    ask(&mut stream, &[r#"{"id":"patient","version":0}"#]).await;
    server.await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 100);
}

#[tokio::test(start_paused = true)]
async fn another_task_may_send_progress_until_the_final_response() {
    let (mut stream, _) = start(
        async |request: Request<String>, context: Context| {
            let other = context.clone();
            let task = tokio::spawn(async move {
                for n in 0..10 {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    other.progress(format!("{n}")).await.unwrap();
                }
            });
            if request.id == "waits" {
                task.await.unwrap();
            } else {
                tokio::time::sleep(Duration::from_millis(2500)).await;
            }
            Ok::<_, String>("done")
        },
        Limits::default(),
    );
    ask(&mut stream, &[r#"{"id":"hurries","version":0}"#]).await;
    let begun = Instant::now();
    for (message, tenths) in [("0", 10), ("1", 20), ("done", 25)] {
        assert_eq!(response(&mut stream).await.unwrap().message, message);
        assert_eq!(begun.elapsed().as_millis() / 100, tenths, "{message} is not held back");
    }
    ask(&mut stream, &[r#"{"id":"waits","version":0}"#]).await;
    stream.shutdown().await.unwrap();
    let seen = all(&mut stream).await;
    let expected: Vec<_> = (0..10)
        .map(|n| format!("waits PROCESSING {n}"))
        .chain(["waits OK done".to_owned()])
        .collect();
    assert_eq!(seen, expected);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_connection_releases_a_task_that_waits_to_send_progress() {
    let (hand_over, mut handed) = mpsc::channel(1);
    let (mut stream, connection) = start(
        move |_: Request<String>, context: Context| {
            let hand_over = hand_over.clone();
            async move {
                let flood = tokio::spawn(async move {
                    for _ in 0..1000 {
                        let _ = context.progress("x".repeat(100)).await;
                    }
                });
                hand_over.send(flood).await.unwrap();
                pending::<Result<&str, String>>().await
            }
        },
        Limits { outgoing_bytes: 1000, ..Limits::default() },
    );
    ask(&mut stream, &[ASK]).await;
    let flood = handed.recv().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!flood.is_finished(), "the client does not read, so the flood waits");
    connection.abort();
    tokio::time::timeout(Duration::from_secs(1), flood).await.expect("it ends").unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_is_answered_in_full_after_it_half_closed() {
    let limits = Limits { write_time: Duration::from_secs(1), ..Limits::default() };
    let (mut stream, _) =
        start(async |_: Request<String>, _: Context| Ok::<_, String>("x".repeat(40_000)), limits);
    ask(&mut stream, &[ASK]).await;
    stream.shutdown().await.unwrap();
    let mut seen = vec![0; 1000];
    let mut count = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        match stream.read(&mut seen).await.unwrap() {
            0 => break,
            more => count += more,
        }
    }
    assert!(count > 40_000, "{count} bytes came");
}

#[tokio::test(start_paused = true)]
async fn a_detached_handler_continues_after_its_client_stopped_reading() {
    let (done, mut is_done) = mpsc::channel(1);
    let (mut stream, _) = start(
        move |_: Request<String>, context: Context| {
            let done = done.clone();
            async move {
                context.detach_from_client();
                context.progress("x".repeat(10_000)).await.unwrap();
                tokio::time::sleep(Duration::from_secs(60)).await;
                done.send(()).await.unwrap();
                Ok::<_, String>("done")
            }
        },
        Limits::default(),
    );
    ask(&mut stream, &[ASK]).await;
    assert_eq!(is_done.recv().await, Some(()));
}

#[tokio::test(start_paused = true)]
async fn a_request_is_not_too_slow_while_the_server_does_not_read() {
    let handler = async |_: Request<String>, _: Context| {
        tokio::time::sleep(Duration::from_millis(10)).await;
        Ok::<_, String>("x".repeat(20_000))
    };
    let limits =
        Limits { request_time: Duration::from_secs(1), outgoing_bytes: 1, ..Limits::default() };
    assert!(limits.write_time > Duration::from_secs(5));
    let (mut stream, _serving) = start(handler, limits);
    let [first, second, third] =
        ["a", "b", "c"].map(|id| format!(r#"{{"id":"{id}","version":0}}"#));
    ask(&mut stream, &[&first, &second]).await;
    let (start, rest) = third.split_at(10);
    stream.write_all(start.as_bytes()).await.unwrap();
    // The first answer is being written, and the second is all that may wait behind it.
    tokio::time::sleep(Duration::from_secs(5)).await;
    for id in ["a", "b"] {
        assert_eq!(response(&mut stream).await.unwrap().id, id);
    }
    ask(&mut stream, &[rest]).await;
    let answer = response(&mut stream).await.unwrap();
    assert_eq!((answer.id.as_str(), answer.status), ("c", Status::Ok), "{}", answer.message);
}

//! Fuzzes a client: its server sends any bytes.

use std::{future::pending, time::Duration};

use arbitrary::Arbitrary;
use futures::StreamExt;
use kakehi_channel::{BufferLimits, Channel, ErrorKind, Json};
use kakehi_client::{Connection, Error, Outcome, Request, Response, Timeouts};
use tokio::io::{AsyncReadExt, DuplexStream, ReadHalf, duplex, split};

use self::plain::{End, MAX, Plain};
use super::{chunks, runtime, write_in_pieces};

mod plain;

/// Longer than writing all pieces takes.
const TIMEOUT: Duration = Duration::from_secs(60);

const IDS: [&str; 3] = ["a", "b", "c"];

/// A byte that UTF-8 never contains.
const NEXT: u8 = 0xff;

#[derive(Arbitrary, Debug)]
struct Hostility<'a> {
    pipe: u8,
    manners: [Manner; 3],
    sizes: [u8; 6],
    /// The server's bytes for each request, separated by [`NEXT`].
    says: &'a [u8],
}

/// How the client reads the responses.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Manner {
    /// It awaits the final response.
    Await,
    /// It reads each response.
    Stream,
    /// It reads the first response and drops the rest.
    Leave,
    /// It pipelines all remaining requests and awaits their final responses.
    Pipeline,
}

type Asking = Connection<Request, Response, Json, DuplexStream>;

/// Checks that each request ends as a simple decoder of the server's bytes says, and that no
/// request receives the response to another.
///
/// # Panics
/// If the property does not hold.
pub fn client(data: &[u8]) {
    let Some(hostility) = super::input::<Hostility>(data) else { return };
    // More would be too slow.
    if hostility.says.len() > 8000 {
        return;
    }
    let (ours, theirs) = duplex(usize::from(hostility.pipe) + 1);
    let says: Vec<_> = hostility.says.split(|byte| *byte == NEXT).take(IDS.len()).collect();
    let serve = async {
        serve(theirs, &says, &hostility.sizes).await;
        pending::<()>().await;
    };
    runtime::run(async {
        tokio::select! {
            () = ask(ours, &says, hostility.manners) => {}
            () = serve => {}
        }
    });
}

/// Reads the requests, writes the bytes for each, and closes after the last.
async fn serve(stream: DuplexStream, says: &[&[u8]], sizes: &[u8]) {
    let (mut reading, mut writing) = split(stream);
    let mut pieces = chunks(sizes).into_iter().cycle();
    for say in says {
        if !read_request(&mut reading).await {
            return;
        }
        if write_in_pieces(&mut writing, say, &mut pieces).await.is_err() {
            return;
        }
    }
}

async fn read_request(stream: &mut ReadHalf<DuplexStream>) -> bool {
    loop {
        match stream.read_u8().await {
            Ok(0) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

async fn ask(stream: DuplexStream, says: &[&[u8]], manners: [Manner; 3]) {
    let limits = BufferLimits { initial: 64, max: MAX };
    let channel = Channel::with_limits(stream, limits, BufferLimits::default());
    let mut connection =
        Asking::new(channel).with_timeouts(Timeouts { timeout: Some(TIMEOUT), deadline: None });
    for (number, manner) in (0..says.len()).zip(manners) {
        let id = IDS[number];
        if let Manner::Pipeline = manner {
            return pipeline(&mut connection, &IDS[number..says.len()], &says[number..].concat())
                .await;
        }
        let plain = Plain::of(says[number], id, number + 1 == says.len());
        let has_ended = one(&mut connection, id, manner, &plain).await;
        let is_open = has_ended && plain.ends_well();
        if is_open && !plain.is_clean {
            // The client can see the bytes after the final response now, with the next request,
            // or never.
            return soft(&mut connection, "z").await;
        }
        assert_eq!(connection.is_open(), is_open, "after {plain:?}");
        if !is_open {
            let error = connection.message(Request::new("z")).await.expect_err("it is closed");
            return assert!(
                error.outcome() == Outcome::NotSent && error.kind() == ErrorKind::Disconnected,
                "{error}"
            );
        }
    }
}

/// Sends one request. Returns whether its final response was read.
async fn one(connection: &mut Asking, id: &str, manner: Manner, plain: &Plain) -> bool {
    let request = connection.message(Request::new(id));
    let most = match manner {
        Manner::Stream => usize::MAX,
        Manner::Leave => 1,
        Manner::Await | Manner::Pipeline => {
            let answer = request.await;
            let end = if plain.progress.contains(&None) { &End::Malformed } else { &plain.end };
            end.check(&answer);
            return matches!(end, End::Final(_));
        }
    };
    let mut responses = request.send().await.expect("the server reads");
    for progress in plain.progress.iter().take(most) {
        match (responses.next().await.expect("there is more"), progress) {
            (Ok(response), Some(progress)) => assert_eq!(&response, progress),
            (Err(error), None) => {
                assert!(
                    error.kind() == ErrorKind::Malformed && error.outcome() == Outcome::Unknown,
                    "{error}"
                );
            }
            (item, progress) => panic!("{item:?} instead of {progress:?}"),
        }
    }
    if plain.progress.len() >= most {
        return false;
    }
    let item = responses.next().await.expect("it has an end");
    if let (Ok(response), End::Final(expected)) = (&item, &plain.end) {
        // A stream yields each response unchanged, also an ERROR.
        assert_eq!(response, expected);
    } else {
        plain.end.check(&item);
    }
    if !matches!(plain.end, End::Timeout) {
        assert!(responses.next().await.is_none(), "nothing follows {item:?}");
    }
    matches!(plain.end, End::Final(_))
}

/// Checks that an answer, if one comes, has the id of the request.
async fn soft(connection: &mut Asking, id: &str) {
    if let Ok(answer) = connection.message(Request::new(id)).timeout(TIMEOUT).await {
        assert_eq!(answer.id, id);
    }
}

async fn pipeline(connection: &mut Asking, ids: &[&str], mut says: &[u8]) {
    let mut answers = connection.pipeline_messages(ids.iter().copied().map(Request::new));
    let mut is_broken = false;
    for id in ids {
        let answer = answers.next().await.expect("each has its answer");
        if is_broken {
            let error: Error = answer.expect_err("the connection is lost");
            assert!(
                error.outcome() == Outcome::Unknown || error.outcome() == Outcome::NotSent,
                "{error}"
            );
            continue;
        }
        let (plain, behind) = Plain::of_first(says, id, true);
        let is_malformed = plain.progress.contains(&None);
        if is_malformed { &End::Malformed } else { &plain.end }.check(&answer);
        is_broken = is_malformed || !matches!(plain.end, End::Final(_));
        says = behind;
    }
    assert!(answers.next().await.is_none(), "more answers than requests");
}

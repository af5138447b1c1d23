//! Fuzzes several clients of one server, which follow a script.

mod job;

use std::{sync::Arc, time::Duration};

use arbitrary::Arbitrary;
use futures::StreamExt;
use kakehi_channel::{BufferLimits, Channel, Json};
use kakehi_client::{Connection, Request, RequestBuilder, Response, Status, Timeouts};
use kakehi_server::{Limits, Peer, serve_stream};
use tokio::{
    io::{DuplexStream, duplex},
    task::JoinHandle,
    time::{self, sleep},
};

use self::job::{Ending, Job, Seen, Tally, handle};
use super::runtime;

/// The largest number of acts. More would only be slower.
const ACTS: usize = 48;

#[derive(Arbitrary, Debug)]
struct Play {
    pipe: u8,
    acts: Vec<(u8, Act)>,
}

#[derive(Arbitrary, Debug)]
enum Act {
    Ask {
        job: Job,
        manner: Manner,
        timeout: u8,
        deadline: u8,
    },
    Pipeline(Vec<Job>),
    Wait(u8),
    /// Closes the connection.
    Leave,
}

/// How a client reads the responses.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Manner {
    Await,
    Stream,
    /// Stops after this many responses.
    Stop(u8),
    /// Drops the future after this many milliseconds.
    GiveUp(u8),
}

type Asking = Connection<Request<Job>, Response, Json, DuplexStream>;

struct Client<'p> {
    pipe: usize,
    tally: &'p Arc<Tally>,
    connection: Option<Asking>,
    servers: Vec<JoinHandle<()>>,
}

/// Checks that each request receives the progress and the final response of its own job, in order,
/// until its client stops reading or the deadline passes, and that no handler is left.
///
/// # Panics
/// If the property does not hold.
pub fn clients(data: &[u8]) {
    let Some(Play { pipe, acts }) = super::input(data) else { return };
    let tally = Arc::new(Tally::default());
    let mut parts: [Vec<_>; 3] = Default::default();
    let numbered = (0..).step_by(16).zip(acts).take(ACTS);
    for (number, (who, act)) in numbered {
        parts[usize::from(who) % parts.len()].push((number, act));
    }
    runtime::run(async {
        let plays = parts.map(|part| async {
            let pipe = usize::from(pipe) + 1;
            let mut client = Client { pipe, tally: &tally, connection: None, servers: Vec::new() };
            for (number, act) in part {
                client.play(number, act).await;
            }
            drop(client.connection);
            for server in client.servers {
                server.await.expect("a connection does not panic");
            }
        });
        futures::future::join_all(plays).await;
    });
    assert_eq!(tally.running(), 0, "handlers are left");
}

impl Client<'_> {
    async fn play(&mut self, number: u32, act: Act) {
        match act {
            Act::Wait(ms) => sleep(Duration::from_millis(ms.into())).await,
            Act::Leave => self.connection = None,
            Act::Pipeline(jobs) => self.pipeline(number, jobs).await,
            Act::Ask { mut job, manner, timeout, deadline } => {
                job.number = number;
                // With a shorter timeout, a keep-alive could come too late.
                let timeout = if timeout == 0 { 0 } else { u64::from(timeout) + 50 };
                // Only a deadline ends a job that hangs.
                let deadline = if job.hangs() { deadline.max(1) } else { deadline };
                let [timeout, deadline] = [timeout, deadline.into()].map(Duration::from_millis);
                self.ask(job, manner, timeout, deadline).await;
            }
        }
    }

    async fn ask(&mut self, job: Job, manner: Manner, timeout: Duration, deadline: Duration) {
        let connection = self.connect();
        let request = connection.message(job.request()).timeout(timeout).deadline(deadline);
        let mut seen = Seen::new(&job, deadline);
        match manner {
            Manner::Await => seen.end(request.await),
            Manner::Stream => follow(request, &mut seen, usize::MAX).await,
            Manner::Stop(most) => follow(request, &mut seen, most.into()).await,
            Manner::GiveUp(ms) => {
                let patience = Duration::from_millis(ms.into());
                let _ = time::timeout(patience, follow(request, &mut seen, usize::MAX)).await;
            }
        }
        assert_eq!(connection.is_open(), seen.has_ended_well, "{job:?} by {manner:?}");
    }

    async fn pipeline(&mut self, number: u32, mut jobs: Vec<Job>) {
        jobs.truncate(16);
        for (job, number) in jobs.iter_mut().zip(number..) {
            job.number = number;
            // A pipeline has no deadline, so a job that hangs would never end.
            job.ending = if job.hangs() { Ending::Ok } else { job.ending };
        }
        let connection = self.connect();
        let pipeline = connection
            .pipeline_messages(jobs.iter().map(Job::request))
            .with_timeouts(Timeouts { timeout: None, deadline: None });
        let answers: Vec<_> = pipeline.collect().await;
        assert_eq!(answers.len(), jobs.len());
        for (job, answer) in jobs.iter().zip(answers) {
            Seen::new(job, Duration::ZERO).end(answer);
        }
        assert!(connection.is_open());
    }

    /// Its connection, or a new one.
    fn connect(&mut self) -> &mut Asking {
        let open = self.connection.take().filter(Connection::is_open);
        let connection = open.unwrap_or_else(|| {
            let (ours, theirs) = duplex(self.pipe);
            let limits =
                Limits { response_bytes: job::MAX, outgoing_bytes: 2048, ..Limits::default() };
            let handler = {
                let tally = Arc::clone(self.tally);
                move |request, context| handle(request, context, Arc::clone(&tally))
            };
            let server = serve_stream(theirs, Peer::own(), handler, limits);
            self.servers.push(tokio::spawn(server));
            let limits = BufferLimits { initial: 64, max: job::MAX };
            Connection::new(Channel::with_limits(ours, limits, limits))
        });
        self.connection.insert(connection)
    }
}

/// Up to the final response, or the first `most` ones.
async fn follow(
    request: RequestBuilder<'_, Request<Job>, Response, Json, DuplexStream>,
    seen: &mut Seen<'_>,
    most: usize,
) {
    let mut responses = match request.send().await {
        Ok(responses) => responses,
        Err(error) => return seen.end(Err(error)),
    };
    for _ in 0..most {
        match responses.next().await.expect("the final response comes before the end") {
            Ok(response) if response.status == Status::Processing => seen.progress(&response),
            end => {
                // Each response is shown as it came, an ERROR too.
                match end {
                    Ok(response) => seen.final_response(&response),
                    Err(error) => seen.end(Err(error)),
                }
                return assert!(responses.next().await.is_none(), "nothing follows");
            }
        }
    }
}

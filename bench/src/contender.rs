//! The trait that one file per contender implements.

use std::{path::Path, sync::OnceLock, time::Duration};

use anyhow::{Context, Result, bail};

use crate::model::{Request, Response, Status};

/// Which tokio runtime both processes use (blocking contenders ignore it).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rt {
    Current,
    Multi,
}

impl Rt {
    pub fn build(self) -> tokio::runtime::Runtime {
        let mut b = match self {
            Rt::Current => tokio::runtime::Builder::new_current_thread(),
            Rt::Multi => tokio::runtime::Builder::new_multi_thread(),
        };
        if self == Rt::Multi {
            b.worker_threads(2);
        }
        for setting in SETTINGS.get().into_iter().flatten() {
            setting.apply(&mut b);
        }
        b.enable_all().build().expect("tokio runtime")
    }

    /// Runs `fut` as a task of the runtime, so that on the multi-thread one it lives on a worker.
    pub fn run<F>(self, fut: F) -> F::Output
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let rt = self.build();
        match self {
            Rt::Current => rt.block_on(fut),
            Rt::Multi => rt.block_on(async { tokio::spawn(fut).await.expect("task") }),
        }
    }
}

/// The settings of tokio that this process was started with, by `--tokio`.
static SETTINGS: OnceLock<Vec<Setting>> = OnceLock::new();

/// One stable setting of tokio's `Builder`, such as `event_interval=31`.
struct Setting {
    name: String,
    value: u32,
}

impl Setting {
    fn parse(text: &str) -> Result<Self> {
        let (name, value) = text.split_once('=').context("--tokio NAME=VALUE")?;
        let setting = Setting { name: name.into(), value: value.parse()? };
        if !setting.apply(&mut tokio::runtime::Builder::new_multi_thread()) {
            bail!("--tokio: no {name}");
        }
        Ok(setting)
    }

    /// `false`: there is no setting of this name.
    fn apply(&self, builder: &mut tokio::runtime::Builder) -> bool {
        let size = self.value as usize;
        match self.name.as_str() {
            "event_interval" => builder.event_interval(self.value),
            "global_queue_interval" => builder.global_queue_interval(self.value),
            "max_blocking_threads" => builder.max_blocking_threads(size),
            "max_io_events_per_busy_tick" => builder.max_io_events_per_busy_tick(size),
            "max_io_events_per_tick" => builder.max_io_events_per_tick(size),
            "worker_threads" => builder.worker_threads(size),
            _ => return false,
        };
        true
    }
}

/// Uses these settings for each runtime that is built from now on: `NAME=VALUE+NAME=VALUE`.
pub fn set_tokio(settings: &str) -> Result<()> {
    let settings = settings.split('+').map(Setting::parse).collect::<Result<_>>()?;
    SETTINGS.set(settings).ok().context("set twice")
}

/// The description of a contender for the tables.
pub struct About {
    pub name: &'static str,
    /// Wire format and framing.
    pub wire: &'static str,
    /// How it is driven: "tokio" or "threads" (blocking).
    pub io: &'static str,
    /// How 64 requests share one connection: "mux", "in order", "batches of 64" or "-".
    pub one_conn: &'static str,
    /// Whether one request can get several responses.
    pub streams: bool,
    /// The workloads it is limited to, for references.
    pub only: Option<&'static [&'static str]>,
}

impl About {
    pub fn blocking(&self) -> bool {
        self.io == "threads"
    }

    pub fn runs(&self, workload: &str) -> bool {
        let can = match workload {
            "w2" | "w6" => self.streams,
            "w3" => self.one_conn != "-",
            _ => true,
        };
        can && self.only.is_none_or(|only| only.contains(&workload))
    }
}

pub trait Contender: Send + Sync + 'static {
    const ABOUT: About;
    type Client: Client;

    /// Listens on `sock` and serves connections for ever.
    fn serve(sock: &Path, rt: Rt) -> Result<()>;

    fn connect(sock: &Path) -> impl Future<Output = Result<Self::Client>> + Send;
}

pub trait Client: Send + 'static {
    /// One request, one final response.
    fn unary(&mut self, req: Request) -> impl Future<Output = Result<Response>> + Send;

    /// One request; every response, the final one included, goes through `consumer`.
    fn stream(
        &mut self,
        req: Request,
        consumer: &mut Consumer,
    ) -> impl Future<Output = Result<()>> + Send {
        let _ = (req, consumer);
        async { anyhow::bail!("no streaming responses") }
    }

    /// Keeps `load.in_flight` requests outstanding on this one connection until `load.done()`.
    /// Returns the number of calls completed.
    fn pipelined(&mut self, load: Load) -> impl Future<Output = Result<u64>> + Send {
        let _ = load;
        async { anyhow::bail!("one call at a time per connection") }
    }
}

/// The application side of a stream of responses.
pub struct Consumer {
    pub seen: u64,
    pub bytes: u64,
    /// Stop consuming for this long after the first response (workload W6).
    pub pause: Option<Duration>,
    /// Give up after this many responses (workload W6).
    pub limit: u64,
    pub last: Option<Status>,
}

impl Default for Consumer {
    fn default() -> Self {
        Consumer { seen: 0, bytes: 0, pause: None, limit: u64::MAX, last: None }
    }
}

impl Consumer {
    /// Takes one response. `true`: the stream is over.
    #[inline]
    pub async fn take(&mut self, status: Status, message_len: usize) -> Result<bool> {
        self.seen += 1;
        self.bytes += message_len as u64;
        self.last = Some(status);
        if self.seen == 1
            && let Some(d) = self.pause.take()
        {
            tokio::time::sleep(d).await;
        }
        if self.seen >= self.limit {
            return Ok(true);
        }
        Ok(status != Status::Processing)
    }
}

#[derive(Clone, Copy)]
pub struct Load {
    pub in_flight: usize,
    pub until: std::time::Instant,
    pub payload: &'static str,
}

impl Load {
    pub fn done(&self) -> bool {
        std::time::Instant::now() >= self.until
    }

    /// For libraries that pipeline: echo requests until the time is over, then the rest of a window.
    pub fn requests<T>(&self, encode: impl Fn(Request) -> T) -> impl Iterator<Item = T> {
        let mut sent = 0_u64;
        std::iter::from_fn(move || {
            sent += 1;
            let more = !sent.is_multiple_of(self.in_flight as u64) || !self.done();
            more.then(|| encode(Request::echo(sent, self.payload)))
        })
    }

    #[cfg(feature = "peers")]
    /// For multiplexing libraries: one task per outstanding call, `call` on a clone of the client.
    pub async fn tasks<C, F, Fut>(self, client: C, call: F) -> Result<u64>
    where
        C: Clone + Send + 'static,
        F: Fn(C, Request) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<Response>> + Send + 'static,
    {
        let mut set = tokio::task::JoinSet::new();
        for t in 0..self.in_flight as u64 {
            let (client, call) = (client.clone(), call.clone());
            set.spawn(async move {
                let mut n = 0u64;
                while !self.done() {
                    let req = Request::echo(t * 1_000_000 + n, self.payload);
                    let id = req.id.clone();
                    let resp = call(client.clone(), req).await?;
                    anyhow::ensure!(resp.id == id && resp.status == Status::Ok, "wrong response");
                    n += 1;
                }
                Ok::<u64, anyhow::Error>(n)
            });
        }
        let mut total = 0;
        while let Some(r) = set.join_next().await {
            total += r??;
        }
        Ok(total)
    }
}

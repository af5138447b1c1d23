//! Kakehi, as a user would write it: a handler, and a connection that is asked.
//!
//! `kakehi` on an exclusive `Connection`, `kakehi-pool` on a `Client` with its pool,
//! `kakehi-asleep` without polling before it sleeps.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};
use futures::StreamExt;
use kakehi_channel::{BUSY_POLL, BufferLimits, Channel, ChannelError, Request, Response};
use kakehi_client::{Client as Pool, ClientSettings, Connection};
use kakehi_server::{Context, Socket, serve};
use tokio::net::UnixStream;

use crate::{
    contender::{About, Client, Consumer, Contender, Load, Rt},
    model::{self, Plan},
};

/// W4 and its plot need messages of up to 16 MiB, and W5 many connections: both are over the
/// limits that are on by default.
pub const LARGE: BufferLimits = BufferLimits { max: 64 * 1024 * 1024, ..BufferLimits::CLIENT };
const MANY: usize = 20_000;

pub fn server_limits() -> kakehi_server::Limits {
    kakehi_server::Limits {
        connections: MANY,
        connections_per_uid: MANY,
        request_bytes: LARGE.max,
        response_bytes: LARGE.max,
        ..kakehi_server::Limits::default()
    }
}

async fn answer(request: Request<String>, context: Context) -> Result<String, ChannelError> {
    let payload = request.command.unwrap_or_default();
    match model::plan(&payload) {
        Plan::Echo => Ok(payload),
        Plan::Progress(n) => {
            for step in 0..n {
                context.progress(model::step(step)).await?;
            }
            Ok("done".into())
        }
    }
}

fn listen(sock: &Path, rt: Rt, poll: Duration) -> Result<()> {
    let sock = sock.to_owned();
    rt.run(async move {
        let socket = Socket::bind(sock).listen()?;
        let limits = kakehi_server::Limits { busy_poll: poll, ..server_limits() };
        serve(socket, answer).limits(limits).await;
        Ok(())
    })
}

fn request(request: model::Request) -> Request<String> {
    let model::Request { id, worker_id, payload, .. } = request;
    Request { worker_id, ..Request::with_command(id, payload) }
}

fn from_response(response: Response<()>) -> model::Response {
    model::Response {
        id: response.id,
        version: response.version,
        status: status(response.status),
        message: response.message,
    }
}

fn status(status: kakehi_channel::Status) -> model::Status {
    match status {
        kakehi_channel::Status::Ok => model::Status::Ok,
        kakehi_channel::Status::Processing => model::Status::Processing,
        kakehi_channel::Status::Error => model::Status::Error,
    }
}

/// `POLL`: polls before it sleeps, as is the default.
pub struct Kakehi<const POLL: bool>;

impl<const POLL: bool> Kakehi<POLL> {
    const POLL: Duration = if POLL { BUSY_POLL } else { Duration::ZERO };
}

impl<const POLL: bool> Contender for Kakehi<POLL> {
    const ABOUT: About = About {
        name: if POLL { "kakehi" } else { "kakehi-asleep" },
        wire: "JSON + NUL",
        io: "tokio",
        one_conn: "in order",
        streams: true,
        only: None,
    };
    type Client = Exclusive;

    fn serve(sock: &Path, rt: Rt) -> Result<()> {
        listen(sock, rt, Self::POLL)
    }

    async fn connect(sock: &Path) -> Result<Exclusive> {
        let stream = UnixStream::connect(sock).await?;
        let channel = Channel::with_limits(stream, LARGE, LARGE);
        Ok(Exclusive(Connection::busy_poll(channel, Self::POLL)))
    }
}

pub struct Exclusive(Connection<Request<String>, Response<()>>);

impl Client for Exclusive {
    async fn unary(&mut self, req: model::Request) -> Result<model::Response> {
        Ok(from_response(self.0.message(request(req)).await?))
    }

    async fn stream(&mut self, req: model::Request, consumer: &mut Consumer) -> Result<()> {
        let mut responses = self.0.message(request(req)).send().await?;
        while let Some(response) = responses.next().await.transpose()? {
            if consumer.take(status(response.status), response.message.len()).await? {
                break;
            }
        }
        Ok(())
    }

    async fn pipelined(&mut self, load: Load) -> Result<u64> {
        let requests = load.requests(request);
        let mut answers = self.0.pipeline_messages(requests).window(load.in_flight);
        let mut n = 0;
        while let Some(answer) = answers.next().await.transpose()? {
            ensure!(answer.status.is_final(), "not final");
            n += 1;
        }
        Ok(n)
    }
}

pub struct KakehiPool;

impl Contender for KakehiPool {
    const ABOUT: About = About {
        name: "kakehi-pool",
        wire: "JSON + NUL",
        io: "tokio",
        one_conn: "-",
        streams: true,
        only: Some(&["w1", "w2", "w4", "w6"]),
    };
    type Client = Pooled;

    fn serve(sock: &Path, rt: Rt) -> Result<()> {
        listen(sock, rt, BUSY_POLL)
    }

    async fn connect(sock: &Path) -> Result<Pooled> {
        let settings =
            ClientSettings { incoming: LARGE, outgoing: LARGE, ..ClientSettings::default() };
        Ok(Pooled(Pool::typed(sock, settings)))
    }
}

pub struct Pooled(Pool<Request<String>, Response<()>>);

impl Client for Pooled {
    async fn unary(&mut self, req: model::Request) -> Result<model::Response> {
        Ok(from_response(self.0.message(request(req)).await?))
    }

    async fn stream(&mut self, req: model::Request, consumer: &mut Consumer) -> Result<()> {
        let mut responses = self.0.message(request(req)).send().await?;
        while let Some(response) = responses.next().await.transpose()? {
            if consumer.take(status(response.status), response.message.len()).await? {
                break;
            }
        }
        Ok(())
    }
}

//! Kakehi with typed commands: a `Router` with a handler for each command, and `Client::call`.
//!
//! In W3 the client pipelines the same commands on an exclusive `Connection`.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use futures::StreamExt;
use kakehi::{
    Command, Invocation, Request, Router,
    channel::{Channel, ChannelError},
    client::{Client as Pool, ClientSettings, Connection, Event},
    command::{CommandContent, CommandResponse},
    server::{Context, Failure, Socket, serve},
};
use serde::{Deserialize, Serialize};

use crate::{
    contender::{About, Client, Consumer, Contender, Load, Rt},
    contenders::kakehi::{LARGE, server_limits},
    model::{self, Plan, Status},
};

/// Returns the payload.
#[derive(Serialize, Deserialize, Command)]
#[command(reply = Echoed)]
struct Echo {
    payload: String,
}

#[derive(Serialize, Deserialize)]
struct Echoed {
    payload: String,
}

/// Sends progress this many times.
#[derive(Serialize, Deserialize, Command)]
#[command(progress = Step)]
struct Watch {
    steps: u64,
}

#[derive(Serialize, Deserialize)]
struct Step {
    done: u64,
    total: u64,
}

async fn echo((): (), command: Echo, _: Context<()>) -> Result<Echoed, Failure> {
    Ok(Echoed { payload: command.payload })
}

async fn watch((): (), command: Watch, context: Context<Step>) -> Result<(), ChannelError> {
    let total = command.steps;
    for done in 0..total {
        context.progress_with("step", &Step { done, total }).await?;
    }
    Ok(())
}

pub struct KakehiRouter;

impl Contender for KakehiRouter {
    const ABOUT: About = About {
        name: "kakehi-router",
        wire: "JSON + NUL",
        io: "tokio",
        one_conn: "in order",
        streams: true,
        only: Some(&["w1", "w2", "w3"]),
    };
    type Client = Typed;

    fn serve(sock: &Path, rt: Rt) -> Result<()> {
        let sock = sock.to_owned();
        rt.run(async move {
            let router = Router::new(()).command(echo).command(watch);
            serve(Socket::bind(sock).listen()?, router).limits(server_limits()).await;
            Ok(())
        })
    }

    async fn connect(sock: &Path) -> Result<Typed> {
        let settings =
            ClientSettings { incoming: LARGE, outgoing: LARGE, ..ClientSettings::default() };
        let stream = tokio::net::UnixStream::connect(sock).await?;
        Ok(Typed {
            client: Pool::new(sock, settings),
            connection: Connection::new(Channel::with_limits(stream, LARGE, LARGE)),
        })
    }
}

pub struct Typed {
    client: Pool,
    connection: Connection<Request<Invocation<Echo>>, CommandResponse<Echo>>,
}

impl Client for Typed {
    async fn unary(&mut self, req: model::Request) -> Result<model::Response> {
        let model::Request { id, version, payload, .. } = req;
        let echoed = self.client.call(Echo { payload }).id(&id).await?;
        Ok(model::Response { id, version, status: Status::Ok, message: echoed.payload })
    }

    async fn stream(&mut self, req: model::Request, consumer: &mut Consumer) -> Result<()> {
        let Plan::Progress(steps) = req.plan() else { bail!("not a stream") };
        let mut events = self.client.call(Watch { steps }).id(req.id).send().await?;
        while let Some(event) = events.next().await.transpose()? {
            let (status, message) = match event {
                Event::Progress { message, progress } => {
                    ensure!(progress.is_some(), "without its content");
                    (Status::Processing, message)
                }
                Event::Done { message, .. } => (Status::Ok, message),
            };
            if consumer.take(status, message.len()).await? {
                break;
            }
        }
        Ok(())
    }

    async fn pipelined(&mut self, load: Load) -> Result<u64> {
        let requests = load.requests(|model::Request { id, payload, .. }| {
            Request::with_command(id, Invocation(Echo { payload }))
        });
        let mut answers = self.connection.pipeline_messages(requests).window(load.in_flight);
        let mut n = 0;
        while let Some(CommandResponse(response)) = answers.next().await.transpose()? {
            let Some(CommandContent::Reply(echoed)) = response.content else { bail!("no reply") };
            ensure!(echoed.payload.len() == load.payload.len(), "wrong reply");
            n += 1;
        }
        Ok(n)
    }
}

//! zlink: varlink (JSON and NUL) on tokio, by its `service` and `proxy` macros.

use std::path::Path;

use anyhow::{Result, anyhow, bail};
use futures::Stream;
use serde::Serialize;
use zlink::{Call, Reply, ReplyError, Server, proxy, service, tokio::unix};

use crate::{
    contender::{About, Client, Consumer, Contender, Load, Rt},
    model::{Plan, Request, Response, Status},
};

#[derive(Debug, ReplyError)]
#[zlink(interface = "org.bench.rpc")]
enum RpcError {
    Failed { message: String },
}

/// The reply as the service macro wants it: describing its own type.
#[derive(Debug, Serialize, zlink::introspect::Type)]
struct Answer {
    id: String,
    version: u8,
    status: State,
    message: String,
}

#[derive(Debug, Serialize, zlink::introspect::Type)]
#[allow(clippy::upper_case_acronyms)]
enum State {
    OK,
    PROCESSING,
    ERROR,
}

impl From<Response> for Answer {
    fn from(r: Response) -> Self {
        Answer {
            id: r.id,
            version: r.version,
            status: match r.status {
                Status::Ok => State::OK,
                Status::Processing => State::PROCESSING,
                Status::Error => State::ERROR,
            },
            message: r.message,
        }
    }
}

struct Service;

// The method is not named `call`: its chained variant would clash with `Connection::chain_call`.
#[service(interface = "org.bench.rpc")]
impl Service {
    async fn invoke(
        &self,
        id: String,
        version: u8,
        worker_id: Option<u32>,
        payload: String,
    ) -> Answer {
        Response::echo(Request { id, version, worker_id, payload }).into()
    }

    #[zlink(more)]
    async fn watch(
        &self,
        _more: bool,
        id: String,
        version: u8,
        worker_id: Option<u32>,
        payload: String,
    ) -> impl Stream<Item = Reply<Answer>> + Unpin {
        let req = Request { id, version, worker_id, payload };
        let n = match req.plan() {
            Plan::Progress(n) => n,
            Plan::Echo => 0,
        };
        futures::stream::iter((0..=n).map(move |i| {
            let resp =
                if i < n { Response::processing(&req.id, i) } else { Response::done(&req.id) };
            Reply::new(Some(resp.into())).set_continues(Some(i < n))
        }))
    }
}

#[proxy("org.bench.rpc")]
trait RpcProxy {
    async fn invoke(
        &mut self,
        id: &str,
        version: u8,
        worker_id: Option<u32>,
        payload: &str,
    ) -> zlink::Result<std::result::Result<Response, RpcError>>;
}

/// The same calls for the low-level API of `Connection`: the streams that the proxy returns for
/// `more` methods and for chains are not `Send`.
#[derive(Debug, Serialize)]
#[serde(tag = "method", content = "parameters")]
enum Method<'a> {
    #[serde(rename = "org.bench.rpc.Invoke")]
    Invoke(&'a Request),
    #[serde(rename = "org.bench.rpc.Watch")]
    Watch(&'a Request),
}

pub struct Zlink;

impl Contender for Zlink {
    const ABOUT: About = About {
        name: "zlink",
        wire: "varlink: JSON + NUL",
        io: "tokio",
        one_conn: "batches of 64",
        streams: true,
        only: None,
    };
    type Client = ZlinkClient;

    fn serve(sock: &Path, rt: Rt) -> Result<()> {
        // Its `Server::run` is not `Send`: one task serves every connection.
        let listener_path = sock.to_owned();
        rt.build().block_on(async move {
            let listener = unix::bind(listener_path)?;
            Server::new(listener, Service).run().await?;
            Ok(())
        })
    }

    async fn connect(sock: &Path) -> Result<ZlinkClient> {
        Ok(ZlinkClient(unix::connect(sock).await?))
    }
}

pub struct ZlinkClient(unix::Connection);

impl ZlinkClient {
    async fn reply(&mut self) -> Result<Response> {
        let (reply, _fds) = self.0.receive_reply::<Response, RpcError>().await?;
        match reply {
            Ok(reply) => reply.into_parameters().ok_or_else(|| anyhow!("no parameters")),
            Err(RpcError::Failed { message }) => bail!(message),
        }
    }
}

fn unwrap(r: std::result::Result<Response, RpcError>) -> Result<Response> {
    r.map_err(|RpcError::Failed { message }| anyhow!(message))
}

impl Client for ZlinkClient {
    async fn unary(&mut self, req: Request) -> Result<Response> {
        unwrap(self.0.invoke(&req.id, req.version, req.worker_id, &req.payload).await?)
    }

    async fn stream(&mut self, req: Request, consumer: &mut Consumer) -> Result<()> {
        self.0.send_call(&Call::new(Method::Watch(&req)).set_more(true), vec![]).await?;
        loop {
            let resp = self.reply().await?;
            if consumer.take(resp.status, resp.message.len()).await? {
                return Ok(());
            }
        }
    }

    async fn pipelined(&mut self, load: Load) -> Result<u64> {
        let mut n = 0;
        while !load.done() {
            for i in 0..load.in_flight as u64 {
                let req = Request::echo(n + i, load.payload);
                self.0.enqueue_call(&Call::new(Method::Invoke(&req)))?;
            }
            self.0.flush().await?;
            for _ in 0..load.in_flight {
                self.reply().await?;
                n += 1;
            }
        }
        Ok(n)
    }
}

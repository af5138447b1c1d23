//! zbus, peer to peer (no bus daemon): D-Bus wire format; the PROCESSING responses are signals.

use std::path::Path;

use anyhow::{Result, bail};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use zbus::{Connection, Guid, connection::Builder, object_server::SignalEmitter, zvariant::Type};

use crate::{
    contender::{About, Client, Consumer, Contender, Load, Rt},
    model::{self, Plan},
};

/// D-Bus has no optional values: 0 stands for "no worker".
#[derive(Debug, Serialize, Deserialize, Type)]
pub struct Request {
    id: String,
    version: u8,
    worker_id: u32,
    payload: String,
}

#[derive(Debug, Serialize, Deserialize, Type)]
pub struct Response {
    id: String,
    version: u8,
    status: u8,
    message: String,
}

impl From<model::Request> for Request {
    fn from(r: model::Request) -> Self {
        Request {
            id: r.id,
            version: r.version,
            worker_id: r.worker_id.unwrap_or(0),
            payload: r.payload,
        }
    }
}

impl From<Request> for model::Request {
    fn from(r: Request) -> Self {
        model::Request {
            id: r.id,
            version: r.version,
            worker_id: Some(r.worker_id),
            payload: r.payload,
        }
    }
}

impl From<model::Response> for Response {
    fn from(r: model::Response) -> Self {
        Response { id: r.id, version: r.version, status: r.status as u8, message: r.message }
    }
}

impl From<Response> for model::Response {
    fn from(r: Response) -> Self {
        model::Response {
            id: r.id,
            version: r.version,
            status: match r.status {
                0 => model::Status::Ok,
                1 => model::Status::Processing,
                _ => model::Status::Error,
            },
            message: r.message,
        }
    }
}

const PATH: &str = "/org/bench/rpc";

struct Service;

#[zbus::interface(name = "org.bench.Rpc")]
impl Service {
    async fn call(&self, req: Request) -> Response {
        model::Response::echo(req.into()).into()
    }

    async fn watch(
        &self,
        req: Request,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> zbus::fdo::Result<Response> {
        let req: model::Request = req.into();
        if let Plan::Progress(n) = req.plan() {
            for i in 0..n {
                let resp = model::Response::processing(&req.id, i);
                Self::progress(&emitter, resp.into()).await?;
            }
        }
        Ok(model::Response::done(&req.id).into())
    }

    #[zbus(signal)]
    async fn progress(emitter: &SignalEmitter<'_>, resp: Response) -> zbus::Result<()>;
}

// Peer to peer, the name of the destination goes nowhere, but the proxy wants one.
#[zbus::proxy(
    interface = "org.bench.Rpc",
    default_service = "org.bench.Rpc",
    default_path = "/org/bench/rpc"
)]
trait Rpc {
    fn call(&self, req: Request) -> zbus::Result<Response>;
    fn watch(&self, req: Request) -> zbus::Result<Response>;
    #[zbus(signal)]
    fn progress(&self, resp: Response) -> zbus::Result<()>;
}

pub struct Zbus;

impl Contender for Zbus {
    const ABOUT: About = About {
        name: "zbus-p2p",
        wire: "D-Bus",
        io: "tokio",
        one_conn: "mux",
        streams: true,
        only: None,
    };
    type Client = ZbusClient;

    fn serve(sock: &Path, rt: Rt) -> Result<()> {
        let sock = sock.to_owned();
        rt.run(async move {
            let listener = UnixListener::bind(sock)?;
            loop {
                let (io, _) = listener.accept().await?;
                tokio::spawn(async move {
                    let guid = Guid::generate();
                    let conn = Builder::unix_stream(io.into_std()?)
                        .server(guid)
                        .p2p()
                        .serve_at(PATH, Service)
                        .build()
                        .await?;
                    conn.closed().await;
                    Ok::<(), anyhow::Error>(())
                });
            }
        })
    }

    async fn connect(sock: &Path) -> Result<ZbusClient> {
        let io = UnixStream::connect(sock).await?;
        let conn: Connection = Builder::unix_stream(io.into_std()?).p2p().build().await?;
        let proxy = RpcProxy::builder(&conn)
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build()
            .await?;
        Ok(ZbusClient(proxy))
    }
}

pub struct ZbusClient(RpcProxy<'static>);

impl Client for ZbusClient {
    async fn unary(&mut self, req: model::Request) -> Result<model::Response> {
        Ok(self.0.call(req.into()).await?.into())
    }

    async fn stream(&mut self, req: model::Request, consumer: &mut Consumer) -> Result<()> {
        let mut signals = self.0.receive_progress().await?;
        let proxy = self.0.clone();
        let last = tokio::spawn(async move { proxy.watch(req.into()).await });
        let mut last = std::pin::pin!(last);
        let mut reply: Option<model::Response> = None;
        loop {
            tokio::select! {
                biased;
                signal = signals.next() => {
                    let Some(signal) = signal else { bail!("closed") };
                    let resp: model::Response = signal.args()?.resp.into();
                    if consumer.take(resp.status, resp.message.len()).await? {
                        return Ok(());
                    }
                }
                r = &mut last, if reply.is_none() => {
                    // The signals came before the reply; what is left of them is in the queue.
                    reply = Some(r??.into());
                }
                else => break,
            }
            if let Some(reply) = &reply {
                while let Some(Some(signal)) = futures::FutureExt::now_or_never(signals.next()) {
                    let resp: model::Response = signal.args()?.resp.into();
                    consumer.take(resp.status, resp.message.len()).await?;
                }
                consumer.take(reply.status, reply.message.len()).await?;
                return Ok(());
            }
        }
        Ok(())
    }

    async fn pipelined(&mut self, load: Load) -> Result<u64> {
        load.tasks(
            self.0.clone(),
            |proxy, req| async move { Ok(proxy.call(req.into()).await?.into()) },
        )
        .await
    }
}

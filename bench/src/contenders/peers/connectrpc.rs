//! ConnectRPC (connect-rust) over a Unix socket: its own protocol over HTTP/2, with protobuf.
//!
//! Its built-in server listens on TCP only. So connections are served by hyper, with the settings
//! of that server.

use std::{path::Path, sync::Arc};

use anyhow::{Result, bail};
use connectrpc::{
    ConnectRpcService, RequestContext, Router, ServiceRequest, ServiceResult, ServiceStream,
    client::{ClientConfig, Http2Connection, SharedHttp2Connection},
    server::DEFAULT_HTTP2_ADAPTIVE_WINDOW,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::net::UnixListener;

use crate::{
    contender::{About, Client, Consumer, Contender, Load, Rt},
    model::{self, Plan},
};

#[allow(clippy::all, dead_code, unused_imports)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/connectrpc/include.rs"));
}
use generated::peer::{Request, Response, Rpc, RpcClient, Status};

fn request(r: model::Request) -> Request {
    Request {
        id: r.id,
        version: r.version.into(),
        worker_id: r.worker_id.unwrap_or(0),
        payload: r.payload,
        ..Default::default()
    }
}

fn response(r: model::Response) -> Response {
    Response {
        id: r.id,
        version: r.version.into(),
        status: match r.status {
            model::Status::Ok => Status::OK,
            model::Status::Processing => Status::PROCESSING,
            model::Status::Error => Status::ERROR,
        }
        .into(),
        message: r.message,
        ..Default::default()
    }
}

fn status(status: Option<Status>) -> Result<model::Status> {
    Ok(match status {
        Some(Status::OK) => model::Status::Ok,
        Some(Status::PROCESSING) => model::Status::Processing,
        Some(Status::ERROR) => model::Status::Error,
        None => bail!("unknown status"),
    })
}

fn from_response(r: Response) -> Result<model::Response> {
    Ok(model::Response {
        status: status(r.status.as_known())?,
        id: r.id,
        version: r.version as u8,
        message: r.message,
    })
}

struct Service;

#[allow(refining_impl_trait)] // the trait would also take borrowed responses
impl Rpc for Service {
    async fn call(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, Request>,
    ) -> ServiceResult<Response> {
        let request = request.to_owned_message();
        let request = model::Request {
            id: request.id,
            version: request.version as u8,
            worker_id: Some(request.worker_id),
            payload: request.payload,
        };
        connectrpc::Response::ok(response(model::Response::echo(request)))
    }

    async fn watch(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, Request>,
    ) -> ServiceResult<ServiceStream<Response>> {
        let n = match model::plan(request.payload) {
            Plan::Progress(n) => n,
            Plan::Echo => 0,
        };
        let id = request.id.to_owned();
        connectrpc::Response::stream_ok(futures::stream::iter((0..=n).map(move |i| {
            Ok(response(if i < n {
                model::Response::processing(&id, i)
            } else {
                model::Response::done(&id)
            }))
        })))
    }
}

pub struct ConnectRpc;

impl Contender for ConnectRpc {
    const ABOUT: About = About {
        name: "connectrpc",
        wire: "Connect (protobuf, HTTP/2)",
        io: "tokio",
        one_conn: "mux",
        streams: true,
        only: None,
    };
    type Client = ConnectClient;

    fn serve(sock: &Path, rt: Rt) -> Result<()> {
        let sock = sock.to_owned();
        rt.run(async move {
            let service = ConnectRpcService::new(Router::new().add_service(Arc::new(Service)));
            let listener = UnixListener::bind(sock)?;
            loop {
                let (stream, _) = listener.accept().await?;
                let service = TowerToHyperService::new(service.clone());
                tokio::spawn(async move {
                    let mut builder = Builder::new(TokioExecutor::new());
                    builder.http2().adaptive_window(DEFAULT_HTTP2_ADAPTIVE_WINDOW);
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        })
    }

    async fn connect(sock: &Path) -> Result<ConnectClient> {
        // The address is not used: the connection is to the socket.
        let address = "http://localhost".parse::<hyper::Uri>()?;
        let connection = Http2Connection::connect_unix(sock, address.clone()).await?;
        Ok(ConnectClient(RpcClient::new(connection.shared(1024), ClientConfig::new(address))))
    }
}

pub struct ConnectClient(RpcClient<SharedHttp2Connection>);

impl Client for ConnectClient {
    async fn unary(&mut self, req: model::Request) -> Result<model::Response> {
        from_response(self.0.call(request(req)).await?.into_owned())
    }

    async fn stream(&mut self, req: model::Request, consumer: &mut Consumer) -> Result<()> {
        let mut stream = self.0.watch(request(req)).await?;
        while let Some(message) = stream.message().await? {
            let resp = from_response(message.to_owned_message())?;
            if consumer.take(resp.status, resp.message.len()).await? {
                return Ok(());
            }
        }
        bail!("closed")
    }

    async fn pipelined(&mut self, load: Load) -> Result<u64> {
        load.tasks(self.0.clone(), |client, req| async move {
            from_response(client.call(request(req)).await?.into_owned())
        })
        .await
    }
}

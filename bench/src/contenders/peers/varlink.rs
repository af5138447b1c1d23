//! The `varlink` crate: blocking, a pool of threads, JSON and NUL.

use std::{
    path::Path,
    sync::{Arc, RwLock},
};

use anyhow::{Result, bail};
use varlink::{Connection, ListenConfig, VarlinkService};

use crate::{
    contender::{About, Client, Consumer, Contender, Rt},
    model::{Plan, Request, Response, Status},
};

#[allow(clippy::all, dead_code, unused, nonstandard_style)]
mod gen_code {
    include!(concat!(env!("OUT_DIR"), "/org.bench.rpc.rs"));
}
use gen_code::{Call_Call, Call_Watch, VarlinkClient, VarlinkClientInterface, VarlinkInterface};

fn status(s: Status) -> String {
    match s {
        Status::Ok => "OK",
        Status::Processing => "PROCESSING",
        Status::Error => "ERROR",
    }
    .to_string()
}

fn response(id: String, version: i64, status: &str, message: String) -> Result<Response> {
    Ok(Response {
        id,
        version: version as u8,
        status: match status {
            "OK" => Status::Ok,
            "PROCESSING" => Status::Processing,
            "ERROR" => Status::Error,
            s => bail!("status {s}"),
        },
        message,
    })
}

struct Service;

impl VarlinkInterface for Service {
    fn call(
        &self,
        call: &mut dyn Call_Call,
        id: String,
        version: i64,
        worker_id: Option<i64>,
        payload: String,
    ) -> varlink::Result<()> {
        let worker_id = worker_id.map(|w| w as u32);
        let r = Response::echo(Request { id, version: version as u8, worker_id, payload });
        call.reply(r.id, r.version.into(), status(r.status), r.message)
    }

    fn watch(
        &self,
        call: &mut dyn Call_Watch,
        id: String,
        version: i64,
        worker_id: Option<i64>,
        payload: String,
    ) -> varlink::Result<()> {
        let worker_id = worker_id.map(|w| w as u32);
        let req = Request { id, version: version as u8, worker_id, payload };
        if let Plan::Progress(n) = req.plan() {
            call.set_continues(true);
            for i in 0..n {
                let r = Response::processing(&req.id, i);
                call.reply(r.id, r.version.into(), status(r.status), r.message)?;
            }
            call.set_continues(false);
        }
        let r = Response::done(&req.id);
        call.reply(r.id, r.version.into(), status(r.status), r.message)
    }
}

pub struct Varlink;

impl Contender for Varlink {
    const ABOUT: About = About {
        name: "varlink",
        wire: "varlink: JSON + NUL",
        io: "threads",
        one_conn: "-",
        streams: true,
        only: None,
    };
    type Client = VarlinkCaller;

    fn serve(sock: &Path, _rt: Rt) -> Result<()> {
        let interface = gen_code::new(Box::new(Service));
        let service = VarlinkService::new("bench", "bench", "1", "-", vec![Box::new(interface)]);
        // Its default is 100 threads: one per connection.
        let config = ListenConfig { max_worker_threads: 2000, ..Default::default() };
        varlink::listen(service, &format!("unix:{}", sock.display()), &config)?;
        Ok(())
    }

    async fn connect(sock: &Path) -> Result<VarlinkCaller> {
        let conn = Connection::with_address(&format!("unix:{}", sock.display()))?;
        Ok(VarlinkCaller { conn })
    }
}

pub struct VarlinkCaller {
    conn: Arc<RwLock<Connection>>,
}

impl Client for VarlinkCaller {
    async fn unary(&mut self, req: Request) -> Result<Response> {
        let mut client = VarlinkClient::new(self.conn.clone());
        let worker_id = req.worker_id.map(i64::from);
        let r = client.call(req.id, req.version.into(), worker_id, req.payload).call()?;
        response(r.id, r.version, &r.status, r.message)
    }

    async fn stream(&mut self, req: Request, consumer: &mut Consumer) -> Result<()> {
        let mut client = VarlinkClient::new(self.conn.clone());
        let worker_id = req.worker_id.map(i64::from);
        let mut call = client.watch(req.id, req.version.into(), worker_id, req.payload);
        let mut over = false;
        for r in call.more()? {
            let r = r?;
            let resp = response(r.id, r.version, &r.status, r.message)?;
            // The iterator is not `Send`-friendly across awaits in general; this await is ready at
            // once except in W6.
            over = consumer.take(resp.status, resp.message.len()).await?;
            if over {
                break;
            }
        }
        anyhow::ensure!(over, "closed");
        Ok(())
    }
}

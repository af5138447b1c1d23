//! The physical floor: std blocking sockets, a thread per connection, pre-serialized frames.

use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    thread,
};

use anyhow::{Result, ensure};

use super::super::rawframe::*;
use crate::{
    contender::{About, Client, Consumer, Contender, Load, Rt},
    model::{Plan, Request, Response, Status},
};

/// `BATCH_WRITES`: a stream of responses goes out in 64 KiB writes, else in one write each.
pub struct RawBlocking<const BATCH_WRITES: bool>;

impl<const BATCH_WRITES: bool> Contender for RawBlocking<BATCH_WRITES> {
    const ABOUT: About = About {
        name: if BATCH_WRITES { "raw-blocking" } else { "raw-blocking-1w" },
        wire: "opaque bytes, 8 B header",
        io: "threads",
        one_conn: "in order",
        streams: true,
        only: None,
    };
    type Client = RawClient;

    fn serve(sock: &Path, _rt: Rt) -> Result<()> {
        for conn in UnixListener::bind(sock)?.incoming() {
            let conn = conn?;
            thread::spawn(move || session(conn, BATCH_WRITES));
        }
        Ok(())
    }

    async fn connect(sock: &Path) -> Result<RawClient> {
        Ok(RawClient { io: UnixStream::connect(sock)?, rd: InBuf::new(), req: Cached::default() })
    }
}

fn session(mut io: UnixStream, batch_writes: bool) -> Result<()> {
    let mut rd = InBuf::new();
    let mut out = Vec::new();
    loop {
        // Requests that came together are answered together: they are echoed from the read buffer.
        let first = rd.start;
        let mut last = first;
        while let Some((r, op)) = rd.next() {
            if op < STREAM {
                last = r.end;
                continue;
            }
            for i in 0..=(op - STREAM) {
                let status = if i < op - STREAM { PROCESSING } else { FINAL };
                put(&mut out, status, SMALL - HEADER);
                if !batch_writes || out.len() >= BATCH {
                    io.write_all(&out)?;
                    out.clear();
                }
            }
            io.write_all(&out)?;
            out.clear();
        }
        if last > first {
            io.write_all(&rd.buf[first..last])?;
        }
        let n = io.read(rd.space())?;
        if n == 0 {
            return Ok(());
        }
        rd.end += n;
    }
}

pub struct RawClient {
    io: UnixStream,
    rd: InBuf,
    req: Cached,
}

impl RawClient {
    fn frame(&mut self) -> Result<(std::ops::Range<usize>, u32)> {
        loop {
            if let Some(f) = self.rd.next() {
                return Ok(f);
            }
            let n = self.io.read(self.rd.space())?;
            ensure!(n > 0, "closed");
            self.rd.end += n;
        }
    }
}

impl Client for RawClient {
    async fn unary(&mut self, req: Request) -> Result<Response> {
        self.io.write_all(self.req.get(req.payload.len()))?;
        self.frame()?;
        Ok(Response::echo(req))
    }

    async fn stream(&mut self, req: Request, consumer: &mut Consumer) -> Result<()> {
        let Plan::Progress(n) = req.plan() else { anyhow::bail!("not a stream") };
        let mut out = Vec::new();
        put(&mut out, STREAM + n as u32, SMALL - HEADER);
        self.io.write_all(&out)?;
        loop {
            let (r, op) = self.frame()?;
            let status = if op == PROCESSING { Status::Processing } else { Status::Ok };
            if consumer.take(status, r.len()).await? {
                return Ok(());
            }
        }
    }

    async fn pipelined(&mut self, load: Load) -> Result<u64> {
        let mut out = Vec::new();
        for _ in 0..load.in_flight {
            put(&mut out, FINAL, SMALL - HEADER);
        }
        self.io.write_all(&out)?;
        let mut n = 0;
        loop {
            self.frame()?;
            let mut got = 1;
            while self.rd.next().is_some() {
                got += 1;
            }
            n += got as u64;
            if load.done() {
                return Ok(n);
            }
            self.io.write_all(&out[..got * SMALL])?;
        }
    }
}

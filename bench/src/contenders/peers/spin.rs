//! References, not contenders: what unary calls cost when neither side ever sleeps.
//!
//! `ref-uds-spin`: the frames of raw-blocking on a non-blocking socket that is read in a loop.
//! `ref-shm-spin`: the same 100 bytes copied through shared memory, with a sequence number to spin
//! on. Both keep two CPUs busy; on one CPU (`--pin same`) they only work by being preempted.

use std::{
    fs::OpenOptions,
    hint::spin_loop,
    io::{ErrorKind, Read, Write},
    os::{
        fd::AsRawFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use anyhow::{Result, ensure};

use super::super::rawframe::SMALL;
use crate::{
    contender::{About, Client, Contender, Rt},
    model::{Request, Response},
};

const W1: Option<&[&str]> = Some(&["w1"]);

pub struct UdsSpin;

fn read_spinning(io: &mut UnixStream, buf: &mut [u8]) -> Result<()> {
    let mut have = 0;
    while have < buf.len() {
        match io.read(&mut buf[have..]) {
            Ok(0) => anyhow::bail!("closed"),
            Ok(n) => have += n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => spin_loop(),
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

impl Contender for UdsSpin {
    const ABOUT: About = About {
        name: "ref-uds-spin",
        wire: "opaque bytes",
        io: "threads",
        one_conn: "-",
        streams: false,
        only: W1,
    };
    type Client = UdsClient;

    fn serve(sock: &Path, _rt: Rt) -> Result<()> {
        for conn in UnixListener::bind(sock)?.incoming() {
            let mut io = conn?;
            io.set_nonblocking(true)?;
            thread::spawn(move || {
                let mut frame = [0; SMALL];
                loop {
                    read_spinning(&mut io, &mut frame)?;
                    io.write_all(&frame)?;
                }
                #[allow(unreachable_code)]
                Ok::<(), anyhow::Error>(())
            });
        }
        Ok(())
    }

    async fn connect(sock: &Path) -> Result<UdsClient> {
        let io = UnixStream::connect(sock)?;
        io.set_nonblocking(true)?;
        Ok(UdsClient { io, frame: [b'x'; SMALL] })
    }
}

pub struct UdsClient {
    io: UnixStream,
    frame: [u8; SMALL],
}

impl Client for UdsClient {
    async fn unary(&mut self, req: Request) -> Result<Response> {
        self.io.write_all(&self.frame)?;
        read_spinning(&mut self.io, &mut self.frame)?;
        Ok(Response::echo(req))
    }
}

pub struct ShmSpin;

/// One request slot and one response slot, each on its own cache lines.
#[repr(C)]
struct Slots {
    request: Slot,
    response: Slot,
}

#[repr(C, align(128))]
struct Slot {
    seq: AtomicU32,
    body: [u8; SMALL],
}

/// The mapping of `SOCK.shm`; lives as long as the process.
fn map(sock: &Path) -> Result<*mut Slots> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(sock.with_extension("shm"))?;
    file.set_len(4096)?;
    let p = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    ensure!(p != libc::MAP_FAILED, "mmap");
    Ok(p.cast())
}

impl Contender for ShmSpin {
    const ABOUT: About = About {
        name: "ref-shm-spin",
        wire: "shared memory",
        io: "threads",
        one_conn: "-",
        streams: false,
        only: W1,
    };
    type Client = ShmClient;

    fn serve(sock: &Path, _rt: Rt) -> Result<()> {
        let _ = std::fs::remove_file(sock.with_extension("shm"));
        let m = map(sock)?;
        // The harness waits for a socket.
        let _listener = UnixListener::bind(sock)?;
        let mut seen = 0;
        loop {
            // SAFETY: a slot is only touched by the side that the sequence number says.
            unsafe {
                while (*m).request.seq.load(Ordering::Acquire) == seen {
                    spin_loop();
                }
                seen = (*m).request.seq.load(Ordering::Acquire);
                (&raw mut (*m).response.body).write((&raw const (*m).request.body).read_volatile());
                (*m).response.seq.store(seen, Ordering::Release);
            }
        }
    }

    async fn connect(sock: &Path) -> Result<ShmClient> {
        Ok(ShmClient { slots: map(sock)?, seq: 0 })
    }
}

pub struct ShmClient {
    slots: *mut Slots,
    seq: u32,
}

// SAFETY: the mapping is not tied to a thread.
unsafe impl Send for ShmClient {}

impl Client for ShmClient {
    async fn unary(&mut self, req: Request) -> Result<Response> {
        let m = self.slots;
        self.seq += 1;
        // SAFETY: as in `serve`.
        unsafe {
            (&raw mut (*m).request.body).write_volatile([b'x'; SMALL]);
            (*m).request.seq.store(self.seq, Ordering::Release);
            while (*m).response.seq.load(Ordering::Acquire) != self.seq {
                spin_loop();
            }
            std::hint::black_box((&raw const (*m).response.body).read_volatile());
        }
        Ok(Response::echo(req))
    }
}

//! One question to the server on this machine, with blocking IO and little time: a shell waits.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use kakehi_channel::VERSION;
use kakehi_client::unique_id;
use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
        sockopt::socket_peercred,
    },
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{args::Options, context, reach};

/// How long all questions of one completion may take together.
const TIME: Duration = Duration::from_millis(100);
/// The largest answer that is read, in bytes. Values take many times more in memory.
const MAX_ANSWER: u64 = 1024 * 1024;
/// How long to wait while the server's backlog is full.
const PAUSE: Duration = Duration::from_millis(5);

/// Asks the server that the options name.
#[derive(Debug)]
pub(super) struct Asker {
    /// `None`: there is no server to ask.
    path: Option<PathBuf>,
    uid: Option<u32>,
    until: Instant,
}

impl Asker {
    /// A server on another machine is not asked: ssh takes longer, and may ask for a password.
    pub(super) fn new(options: Option<&Options>) -> Self {
        let until = Instant::now() + TIME;
        let options = options.map(|options| {
            let mut options = options.clone();
            // A context that does not exist names no server.
            context::apply(&mut options).map(|()| options)
        });
        let options = options.and_then(Result::ok);
        let here = options.as_ref().filter(|options| options.is_local());
        let path = here.and_then(|options| reach::find(options).ok()).map(|place| place.path);
        Self { path, uid: options.as_ref().and_then(|options| options.server_uid), until }
    }

    /// The content of the server's OK.
    pub(super) fn ask(&self, command: &Value) -> Option<Value> {
        let mut stream = self.connect(self.path.as_deref()?)?;
        let limit = self.left()?.as_millis().max(1);
        let request = json!({ "id": unique_id(), "version": VERSION, "command": command,
            "deadline_ms": u64::try_from(limit).ok()? });
        stream.set_write_timeout(Some(self.left()?)).ok()?;
        stream.write_all(format!("{request}\0").as_bytes()).ok()?;
        self.answer(&mut stream)
    }

    fn answer(&self, stream: &mut UnixStream) -> Option<Value> {
        #[derive(Deserialize)]
        struct Answer {
            status: String,
            #[serde(default)]
            content: Value,
        }
        let (mut received, mut start) = (vec![], 0);
        let mut chunk = [0; 16 * 1024];
        while (received.len() as u64) < MAX_ANSWER {
            stream.set_read_timeout(Some(self.left()?)).ok()?;
            let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
            received.extend_from_slice(chunk.get(..read)?);
            while let Some(length) = received.get(start..)?.iter().position(|byte| *byte == 0) {
                let answer: Answer =
                    serde_json::from_slice(received.get(start..start + length)?).ok()?;
                match answer.status.as_str() {
                    "PROCESSING" => start += length + 1,
                    "OK" => return Some(answer.content),
                    _ => return None,
                }
            }
        }
        None
    }

    /// Connects without waiting in the kernel: with a full backlog, that would have no end.
    fn connect(&self, path: &Path) -> Option<UnixStream> {
        let address = SocketAddrUnix::new(path).ok()?;
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).ok()?;
        while let Err(error) = connect(&socket, &address) {
            if error != Errno::AGAIN {
                return None;
            }
            sleep(PAUSE.min(self.left()?));
        }
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(false).ok()?;
        let runs_as = |uid| socket_peercred(&stream).is_ok_and(|peer| peer.uid.as_raw() == uid);
        self.uid.is_none_or(runs_as).then_some(stream)
    }

    /// The time that is left, if there is any.
    fn left(&self) -> Option<Duration> {
        self.until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }
}

//! The client, and servers for it: the real one with jobs, and one that sends given bytes.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
};

use kakehi_tests::programs::{Server, binary, wait_for};
use serde_json::Value;
use tempfile::TempDir;

/// The client, without the environment variables that it reads.
pub(crate) fn client(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("kakehi"));
    command.args(arguments).stdin(Stdio::null());
    for name in ["KAKEHI_SOCKET", "XDG_RUNTIME_DIR", "NO_COLOR", "TERM"] {
        command.env_remove(name);
    }
    command
}

/// The client of the server on `socket`.
pub(crate) fn client_of(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = client(&["--socket"]);
    command.arg(socket).args(arguments);
    command
}

/// The output of a client, and its exit status.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the client to its end.
pub(crate) fn said(mut command: Command) -> Said {
    Said::of(command.output().unwrap())
}

impl Said {
    pub(crate) fn of(output: Output) -> Self {
        let code = output.status.code().unwrap_or_else(|| panic!("{output:?}"));
        let text = |bytes| String::from_utf8(bytes).expect("the output is UTF-8");
        Self { code, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Checks that stdout is empty, and that stderr has an error in three parts with all `words`.
    pub(crate) fn assert_failed(&self, code: i32, words: &[&str]) {
        assert_eq!((self.code, &*self.stdout), (code, ""), "{self:?}");
        let lines: Vec<_> = self.stderr.lines().collect();
        let [what, why, remedy] = lines[..] else { panic!("not three parts: {self:?}") };
        assert!(what.starts_with("error: ") && why.starts_with("  why: "), "{self:?}");
        assert!(remedy.starts_with("  try: ") && remedy.len() > 10, "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not in {self:?}");
        }
    }

    /// Each line of stdout, as JSON.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let line = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        self.stdout.lines().map(line).collect()
    }
}

const JOBS: &str = r#"
[job.both]
about = "writes on both"
run = ["sh", "-c", "echo to stdout; echo to stderr >&2"]
[job.bytes]
run = ["printf", 'tab\there\n\033[31m\377\nno end']
[job.returns]
run = ["sh", "-c", "for i in 10 40 70; do printf '\\r%3d%%' $i; sleep 0.7; done; echo ' done'"]
[job.zeros]
run = ["head", "-c", "3000000", "/dev/zero"]
[job.exit]
about = "ends with the given code"
run = ["sh", "-c", 'exit "$0"']
args = ["[0-9]+"]
timeout = "90s"
[job.killed]
run = ["sh", "-c", "kill -9 $$"]
[job.long]
run = ["sh", "-c", "head -c 200000 /dev/zero | tr '\\0' x; echo; echo end"]
[job.lines]
run = ["seq", "200000"]
[job.slow]
run = ["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.3; done"]
[job.trap]
run = ["sh", "-c", "trap 'echo trapped; exit 5' TERM; echo begun; while :; do sleep 0.05; done"]
[job.stubborn]
run = ["sh", "-c", "trap '' TERM; echo begun; sleep 4"]
[job.forever]
run = ["yes"]
[job.silent]
run = ["sh", "-c", "echo begun; sleep 100"]
[job.wide]
about = "wide"
run = ["echo"]
args = ["[筧]+"]
"#;

/// The real server, with jobs.
pub(crate) struct Jobs {
    pub(crate) server: Server,
    folder: TempDir,
}

impl Jobs {
    pub(crate) fn start() -> Self {
        Self::with("")
    }

    /// Starts the server with more jobs.
    pub(crate) fn with(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jobs.toml");
        fs::write(&file, format!("{JOBS}{more}")).unwrap();
        Self { server: Server::start(&["--jobs", file.to_str().unwrap()]), folder }
    }

    /// The jobs file.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("jobs.toml")
    }

    pub(crate) fn client(&self, arguments: &[&str]) -> Command {
        client_of(&self.server.socket(), arguments)
    }

    pub(crate) fn said(&self, arguments: &[&str]) -> Said {
        said(self.client(arguments))
    }

    /// The running requests.
    pub(crate) fn running(&self) -> Vec<Value> {
        let last = self.said(&["status", "--json"]).lines().pop().unwrap();
        last["content"]["running"].as_array().unwrap().clone()
    }

    pub(crate) fn wait_until_idle(&self) {
        let idle = wait_for(|| self.running().is_empty().then_some(()));
        assert!(idle.is_some(), "{:?}", self.running());
    }
}

/// A server that answers each request with given bytes. `ID` in them becomes the request's id.
pub(crate) struct Fake {
    folder: TempDir,
}

/// Whether the server keeps the connection after its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Stays,
    Leaves,
}

impl Fake {
    pub(crate) fn answers(frames: &[&str]) -> Self {
        let whole = frames.join("\0") + "\0";
        Self::writes(whole.as_bytes(), Then::Stays)
    }

    pub(crate) fn writes(bytes: &[u8], then: Then) -> Self {
        let bytes = bytes.to_vec();
        Self::start(move |stream, request| {
            let id = request["id"].as_str().unwrap();
            let text = with_id(&bytes, id);
            let _ = stream.get_mut().write_all(&text);
            if then == Then::Stays {
                // The client disconnects.
                let _ = stream.read_until(0, &mut vec![]);
            }
        })
    }

    /// Calls `serve` with each connection and its first request.
    pub(crate) fn start(
        serve: impl Fn(&mut BufReader<UnixStream>, Value) + Send + Sync + Clone + 'static,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serve = serve.clone();
                thread::spawn(move || {
                    let (mut stream, mut frame) = (BufReader::new(stream), vec![]);
                    if stream.read_until(0, &mut frame).is_ok() && frame.pop() == Some(0) {
                        serve(&mut stream, serde_json::from_slice(&frame).unwrap());
                    }
                });
            }
        });
        Self { folder }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    pub(crate) fn said(&self, arguments: &[&str]) -> Said {
        said(client_of(&self.socket(), arguments))
    }
}

fn with_id(bytes: &[u8], id: &str) -> Vec<u8> {
    let mut out = vec![];
    let mut rest = bytes;
    while let Some(at) = rest.windows(4).position(|window| window == b"\"ID\"") {
        out.extend_from_slice(&rest[..=at]);
        out.extend_from_slice(id.as_bytes());
        rest = &rest[at + 3..];
    }
    out.extend_from_slice(rest);
    out
}

//! A server with jobs, clients of it, and a look at the system's processes.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use kakehi_tests::programs::{PATIENCE, Server, has_tool, skip, wait_for};
use rustix::process::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A server with a jobs file.
pub(crate) struct Jobs {
    pub(crate) server: Server,
    folder: TempDir,
}

impl Jobs {
    pub(crate) fn start(jobs: &str) -> Self {
        Self::with_flags(jobs, &[])
    }

    pub(crate) fn with_flags(jobs: &str, flags: &[&str]) -> Self {
        Self::start_after(":", jobs, flags)
    }

    /// Starts the server after a shell command that applies to it.
    pub(crate) fn start_after(setting: &str, jobs: &str, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jobs.toml");
        fs::write(&file, jobs).unwrap();
        let arguments = [&["--jobs", file.to_str().unwrap()], flags].concat();
        Self { server: Server::start_after(setting, &arguments), folder }
    }

    /// Replaces the jobs file; the server does not know yet.
    pub(crate) fn rewrite(&self, jobs: &str) {
        fs::write(self.folder.path().join("jobs.toml"), jobs).unwrap();
    }

    /// Lets other users come to the socket.
    pub(crate) fn open_folder(&self) {
        let everybody = fs::Permissions::from_mode(0o711);
        fs::set_permissions(self.server.folder(), everybody).unwrap();
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.server.socket())
    }

    /// All responses to `command`.
    pub(crate) fn ask(&self, command: impl Into<Value>) -> Vec<Value> {
        let mut client = self.client();
        client.send("ID-1", command);
        client.rest()
    }

    /// The final response to a run of `job`.
    pub(crate) fn run(&self, job: &str, args: &[&str]) -> Value {
        self.ask(run(job, args)).pop().unwrap()
    }

    /// The requests that run now.
    pub(crate) fn running(&self) -> Vec<Value> {
        let status = self.ask("status").pop().unwrap();
        status["content"]["running"].as_array().unwrap().clone()
    }

    pub(crate) fn wait_for_log(&self, words: &str) {
        let seen = wait_for(|| self.server.log().contains(words).then_some(()));
        assert!(seen.is_some(), "not in the log: {words}\n{}", self.server.log());
    }

    /// Those of the server's children that have ended and were not reaped.
    pub(crate) fn zombies(&self) -> Vec<Process> {
        let server = self.server.pid().as_raw_nonzero().get();
        processes().into_iter().filter(|found| found.parent == server && found.zombie).collect()
    }
}

pub(crate) fn run(job: &str, args: &[&str]) -> Value {
    json!({ "run": { "job": job, "args": args } })
}

/// A client that speaks the wire by hand.
pub(crate) struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    pub(crate) fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    pub(crate) fn send(&mut self, id: &str, command: impl Into<Value>) {
        self.request(&json!({ "id": id, "version": 0, "command": command.into() }));
    }

    pub(crate) fn request(&mut self, request: &Value) {
        let frame = format!("{request}\0");
        self.stream.get_mut().write_all(frame.as_bytes()).unwrap();
    }

    /// The next response; `None` at the end of the connection.
    pub(crate) fn next(&mut self) -> Option<Value> {
        let mut frame = vec![];
        self.stream.read_until(0, &mut frame).unwrap();
        frame.pop().map(|_| serde_json::from_slice(&frame).unwrap())
    }

    /// The message of the next response, which is not the final one.
    pub(crate) fn progress(&mut self) -> String {
        let response = self.next().expect("a response");
        assert_eq!(response["status"], "PROCESSING", "{response}");
        response["message"].as_str().unwrap().to_owned()
    }

    /// All that comes up to the final response.
    pub(crate) fn rest(&mut self) -> Vec<Value> {
        let mut responses = vec![];
        while let Some(response) = self.next() {
            let last = response["status"] != "PROCESSING";
            responses.push(response);
            if last {
                return responses;
            }
        }
        panic!("no final response after {responses:?}");
    }

    /// The final response.
    pub(crate) fn last(&mut self) -> Value {
        self.rest().pop().unwrap()
    }
}

/// The final response to `command`, sent by another user. `None` where this test cannot be one.
pub(crate) fn ask_as(uid: u32, jobs: &Jobs, id: &str, command: impl Into<Value>) -> Option<Value> {
    ask_as_member(uid, uid, jobs, id, command)
}

/// The same, in a group that need not be the user's.
pub(crate) fn ask_as_member(
    uid: u32,
    gid: u32,
    jobs: &Jobs,
    id: &str,
    command: impl Into<Value>,
) -> Option<Value> {
    let request = json!({ "id": id, "version": 0, "command": command.into() });
    tell_as(uid, gid, &jobs.server, &format!("{request}\0"))
}

/// Whether a test can send a request as another user. If not, prints that the test is skipped.
pub(crate) fn can_be_another_user() -> bool {
    if rustix::process::geteuid().is_root() {
        return has_tool("setpriv") && has_tool("nc");
    }
    skip("only root can be another user");
    false
}

/// Whether strace can let system calls fail or take long. If not, prints that the test is skipped.
pub(crate) fn can_inject() -> bool {
    if !has_tool("strace") {
        return false;
    }
    let trace = ["-qq", "-o", "/dev/null", "-e", "inject=fsync:delay_enter=1", "true"];
    let works = Command::new("strace").args(trace).stderr(Stdio::null()).status();
    let works = works.is_ok_and(|status| status.success());
    if !works {
        skip("this system lets no process trace another one");
    }
    works
}

/// The last response to a user who sends `text`.
pub(crate) fn tell_as(uid: u32, gid: u32, server: &Server, text: &str) -> Option<Value> {
    if !can_be_another_user() {
        return None;
    }
    let (uid, gid) = (format!("--reuid={uid}"), format!("--regid={gid}"));
    let mut nc = Command::new("setpriv")
        .args([&uid, &gid, "--clear-groups", "nc", "-N", "-U"])
        .arg(server.socket())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    nc.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = nc.wait_with_output().unwrap().stdout;
    let mut frames = output.rsplit(|byte| *byte == 0).filter(|frame| !frame.is_empty());
    Some(serde_json::from_slice(frames.next().expect("a response")).unwrap())
}

/// A file that a job waits for. The test creates it.
pub(crate) struct Gate(TempDir);

impl Gate {
    pub(crate) fn closed() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn open(&self) {
        fs::write(self.0.path().join("open"), "").unwrap();
    }

    /// For a shell: it goes on once the gate is open.
    pub(crate) fn wait(&self) -> String {
        format!("while ! test -e {}/open; do sleep 0.02; done", self.0.path().display())
    }
}

/// Does `what` until it took less than `limit`, three times at most: this machine may be busy.
pub(crate) fn takes_less_than(limit: Duration, mut what: impl FnMut() -> Duration) {
    let took: Vec<_> = (0..3).map(|_| what()).take_while(|took| *took >= limit).collect();
    assert!(took.len() < 3, "{took:?}, not {limit:?}");
}

/// A process, as the system tells it.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) zombie: bool,
    pub(crate) command: String,
}

pub(crate) fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| process(&entry.ok()?.path())).collect()
}

fn process(folder: &Path) -> Option<Process> {
    let pid = folder.file_name()?.to_str()?.parse().ok()?;
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let (state, parent) = (fields.next()?, fields.next()?.parse().ok()?);
    let command = fs::read(folder.join("cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    Some(Process { pid, parent, zombie: state == "Z", command })
}

/// A number of seconds that no other `sleep` on this machine has: all of a job are found by it.
pub(crate) fn unique_seconds() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("1000.{:09}{number:05}", std::process::id())
}

/// Those that live and have `mark` on their command line.
pub(crate) fn alive(mark: &str) -> Vec<Process> {
    processes().into_iter().filter(|found| !found.zombie && found.command.contains(mark)).collect()
}

/// Waits until `count` processes that have `mark` live; says how long that took.
pub(crate) fn wait_until_alive(mark: &str, count: usize) -> Duration {
    let start = Instant::now();
    let seen = wait_for(|| (alive(mark).len() == count).then_some(()));
    assert!(seen.is_some(), "not {count} with {mark}: {:#?}", alive(mark));
    start.elapsed()
}

pub(crate) fn kill(process: &Process, signal: rustix::process::Signal) {
    let pid = Pid::from_raw(process.pid).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// A figure of a process's memory, in bytes.
pub(crate) fn memory(pid: Pid, field: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

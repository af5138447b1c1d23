//! The project's binaries, and a server to talk to.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long anything that a test waits for may take, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The path of one of the workspace's binaries, built if it is not yet.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(build).join(name)
}

fn build() -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--workspace", "--bins", "--message-format=json"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs");
    let messages = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    assert!(output.status.success(), "{messages}{}", String::from_utf8_lossy(&output.stderr));
    let built = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
        .expect("cargo names an executable");
    built.parent().expect("it is in a folder").to_owned()
}

/// A `server` on a socket of its own, ended when dropped.
#[derive(Debug)]
pub struct Server {
    folder: TempDir,
    child: Child,
}

impl Server {
    /// Starts one and waits until it listens.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_after(":", arguments)
    }

    /// Starts one after a shell command, such as `ulimit -n 64`, that holds for it.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start_after(setting: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = File::create(folder.path().join("log")).expect("a file for its log");
        let child = Command::new("sh")
            .args(["-c", &format!("{setting}\nexec \"$0\" \"$@\"")])
            .arg(binary("server"))
            .arg("--socket")
            .arg(folder.path().join("socket"))
            .args(arguments)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the server starts");
        let server = Self { folder, child };
        let listens = wait_for(|| UnixStream::connect(server.socket()).ok());
        assert!(listens.is_some(), "the server does not listen:\n{}", server.log());
        server
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// A folder that goes when the server does.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The processor time that it has used so far.
    ///
    /// # Panics
    /// When the system does not tell.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.expect("the server is there");
        // Behind the name, which may hold anything: user and system time are the 12th and 13th.
        let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<u64>().expect("a number of ticks"))
            .sum();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it is gone.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the server is there");
    }

    /// Waits until it ends.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait(&mut self) -> ExitStatus {
        let ended = wait_for(|| self.child.try_wait().expect("it is our child"));
        ended.unwrap_or_else(|| panic!("the server does not end:\n{}", self.log()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The second one ends it at once, and the jobs that it runs, which a KILL would not.
        for _ in 0..2 {
            let _ = kill_process(self.pid(), Signal::TERM);
            std::thread::sleep(Duration::from_millis(5));
        }
        for _ in 0..200 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks every few milliseconds until `look` sees something, for [`PATIENCE`] at most.
pub fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let seen = look();
        if seen.is_some() {
            return seen;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

/// Whether a program that a test needs is on this machine. Where it is not, says loudly that the
/// test is skipped, and fails if `KAKEHI_REQUIRE_TOOLS=1`.
///
/// # Panics
/// When it is missing and required.
#[must_use]
pub fn has_tool(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    if !found {
        let required = std::env::var_os("KAKEHI_REQUIRE_TOOLS").is_some_and(|value| value == "1");
        assert!(!required, "{name} is required and not on this machine");
        // Not by a macro: the test runner would keep that to itself.
        let _ = writeln!(std::io::stderr(), "SKIPPED: a test needs {name}, which is not here");
    }
    found
}

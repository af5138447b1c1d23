//! The project's programs, a `kakehid` to talk to, and waits.

use std::{
    env,
    ffi::OsString,
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

/// The longest wait of a test, for busy machines.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Returns the path of one of the workspace's programs, and builds them first.
///
/// cargo builds no programs of other packages for a test. With `KAKEHI_PROGRAMS=FOLDER`, the
/// programs are taken from there, and cargo is not needed.
///
/// # Panics
/// If a program cannot be built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        env::var_os("KAKEHI_PROGRAMS").map_or_else(|| build(&["--workspace", "--bins"]), Into::into)
    });
    folder.join(name)
}

/// Returns the path of one of the workspace's examples, and builds them first. With
/// `KAKEHI_PROGRAMS=FOLDER`, the examples are taken from `FOLDER/examples`.
///
/// # Panics
/// If an example cannot be built.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    let folder = env::var_os("KAKEHI_PROGRAMS").map_or_else(
        || build(&["--workspace", "--examples"]),
        |folder| Path::new(&folder).join("examples"),
    );
    folder.join(name)
}

/// Builds `targets` and returns their folder.
fn build(targets: &[&str]) -> PathBuf {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let mut cargo = Command::new(cargo);
    // The tests were built, so all packages are on this machine.
    cargo.args(["build", "--quiet", "--offline", "--message-format=json"]).args(targets);
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

/// A `kakehid` process with a socket of its own. Ends when dropped.
#[derive(Debug)]
pub struct Server {
    folder: TempDir,
    child: Child,
}

impl Server {
    /// Starts a server and waits until it listens.
    ///
    /// # Panics
    /// If it does not listen in time.
    #[must_use]
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_after(":", arguments)
    }

    /// Starts a server after a shell command that applies to it, such as `ulimit -n 64`.
    ///
    /// # Panics
    /// If it does not listen in time.
    #[must_use]
    pub fn start_after(setting: &str, arguments: &[&str]) -> Self {
        Self::launch(setting, &[&["--demo"], arguments].concat())
    }

    /// Starts a server without the demo commands.
    ///
    /// # Panics
    /// If it does not listen in time.
    #[must_use]
    pub fn without_demo(arguments: &[&str]) -> Self {
        Self::launch(":", arguments)
    }

    fn launch(setting: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = File::create(folder.path().join("log")).expect("a file for its log");
        let child = Command::new("/bin/sh")
            .args(["-c", &format!("{setting}\nexec \"$0\" \"$@\"")])
            .arg(binary("kakehid"))
            .arg("--socket")
            .arg(folder.path().join("socket"))
            .args(arguments)
            .env_remove("RUST_LOG")
            .env("PATH", system_path())
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the server starts");
        let server = Self { folder, child };
        let listens = wait_for(|| UnixStream::connect(server.socket()).ok());
        assert!(listens.is_some(), "the server does not listen:\n{}", server.log());
        server
    }

    /// Returns the path of its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Returns the folder of its socket, which is removed with the server.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns its log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Returns the processor time that it has used.
    ///
    /// # Panics
    /// If the process has ended.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.expect("the server runs");
        // User and system time are the 12th and 13th field after the name, which may contain
        // anything.
        let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<u64>().expect("a number of ticks"))
            .sum();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }

    /// Returns its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal. After SIGSTOP, returns once the process has stopped: the kernel stops it a
    /// moment after the call.
    ///
    /// # Panics
    /// If the server has ended, or does not stop.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the server runs");
        if signal == Signal::STOP {
            wait_for(|| self.is_stopped().then_some(())).expect("the server stops");
        }
    }

    fn is_stopped(&self) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let threads = threads.expect("the server runs");
        threads.flatten().all(|thread| {
            // The state follows the name, which may contain anything.
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, fields)| fields.starts_with('T'))
        })
    }

    /// Waits until it ends.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn wait(&mut self) -> ExitStatus {
        let ended = wait_for(|| self.child.try_wait().expect("it is our child"));
        ended.unwrap_or_else(|| panic!("the server does not end:\n{}", self.log()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The second SIGTERM ends the server and its jobs at once. SIGKILL would leave the jobs.
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

/// Returns the `PATH` of a [`Server`]: that of the test, and the system's folders, so that jobs
/// find programs such as `sh`.
///
/// # Panics
/// If a folder of the `PATH` has a colon.
#[must_use]
pub fn system_path() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/bin", "/bin"].map(PathBuf::from));
    env::join_paths(folders).expect("no folder has a colon")
}

/// Calls `look` every 5 ms until it returns a value, for at most [`PATIENCE`].
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

/// Whether a program that a test needs is on the `PATH`. If it is missing, prints that the test is
/// skipped.
///
/// # Panics
/// If the program is missing and `KAKEHI_REQUIRE_TOOLS=1`.
#[must_use]
pub fn has_tool(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).any(|folder| folder.join(name).is_file());
    if !found {
        let required = env::var_os("KAKEHI_REQUIRE_TOOLS").is_some_and(|value| value == "1");
        assert!(!required, "{name} is required and missing");
        skip(&format!("{name} is missing"));
    }
    found
}

/// The Python of `KAKEHI_TEST_PYTHON`, or `python3`, if it has a module. Without it, prints that the
/// test is skipped.
///
/// # Panics
/// If the module is missing and `KAKEHI_REQUIRE_TOOLS=1`.
#[must_use]
pub fn python_with(module: &str) -> Option<OsString> {
    let python = env::var_os("KAKEHI_TEST_PYTHON").unwrap_or_else(|| "python3".into());
    let import = format!("import {module}");
    let output = Command::new(&python).args(["-c", &import]).output();
    if output.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    let required = env::var_os("KAKEHI_REQUIRE_TOOLS").is_some_and(|value| value == "1");
    assert!(!required, "Python's {module} is required and missing");
    skip(&format!("Python's {module} is missing"));
    None
}

/// Prints that the current test is skipped, and why.
pub fn skip(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // The test runner captures the output of `eprintln!` and shows it only for failed tests.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

//! Real Sōzus to talk to.

use std::{
    env, fs,
    fs::File,
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use kakehi_sozu::{
    Error, Release, Response, Sozu,
    command::{self, Cluster, WorkerInfo, request::RequestType, response_content::ContentType},
};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

/// How long anything that a test waits for may take, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The `sozu` programs that are here: the one that `SOZU_BIN` names, or all that
/// `tests/sozu/build` has put into the cache. If there is none, says loudly that the test is
/// skipped.
pub(crate) fn binaries() -> Vec<PathBuf> {
    if let Some(binary) = env::var_os("SOZU_BIN") {
        let binary = PathBuf::from(binary);
        assert!(binary.is_file(), "SOZU_BIN is {}, which is not a file", binary.display());
        return vec![binary];
    }
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| {
        let home = env::var_os("HOME")?;
        Some(Path::new(&home).join(".cache"))
    });
    let found = cache.and_then(|cache| fs::read_dir(cache.join("kakehi")).ok());
    let mut binaries: Vec<_> = found
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|folder| {
            folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("sozu-"))
        })
        .map(|folder| folder.join("bin/sozu"))
        .filter(|binary| binary.is_file())
        .collect();
    binaries.sort();
    if binaries.is_empty() {
        skipped("a test needs the sozu program, which is not here");
    }
    binaries
}

/// Says loudly that a test is skipped. Not by a macro: the test runner would keep that to itself.
pub(crate) fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}: run tests/sozu/build");
}

/// Whether a program is of that release or of a later one.
pub(crate) fn knows(binary: &Path, release: Release) -> bool {
    let known = match release {
        Release::V2_3_0 => [2, 3, 0],
        Release::V2_3_2 => [2, 3, 2],
        _ => [2, 1, 0],
    };
    version(binary) >= known
}

fn version(binary: &Path) -> [u32; 3] {
    let output = Command::new(binary).arg("--version").output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let version = printed.split_whitespace().nth(1).unwrap();
    let numbers: Vec<u32> = version.split('.').map(|number| number.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}

/// A Sōzu of its own folder, with two workers and one listener on loopback; ended when dropped.
pub(crate) struct Proxy {
    folder: TempDir,
    child: Child,
    binary: PathBuf,
    pub(crate) http: SocketAddr,
}

impl Proxy {
    pub(crate) async fn start(binary: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // It is free now; that another takes it first, is for the next run.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let config = format!(
            r#"
command_socket = "./sozu.sock"
saved_state = "./state.json"
log_level = "info"
log_target = "stdout"
worker_count = 2
worker_automatic_restart = true
max_connections = 100
[[listeners]]
protocol = "http"
address = "{port}"
[clusters]
"#
        );
        fs::write(folder.path().join("config.toml"), config).unwrap();
        File::create(folder.path().join("state.json")).unwrap();
        let child = spawn(binary, folder.path());
        let proxy = Self { folder, child, binary: binary.to_owned(), http: port };
        proxy.answers().await;
        proxy
    }

    /// Waits until it and its workers run.
    pub(crate) async fn answers(&self) {
        let sozu = Sozu::builder(self.socket()).build();
        let start = Instant::now();
        loop {
            match sozu.request(status()).await {
                Ok(answer) if workers(&answer).len() == 2 => return,
                other => assert!(start.elapsed() < PATIENCE, "{other:?}\n{}", self.log()),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Kills it with all of its workers, as by SIGKILL.
    pub(crate) fn kill(&mut self) {
        // The workers, and a main process after an upgrade, are in its group.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }

    /// Starts it again in the same folder, and returns before it is up.
    pub(crate) fn start_again(&mut self) {
        self.child = spawn(&self.binary, self.folder.path());
    }

    /// Waits until its main process ends by itself.
    pub(crate) async fn ends(&mut self) {
        let start = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < PATIENCE, "it does not end\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn main_pid(&self) -> i32 {
        Pid::from_child(&self.child).as_raw_nonzero().get()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("sozu.sock")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("config.toml")
    }

    /// A path in its folder.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// A client with as many connections at once as the version can bear.
    pub(crate) async fn connect(&self) -> Sozu {
        let builder = Sozu::builder(self.socket());
        let builder = if self.loses_answers() { builder.pool_size(1) } else { builder };
        builder.connect().await.unwrap()
    }

    /// Whether it loses answers of its workers to requests that are under way at the same time, as
    /// 2.1.0 does on a busy machine: it then answers after its `worker_timeout` of 10 s, and by OK.
    pub(crate) fn loses_answers(&self) -> bool {
        version(&self.binary) < [2, 2, 0]
    }

    /// Whether it was started from a program of that release or of a later one.
    pub(crate) fn knows(&self, release: Release) -> bool {
        knows(&self.binary, release)
    }

    /// What its own command line prints.
    pub(crate) fn command_line(&self, arguments: &[&str]) -> String {
        let output = command_line(&self.binary, &self.config(), arguments);
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
        printed
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(binary: &Path, folder: &Path) -> Child {
    let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
    Command::new(binary)
        .arg("-c")
        .arg(folder.join("config.toml"))
        .arg("start")
        .current_dir(folder)
        .process_group(0)
        .stdin(Stdio::null())
        .stderr(log.try_clone().unwrap())
        .stdout(log)
        .spawn()
        .unwrap()
}

/// Sōzu's own command line with that configuration.
pub(crate) fn command_line(binary: &Path, config: &Path, arguments: &[&str]) -> Output {
    Command::new(binary)
        .arg("-c")
        .arg(config)
        .args(["--timeout", "20000"])
        .args(arguments)
        .current_dir(config.parent().unwrap())
        .output()
        .unwrap()
}

/// The signal goes to a worker, or what else has a pid.
pub(crate) fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

pub(crate) fn status() -> RequestType {
    RequestType::Status(command::Status {})
}

/// The workers that a status tells of and that run, by their ids.
pub(crate) fn workers(answer: &Response) -> Vec<WorkerInfo> {
    let Some(ContentType::Workers(workers)) = &answer.content else { panic!("{answer:?}") };
    let running = command::RunState::Running;
    let mut running: Vec<_> =
        workers.vec.iter().filter(|worker| worker.run_state() == running).copied().collect();
    running.sort();
    running
}

pub(crate) fn add_cluster(name: &str) -> RequestType {
    RequestType::AddCluster(cluster(name))
}

pub(crate) fn cluster(name: &str) -> Cluster {
    Cluster { cluster_id: name.to_owned(), ..Cluster::default() }
}

/// The ids of the clusters that the workers know under that name: what only its own answer says.
pub(crate) async fn query(sozu: &Sozu, name: &str) -> Result<Vec<String>, Error> {
    let answer = sozu.request(RequestType::QueryClusterById(name.to_owned())).await?;
    let Some(ContentType::WorkerResponses(workers)) = answer.content else { panic!("{name}") };
    let mut names = vec![];
    for (_, content) in workers.map.into_iter().filter(|(from, _)| from != "main") {
        let Some(ContentType::Clusters(clusters)) = content.content_type else { panic!("{name}") };
        names.extend(
            clusters.vec.into_iter().filter_map(|found| Some(found.configuration?.cluster_id)),
        );
    }
    Ok(names)
}

//! Starts the processes and records their results.

use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{
    Opts, abouts, proc,
    workloads::{self, Numbers},
};

/// A client that takes longer hangs: none of the workloads needs half of it.
const PATIENCE: Duration = Duration::from_secs(20);

/// The name of tokio without changed settings, in `--tokio`.
const DEFAULT: &str = "default";

#[derive(Serialize, Deserialize)]
pub struct Row {
    pub round: u32,
    pub workload: String,
    pub contender: String,
    pub rt: String,
    pub pin: String,
    pub load: f64,
    /// Share of the machine's CPU time used by others during the run.
    pub foreign: f64,
    /// Share taken by the hypervisor.
    pub steal: f64,
    pub numbers: Numbers,
    pub error: Option<String>,
}

/// Kills the server it started, and only that one.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM to the process itself, which `--wrap-server` (strace, perf) outlives.
        let _ = Command::new("kill").arg(served_pid(self.0.id()).to_string()).status();
        for _ in 0..100 {
            if matches!(self.0.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The pid of the server: the child itself, or the child of the command that wraps it.
fn served_pid(pid: u32) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    children.ok().and_then(|c| c.split_whitespace().next()?.parse().ok()).unwrap_or(pid)
}

fn command(wrap: Option<&str>) -> Result<Command> {
    let me = std::env::current_exe()?;
    Ok(match wrap {
        None => Command::new(me),
        Some(w) => {
            let mut words = w.split_whitespace();
            let mut c = Command::new(words.next().context("empty wrapper")?);
            c.args(words).arg(me);
            c
        }
    })
}

struct Case<'a> {
    contender: &'a str,
    workload: &'a str,
    rt: &'a str,
    tokio: &'a str,
    pin: &'a str,
    opts: &'a Opts,
}

fn one(case: &Case, dir: &Path) -> Result<Numbers> {
    let sock = dir.join("s");
    let _ = std::fs::remove_file(&sock);
    let (server_cpu, client_cpu) = match case.pin {
        "none" => (None, None),
        "same" => (Some("1"), Some("1")),
        "split" => (Some("0"), Some("1")),
        p => bail!("--pin {p}"),
    };
    let common = |c: &mut Command, cpu: Option<&str>| {
        c.args(["--contender", case.contender, "--rt", case.rt, "--sock"]).arg(&sock);
        if let Some(cpu) = cpu {
            c.args(["--cpu", cpu]);
        }
        if case.tokio != DEFAULT {
            c.args(["--tokio", case.tokio]);
        }
    };
    let wrap_server = case.opts.get("wrap-server");
    let mut c = command(wrap_server)?;
    c.arg("server");
    common(&mut c, server_cpu);
    let server = Server(c.stdout(Stdio::null()).spawn()?);
    let start = Instant::now();
    while UnixStream::connect(&sock).is_err() {
        if start.elapsed() > Duration::from_secs(5) {
            bail!("the server does not listen");
        }
        thread::sleep(Duration::from_millis(5));
    }
    thread::sleep(Duration::from_millis(50));

    let mut c = command(case.opts.get("wrap-client"))?;
    c.arg("client");
    common(&mut c, client_cpu);
    let pid = if wrap_server.is_some() { served_pid(server.0.id()) } else { server.0.id() };
    c.args(["--workload", case.workload, "--server-pid", &pid.to_string()]);
    for key in ["ms", "calls", "responses", "bytes", "connections"] {
        if let Some(v) = case.opts.get(key) {
            c.args([&format!("--{key}"), v]);
        }
    }
    let mut client = c.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let start = Instant::now();
    while client.try_wait()?.is_none() {
        if start.elapsed() > PATIENCE {
            client.kill()?;
            client.wait()?;
            bail!("hangs (no end after {} s)", PATIENCE.as_secs());
        }
        thread::sleep(Duration::from_millis(10));
    }
    let out = client.wait_with_output()?;
    if !out.status.success() {
        let err = String::from_utf8_lossy(&out.stderr);
        bail!("{}", err.lines().next().unwrap_or("failed"));
    }
    Ok(serde_json::from_slice(&out.stdout)?)
}

/// CPU seconds of this process and of the children it has waited for.
fn own_cpu() -> f64 {
    unsafe {
        let mut total = 0.0;
        for who in [libc::RUSAGE_CHILDREN, libc::RUSAGE_SELF] {
            let mut u: libc::rusage = std::mem::zeroed();
            libc::getrusage(who, &mut u);
            let s = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
            total += s(u.ru_utime) + s(u.ru_stime);
        }
        total
    }
}

/// Keeps the CPUs from halting: a spinning thread of the lowest class (SCHED_IDLE) on each. On a
/// virtual machine, waking a halted CPU takes longer than the calls that are measured.
fn keep_awake() {
    for cpu in 0..thread::available_parallelism().map_or(1, |n| n.get()) {
        thread::spawn(move || {
            proc::pin(cpu);
            unsafe {
                let p = libc::sched_param { sched_priority: 0 };
                if libc::sched_setscheduler(0, libc::SCHED_IDLE, &p) != 0 {
                    return;
                }
            }
            loop {
                std::hint::spin_loop();
            }
        });
    }
}

pub fn run(opts: &Opts) -> Result<()> {
    let all = abouts();
    let pick = |key: &str, all: Vec<&str>| -> Result<Vec<String>> {
        let chosen: Vec<String> = match opts.get(key) {
            Some(v) => v.split(',').map(str::to_string).collect(),
            None => all.iter().map(|s| s.to_string()).collect(),
        };
        if let Some(x) = chosen.iter().find(|c| !all.contains(&c.as_str())) {
            bail!("--{key}: no {x}");
        }
        Ok(chosen)
    };
    let contenders = pick("contenders", all.iter().map(|a| a.name).collect())?;
    let workloads = pick("workloads", workloads::ALL.to_vec())?;
    let rounds: u32 = opts.num("rounds", 5)?;
    let out = PathBuf::from(opts.get("out").unwrap_or("results.jsonl"));
    let dir = std::env::temp_dir().join(format!("kakehi-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let mut file = OpenOptions::new().create(true).append(true).open(&out)?;
    let rt = opts.get("rt").unwrap_or("current");
    let tokio: Vec<&str> = opts.get("tokio").unwrap_or(DEFAULT).split(',').collect();
    let subjects: Vec<(&String, &str)> = contenders
        .iter()
        .flat_map(|name| tokio.iter().map(move |settings| (name, *settings)))
        .collect();
    let pin = opts.get("pin").unwrap_or("none");
    let awake = opts.get("awake") == Some("yes");
    if awake {
        keep_awake();
    }
    let label = if awake { format!("{pin}, CPUs kept awake") } else { pin.to_string() };
    let hz = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;

    for round in 0..rounds {
        for workload in &workloads {
            for (name, tokio) in &subjects {
                let about = all.iter().find(|a| a.name == *name).expect("picked");
                if !about.runs(workload) {
                    continue;
                }
                let load = proc::loadavg();
                let (ticks, cpu) = (proc::machine_ticks(), own_cpu());
                let case = Case { contender: name, workload, rt, tokio, pin, opts };
                let r = one(&case, &dir);
                let after = proc::machine_ticks();
                let total = (after.2 - ticks.2).max(1) as f64;
                let ours = (own_cpu() - cpu) * hz;
                let row = Row {
                    round,
                    workload: workload.clone(),
                    contender: name.to_string(),
                    rt: if *tokio == DEFAULT { rt.into() } else { format!("{rt} {tokio}") },
                    pin: label.clone(),
                    load,
                    foreign: (((after.0 - ticks.0) as f64 - ours) / total).max(0.0),
                    steal: (after.1 - ticks.1) as f64 / total,
                    error: r.as_ref().err().map(|e| e.to_string()),
                    numbers: r.unwrap_or_default(),
                };
                eprintln!(
                    "round {round} {workload} {name:18} tokio {tokio} load {load:.2} foreign {:.0}% {}",
                    row.foreign * 100.0,
                    match &row.error {
                        Some(e) => format!("FAILED: {e}"),
                        None => serde_json::to_string(&row.numbers)?,
                    }
                );
                writeln!(file, "{}", serde_json::to_string(&row)?)?;
            }
        }
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

//! Peer benchmark of request/response and streaming-response libraries over a Unix socket.
//!
//! `kakehi-bench run` starts, for each round, workload and contender, a server process and a client
//! process of its own binary, and appends one JSON line per run to a file.
//! `kakehi-bench table` prints that file as markdown.

mod contender;
mod contenders;
mod goals;
#[cfg(feature = "peers")]
mod micro;
mod model;
mod proc;
mod report;
mod run;
mod workloads;

use std::{collections::HashMap, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};

use contender::{About, Contender, Rt};

/// `--key value` pairs after the subcommand.
pub struct Opts(HashMap<String, String>);

impl Opts {
    fn parse(args: impl Iterator<Item = String>) -> Result<Self> {
        let mut map = HashMap::new();
        let mut args = args.peekable();
        while let Some(a) = args.next() {
            let key = a.strip_prefix("--").with_context(|| format!("unexpected {a}"))?;
            map.insert(key.to_string(), args.next().context("missing value")?);
        }
        Ok(Opts(map))
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    pub fn num<T: std::str::FromStr>(&self, key: &str, default: T) -> Result<T> {
        match self.get(key) {
            None => Ok(default),
            Some(v) => v.parse().ok().with_context(|| format!("--{key} {v}")),
        }
    }

    pub fn rt(&self) -> Result<Rt> {
        match self.get("rt").unwrap_or("current") {
            "current" => Ok(Rt::Current),
            "multi" => Ok(Rt::Multi),
            v => bail!("--rt {v}"),
        }
    }
}

fn abouts() -> Vec<About> {
    let mut all = Vec::new();
    macro_rules! add {
        ($c:ty) => {
            all.push(<$c as Contender>::ABOUT)
        };
    }
    for_each_contender!(add);
    all
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_else(|| "help".into());
    let opts = Opts::parse(args)?;
    match command.as_str() {
        "run" => run::run(&opts),
        "table" => report::table(&opts),
        "goals" => goals::goals(&opts),
        #[cfg(feature = "peers")]
        "micro" => {
            micro::micro();
            Ok(())
        }
        "list" => {
            for a in abouts() {
                println!(
                    "{:18} {:24} {:8} one connection: {:14} streams: {}",
                    a.name, a.wire, a.io, a.one_conn, a.streams
                );
            }
            Ok(())
        }
        "server" | "client" => child(&command, &opts),
        _ => {
            println!(
                "kakehi-bench list\n\
                 kakehi-bench run [--rounds 5] [--out FILE] [--contenders a,b] [--workloads w1,w2]\n\
                 \x20             [--rt current|multi] [--pin none|same|split] [--awake yes] [--ms 3000]\n\
                 \x20             [--wrap-server CMD] [--wrap-client CMD] [--calls N] [--responses N]\n\
                 \x20             [--bytes N] [--connections N] [--tokio default,event_interval=31]\n\
                 kakehi-bench table --in FILE [--base raw-tokio]\n\
                 kakehi-bench goals --in FILE\n\
                 kakehi-bench micro"
            );
            Ok(())
        }
    }
}

/// The server or the client process of one run.
fn child(command: &str, opts: &Opts) -> Result<()> {
    proc::raise_fd_limit();
    if let Some(cpu) = opts.get("cpu") {
        proc::pin(cpu.parse()?);
    }
    if let Some(settings) = opts.get("tokio") {
        contender::set_tokio(settings)?;
    }
    let name = opts.get("contender").context("--contender")?.to_string();
    let sock = PathBuf::from(opts.get("sock").context("--sock")?);
    let rt = opts.rt()?;
    macro_rules! dispatch {
        ($c:ty) => {
            if <$c as Contender>::ABOUT.name == name {
                if command == "server" {
                    return <$c>::serve(&sock, rt);
                }
                let args = workloads::Args {
                    sock,
                    server_pid: opts.num("server-pid", 0)?,
                    rt,
                    time: Duration::from_millis(opts.num("ms", 3000)?),
                    calls: opts.num("calls", 0)?,
                    responses: opts.num("responses", 200_000)?,
                    bytes: opts.num("bytes", 1 << 20)?,
                    connections: opts.num("connections", 1000)?,
                };
                let numbers = workloads::run::<$c>(opts.get("workload").unwrap_or("w1"), args)?;
                println!("{}", serde_json::to_string(&numbers)?);
                return Ok(());
            }
        };
    }
    for_each_contender!(dispatch);
    bail!("no contender {name}")
}

//! Brokers, alone and joined.

use std::{
    collections::BTreeSet,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::{net::TcpStream, time::sleep};

/// How the brokers of a fact are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    Alone,
    /// Of three brokers.
    Cluster,
    /// Two clusters of one broker each.
    Gateway,
    /// A leaf node, with the nodes of the fleet, and its hub, with the clients.
    Leaf,
}

/// The programs to test with, and their versions: those named in `KAKEHI_NATS_SERVERS`, separated by
/// colons; else Debian's and the first of the `PATH`.
pub(crate) fn servers() -> Vec<(PathBuf, String)> {
    let named = std::env::var("KAKEHI_NATS_SERVERS").ok();
    let candidates = named.unwrap_or_else(|| "/usr/sbin/nats-server:nats-server".to_owned());
    let mut versions = BTreeSet::new();
    let version = |path: &PathBuf| {
        let output = Command::new(path).arg("--version").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let version = text.trim().rsplit([' ', 'v']).next()?.to_owned();
        (output.status.success() && versions.insert(version.clone())).then_some(version)
    };
    let mut version = version;
    let paths = candidates.split(':').map(PathBuf::from);
    paths.filter_map(|path| version(&path).map(|version| (path, version))).collect()
}

/// The brokers of one fact, ended when dropped. The first one is the clients', the last one the
/// nodes'.
pub(crate) struct Brokers(pub(crate) Vec<Broker>);

pub(crate) struct Broker {
    pub(crate) port: u16,
    program: PathBuf,
    config: PathBuf,
    child: Child,
    /// Has the configuration.
    _folder: tempfile::TempDir,
}

impl Brokers {
    pub(crate) async fn start(program: &Path, topology: Topology) -> Self {
        let count = match topology {
            Topology::Alone => 1,
            Topology::Cluster => 3,
            Topology::Gateway | Topology::Leaf => 2,
        };
        let ports = free_ports(2 * count);
        let (clients, others) = ports.split_at(count);
        let routes: Vec<_> = others.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let routes = routes.join(", ");
        let mut brokers = vec![];
        for (at, (port, other)) in clients.iter().zip(others).enumerate() {
            let joined = match topology {
                Topology::Alone => String::new(),
                Topology::Cluster => format!(
                    "server_name: s{at}\ncluster {{ name: c, listen: \"127.0.0.1:{other}\", routes: [{routes}] }}\n"
                ),
                Topology::Gateway => format!(
                    "gateway {{ name: g{at}, listen: \"127.0.0.1:{other}\", gateways: [\
                     {{ name: g0, url: \"nats://127.0.0.1:{}\" }}, {{ name: g1, url: \"nats://127.0.0.1:{}\" }}] }}\n",
                    others[0], others[1]
                ),
                Topology::Leaf if at == 0 => {
                    format!("leafnodes {{ listen: \"127.0.0.1:{other}\" }}\n")
                }
                Topology::Leaf => format!(
                    "leafnodes {{ remotes: [ {{ url: \"nats://127.0.0.1:{}\" }} ] }}\n",
                    others[0]
                ),
            };
            brokers.push(Broker::start(program, *port, &joined).await);
        }
        Self(brokers)
    }

    /// Where clients connect.
    pub(crate) fn client_url(&self) -> String {
        self.0.first().unwrap().url()
    }

    /// Where nodes connect.
    pub(crate) fn node_url(&self) -> String {
        self.0.last().unwrap().url()
    }
}

impl Broker {
    async fn start(program: &Path, port: u16, joined: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("nats.conf");
        std::fs::write(&config, format!("listen: \"127.0.0.1:{port}\"\n{joined}")).unwrap();
        let child = spawn(program, &config);
        let program = program.to_owned();
        let broker = Self { port, program, config, child, _folder: folder };
        broker.is_up().await;
        broker
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) async fn revive(&mut self) {
        self.child = spawn(&self.program, &self.config);
        self.is_up().await;
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    async fn is_up(&self) {
        for _ in 0..1_000 {
            if TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("the broker did not start");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(program: &Path, config: &Path) -> Child {
    let mut command = Command::new(program);
    command.arg("-c").arg(config).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

fn free_ports(count: usize) -> Vec<u16> {
    let bind = |_| TcpListener::bind("127.0.0.1:0").unwrap();
    let listeners: Vec<_> = (0..count).map(bind).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

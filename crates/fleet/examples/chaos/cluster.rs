//! Three brokers that know each other, each behind a proxy.

use std::{
    env,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

pub(crate) struct Cluster {
    program: String,
    brokers: Vec<Broker>,
}

struct Broker {
    port: u16,
    route: u16,
    proxy: u16,
    /// The proxy holds all bytes.
    is_cut: Arc<AtomicBool>,
    child: Child,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let program = env::var("NATS_SERVER").unwrap_or_else(|_| "nats-server".to_owned());
        let listeners: Vec<_> = (0..9).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<_> =
            listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        let mut listeners = listeners.into_iter();
        let proxies: Vec<_> = listeners.by_ref().take(3).collect();
        drop(listeners);
        let brokers = (0..3).zip(proxies).map(|(number, proxy)| {
            let (port, route) = (ports[3 + number], ports[6 + number]);
            let is_cut = Arc::new(AtomicBool::new(false));
            let child = spawn(&program, port, route, &ports[6..]);
            let cut = Arc::clone(&is_cut);
            thread::spawn(move || serve(&proxy, port, &cut));
            Broker { port, route, proxy: ports[number], is_cut, child }
        });
        let brokers = brokers.collect();
        thread::sleep(Duration::from_secs(2));
        Self { program, brokers }
    }

    pub(crate) fn url(&self) -> String {
        let urls = self.brokers.iter().map(|broker| format!("nats://127.0.0.1:{}", broker.proxy));
        urls.collect::<Vec<_>>().join(",")
    }

    /// Kills a broker, and starts it again after `time`.
    pub(crate) fn restart(&mut self, number: usize, time: Duration) {
        let routes: Vec<_> = self.brokers.iter().map(|broker| broker.route).collect();
        let broker = &mut self.brokers[number];
        let _ = broker.child.kill();
        let _ = broker.child.wait();
        thread::sleep(time);
        broker.child = spawn(&self.program, broker.port, broker.route, &routes);
    }

    /// Stops a broker for this time.
    pub(crate) fn stop(&self, number: usize, time: Duration) {
        let process = self.brokers[number].child.id();
        super::signal(process, "STOP");
        thread::sleep(time);
        super::signal(process, "CONT");
    }

    /// Holds what goes to a broker and comes from it.
    pub(crate) fn cut(&self, number: usize, time: Duration) {
        let is_cut = Arc::clone(&self.brokers[number].is_cut);
        is_cut.store(true, Ordering::SeqCst);
        thread::spawn(move || {
            thread::sleep(time);
            is_cut.store(false, Ordering::SeqCst);
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for broker in &mut self.brokers {
            let _ = broker.child.kill();
            let _ = broker.child.wait();
        }
    }
}

fn spawn(program: &str, port: u16, route: u16, routes: &[u16]) -> Child {
    let routes: Vec<_> = routes.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
    // The clients are to use the proxies alone.
    Command::new(program)
        .args(["-a", "127.0.0.1", "-p", &port.to_string(), "--no_advertise"])
        .args(["--cluster_name", "chaos", "--cluster", &format!("nats://127.0.0.1:{route}")])
        .args(["--routes", &routes.join(",")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server is installed")
}

fn serve(listener: &TcpListener, port: u16, is_cut: &Arc<AtomicBool>) {
    for client in listener.incoming() {
        let (Ok(client), Ok(broker)) = (client, TcpStream::connect(("127.0.0.1", port))) else {
            continue;
        };
        for (from, to) in [(&client, &broker), (&broker, &client)] {
            let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            let is_cut = Arc::clone(is_cut);
            thread::spawn(move || copy(from, to, &is_cut));
        }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, is_cut: &AtomicBool) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        while is_cut.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(10));
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

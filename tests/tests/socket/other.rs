//! The parts that other processes play: this same program, told so by its environment.

use std::{
    env,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use kakehi_server::{BindError, Socket};
use rustix::{
    fs::{Mode, OFlags, fcntl_getfl},
    io::{FdFlags, fcntl_getfd},
    process::{Resource, Rlimit, getegid, setrlimit, umask},
};

use super::{NOBODY, is_root};

pub(super) const ROLE: &str = "KAKEHI_SOCKET_TEST";
pub(super) const ARGS: [&str; 4] =
    ["--exact", "other::the_other_process", "--nocapture", "--test-threads=1"];

/// Another process; killed at the latest when dropped.
pub(super) struct Server {
    pub(super) child: Child,
    output: Option<BufReader<ChildStdout>>,
}

impl Server {
    pub(super) fn start(path: &Path, options: &[(&str, &str)]) -> Self {
        Self::spawn(another_process(path, options))
    }

    pub(super) fn spawn(mut command: Command) -> Self {
        Self::new(command.spawn().unwrap())
    }

    pub(super) fn new(mut child: Child) -> Self {
        let output = child.stdout.take().map(BufReader::new);
        Self { child, output }
    }

    /// The next thing it says.
    pub(super) fn line(&mut self) -> String {
        let output = self.output.as_mut().unwrap();
        let mut all = String::new();
        while output.read_line(&mut all).unwrap() > 0 {
            if let Some((_, said)) = all.split_once("other process: ") {
                return said.trim_end().into();
            }
        }
        panic!("the other process has nothing to say: {all}");
    }

    pub(super) fn go(&mut self) {
        self.child.stdin.as_ref().unwrap().write_all(b"\n").unwrap();
    }

    /// Lets it end by itself.
    pub(super) fn stop(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Set up to serve, or to try to.
pub(super) fn another_process(path: &Path, options: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(ARGS);
    as_server(&mut command, path, options);
    command
}

pub(super) fn as_server(command: &mut Command, path: &Path, options: &[(&str, &str)]) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).env(ROLE, "server");
    command.env(format!("{ROLE}_PATH"), path);
    for (name, value) in options {
        command.env(format!("{ROLE}_{name}"), value);
    }
}

#[tokio::test]
async fn the_other_process() {
    match env::var(ROLE).as_deref() {
        Ok("server") => serve().await,
        Ok("systemd") => take_from_systemd(),
        Ok("activated") => greet_one().await,
        _ => {}
    }
}

async fn serve() {
    let option = |name: &str| env::var(format!("{ROLE}_{name}")).ok();
    let octal = |name: &str| option(name).map(|bits| u32::from_str_radix(&bits, 8).unwrap());
    if let Some(mask) = octal("UMASK") {
        umask(Mode::from_raw_mode(mask));
    }
    if option("STARTING_GUN").is_some() {
        say("ready");
        io::stdin().read_line(&mut String::new()).unwrap();
    }
    let before = descriptors();
    if let Some(spare) = option("SPARE") {
        // The next descriptor's number, and so how many there are.
        let open = u64::try_from(File::open("/dev/null").unwrap().as_raw_fd()).unwrap();
        let current = Some(open + spare.parse::<u64>().unwrap());
        setrlimit(Resource::Nofile, Rlimit { current, maximum: current }).unwrap();
    }

    let path = PathBuf::from(option("PATH").unwrap());
    let mut builder = Socket::bind(&path);
    if let Some(mode) = octal("MODE") {
        builder = builder.mode(mode);
    }
    if option("GIVE").is_some() {
        builder = if is_root() {
            builder.owner(NOBODY).group(NOBODY)
        } else {
            builder.group(getegid().as_raw())
        };
    }
    if option("CREATE_PARENT").is_some() {
        builder = builder.create_parent();
    }
    let socket = match builder.listen() {
        Ok(socket) => socket,
        Err(error) => return say(&refused(&error)),
    };
    if let Some(directory) = option("GO_TO") {
        env::set_current_dir(directory).unwrap();
    }
    if option("DESCRIPTORS").is_some() {
        let _client = UnixStream::connect(&path).unwrap();
        let _server = socket.accept().await.unwrap();
        let new: Vec<_> = descriptors().into_iter().filter(|fd| !before.contains(fd)).collect();
        let kept = new.iter().filter(|(_, closed_on_exec)| !closed_on_exec).count();
        say(&format!("{kept} kept of {}", new.len()));
    } else {
        say("bound");
    }
    io::stdin().read_to_end(&mut vec![]).unwrap();
}

fn take_from_systemd() {
    let outcome = || match Socket::from_systemd() {
        Ok(None) => "none".into(),
        Ok(Some(socket)) => {
            let private = if is_private_and_non_blocking(&socket) { "private" } else { "open" };
            format!("{private} socket at {}", socket.path().unwrap().display())
        }
        Err(error) => refused(&error),
    };
    let first = outcome();
    let is_socket = first.contains("socket at");
    say(&if is_socket { format!("{first}, then {}", outcome()) } else { first });
}

async fn greet_one() {
    let socket = Socket::from_systemd().unwrap().unwrap();
    let client = socket.accept().await.unwrap();
    client.writable().await.unwrap();
    let greeting = format!("welcome to {}", socket.path().unwrap().display());
    assert_eq!(client.try_write(greeting.as_bytes()).unwrap(), greeting.len());
}

fn refused(error: &BindError) -> String {
    format!("refused {:?}: {error}", error.kind())
}

fn say(what: &str) {
    // The test harness may have begun a line.
    println!("\nother process: {what}");
}

/// The numbers of the open descriptors, and whether they close on exec.
fn descriptors() -> Vec<(String, bool)> {
    let directory = fs::read_dir("/proc/self/fdinfo").unwrap();
    let names = directory.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    // The directory's own descriptor is gone when its turn comes.
    let with_info = names.collect::<Vec<_>>().into_iter().filter_map(|name| {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{name}")).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?.trim();
        let flags = u32::from_str_radix(flags, 8).unwrap();
        Some((name, flags & OFlags::CLOEXEC.bits() != 0))
    });
    with_info.collect()
}

pub(super) fn is_private_and_non_blocking(fd: impl AsFd) -> bool {
    let fd = fd.as_fd();
    fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC)
        && fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
}

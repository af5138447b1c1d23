//! OpenSSH's server, for the user that runs the tests, on a port of the loopback interface.

use std::{
    fs::{self, File, Permissions},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use kakehi_tests::programs::{binary, has_tool, wait_for};
use rustix::process::geteuid;
use tempfile::TempDir;

/// Ended when dropped.
pub(crate) struct Sshd {
    folder: TempDir,
    child: Child,
    pub(crate) user: String,
    pub(crate) port: u16,
}

impl Sshd {
    /// `None`: there is none on this machine.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// With more lines in its settings.
    pub(crate) fn start_with(settings: &str) -> Option<Self> {
        let tools = ["ssh", "ssh-keygen", "sshd"];
        if !tools.iter().all(|tool| *tool == "sshd" && in_sbin().is_some() || has_tool(tool)) {
            return None;
        }
        // Another process may take the port first.
        let started = (0..5).find_map(|_| Self::try_start(settings));
        Some(started.expect("sshd listens"))
    }

    /// `None`: its port was taken meanwhile.
    fn try_start(settings: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for key in ["host", "user", "wrong"] {
            generate_key(&path(key));
        }
        let port = free_port();
        let shown = folder.path().display();
        let user = stdout_of(Command::new("id").arg("-un"));
        let settings = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {shown}/host\nPidFile none\n\
             AuthorizedKeysFile {shown}/user.pub\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\n{settings}\n"
        );
        fs::write(path("sshd_config"), settings).unwrap();
        let host_key = fs::read_to_string(path("host.pub")).unwrap();
        fs::write(path("known_hosts"), format!("[127.0.0.1]:{port} {host_key}")).unwrap();
        for key in ["user", "wrong"] {
            let settings = format!(
                "UserKnownHostsFile {shown}/known_hosts\nGlobalKnownHostsFile /dev/null\n\
                 IdentityFile {shown}/{key}\nIdentitiesOnly yes\nIdentityAgent none\n"
            );
            fs::write(path(&format!("ssh_config.{key}")), settings).unwrap();
        }
        wrap_ssh(&path("bin"));
        if geteuid().is_root() {
            // It wants this folder when it runs as root.
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let child = Command::new(program())
            .args(["-D", "-e", "-f"])
            .arg(path("sshd_config"))
            .stdin(Stdio::null())
            .stderr(File::create(path("log")).unwrap())
            .spawn()
            .unwrap();
        let mut sshd = Self { folder, child, user, port };
        let listens = wait_for(|| {
            let has_ended = sshd.child.try_wait().unwrap().is_some();
            has_ended.then_some(false).or(sshd.log().contains("Server listening").then_some(true))
        });
        assert!(listens.is_some(), "sshd does not listen:\n{}", sshd.log());
        (listens == Some(true)).then_some(sshd)
    }

    /// The client, with this machine as the other one, where the server listens on `socket`.
    pub(crate) fn client(&self, socket: &Path) -> Command {
        let mut command = self.client_of(&format!("ssh://{}@127.0.0.1:{}", self.user, self.port));
        command.arg("--socket").arg(socket);
        command
    }

    /// The client, with any other machine.
    pub(crate) fn client_of(&self, url: &str) -> Command {
        let mut folders = vec![self.path("bin")];
        folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        let mut command = Command::new(binary("kakehi"));
        command
            .args(["--host", url])
            .stdin(Stdio::null())
            .env("PATH", std::env::join_paths(folders).unwrap())
            .env("SSH_CONFIG", self.path("ssh_config.user"))
            .env("KAKEHI_REMOTE_CLIENT", binary("kakehi"))
            .env_remove("KAKEHI_SOCKET");
        command
    }

    /// A file of this sshd's.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// It starts itself anew for each connection, so that its path must be absolute.
fn program() -> PathBuf {
    in_sbin().unwrap_or_else(|| in_path("sshd"))
}

/// Where the PATH of most users does not lead.
fn in_sbin() -> Option<PathBuf> {
    let folders = ["/usr/sbin", "/usr/local/sbin", "/sbin"];
    folders.into_iter().map(|folder| Path::new(folder).join("sshd")).find(|path| path.is_file())
}

fn in_path(name: &str) -> PathBuf {
    let folders = std::env::var_os("PATH").unwrap();
    let mut paths = std::env::split_paths(&folders).map(|folder| folder.join(name));
    paths.find(|path| path.is_file()).unwrap()
}

fn generate_key(path: &Path) {
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(path)
        .status()
        .unwrap();
    assert!(status.success());
}

/// An ssh with the test's settings, which this user's are not to change.
fn wrap_ssh(folder: &Path) {
    let script =
        format!("#!/bin/sh\nexec {} -F \"$SSH_CONFIG\" \"$@\"\n", in_path("ssh").display());
    fs::create_dir(folder).unwrap();
    // By another process, so that no fork of this one holds it open for writing when it is run.
    let write = "printf %s \"$1\" > \"$0\"";
    let status =
        Command::new("/bin/sh").args(["-c", write]).arg(folder.join("ssh")).arg(script).status();
    assert!(status.unwrap().success());
    fs::set_permissions(folder.join("ssh"), Permissions::from_mode(0o755)).unwrap();
}

/// Free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn stdout_of(command: &mut Command) -> String {
    String::from_utf8(command.output().unwrap().stdout).unwrap().trim().to_owned()
}

//! A server inside the client, for who has none.

use std::{
    fs::Permissions,
    future::IntoFuture,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use kakehi_server::{Socket, demo::Demo, serve};
use tempfile::TempDir;

use super::{exit, failure::Failure};

/// It ends with the runtime, and its folder when this is dropped.
#[derive(Debug)]
pub(crate) struct Embedded {
    _folder: TempDir,
    path: PathBuf,
}

impl Embedded {
    /// Listens in a folder of its own, which nobody else can enter.
    pub(crate) fn start() -> Result<Self, Failure> {
        let folder = tempfile::Builder::new()
            .prefix("kakehi-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .map_err(|error| failure(&error.to_string()))?;
        let path = folder.path().join("demo.sock");
        let socket = Socket::bind(&path).listen().map_err(|error| failure(&error.to_string()))?;
        tokio::spawn(serve(socket, Demo).into_future());
        Ok(Self { _folder: folder, path })
    }

    /// Where it listens.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn failure(why: &str) -> Failure {
    let remedy = "set TMPDIR to a folder that you can write to, or start a server yourself";
    let what = "cannot start a server in this process";
    Failure::unsent(exit::NOT_RUNNING, "not_running", [what, why, remedy])
}

//! The daemon: `cached [--socket PATH]`.

use std::{error::Error, io::IsTerminal, path::PathBuf};

use cache::{SOCKET, daemon};
use clap::Parser;
use kakehi::server::{Access, Handle, Socket, serve};
use tokio::signal::unix::{SignalKind, signal};

/// A cache with a control socket.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = SOCKET)]
    socket: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let stderr = std::io::stderr;
    tracing_subscriber::fmt().with_ansi(stderr().is_terminal()).with_writer(stderr).init();
    let Arguments { socket } = Arguments::parse();
    let handle = Handle::default();
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = Socket::bind(&socket).create_parent().mode(0o666).listen()?;
    tracing::info!(socket = %socket.display(), "listening");
    serve(listener, daemon::router(daemon::Cache::new(handle.clone())))
        .access(Access { everybody: true, ..Access::default() })
        .handle(&handle)
        .shutdown(async move { terminate.recv().await })
        .await;
    Ok(())
}

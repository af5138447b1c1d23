//! The server's life: from its socket to its end, by signals.

use std::{
    convert::Infallible, error::Error, fs, os::unix::fs::PermissionsExt, path::Path, pin::pin,
    sync::Arc,
};

use kakehi_server::{Access, Handle, Limits, Socket, serve};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
};
use tracing::{error, info, warn};

use crate::{arguments::Arguments, jobs::Service, systemd};

/// How the server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Drained,
    /// By the second of two signals, which has this number.
    AtOnce(u8),
}

/// Serves until it is told to end.
///
/// # Errors
/// When there is nothing to listen on, or the jobs file is wrong.
pub(crate) async fn run(arguments: Arguments) -> Result<End, Box<dyn Error>> {
    // First of all: it takes variables away, before there are threads that may read them.
    let activated = Socket::from_systemd()?;
    let mut ends = Ends::new()?;
    let hangup = signal(SignalKind::hangup())?;

    let handle = Handle::default();
    let access = match arguments.jobs {
        // Its jobs say who may do what, and may say something else tomorrow.
        Some(_) => Access::everybody(),
        None => Access::default(),
    };
    let service = tokio::select! {
        service = Service::new(arguments.jobs.clone(), &handle) => service,
        number = ends.next() => return Ok(End::AtOnce(number)),
    };
    let service = service.map_err(|problems| {
        log(&problems);
        "the jobs file is wrong"
    })?;
    let socket = match activated {
        Some(socket) => socket,
        None => listen(&arguments)?,
    };
    info!(path = ?socket.path(), "listening");

    let drain = Arc::new(Notify::new());
    let shutdown = Arc::clone(&drain);
    let mut serving = serve(socket, service.clone())
        .access(access)
        .limits(Limits::from(arguments.limits))
        .drain(arguments.drain)
        .handle(&handle)
        .shutdown(async move { shutdown.notified().await })
        .into_future();
    let mut reloading = pin!(reload(&service, hangup));
    let mut watchdog = pin!(systemd::keep_alive());
    let mut signalled = false;
    systemd::ready();
    loop {
        let signal = tokio::select! {
            () = &mut serving => return Ok(End::Drained),
            never = &mut reloading => match never {},
            never = &mut watchdog => match never {},
            () = service.stopped() => None,
            number = ends.next() => Some(number),
        };
        if let Some(number) = signal
            && std::mem::replace(&mut signalled, true)
        {
            warn!("ending at once");
            service.kill_all();
            return Ok(End::AtOnce(number));
        }
        systemd::stopping();
        drain.notify_one();
    }
}

/// SIGTERM and SIGINT.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

impl Ends {
    fn new() -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one; says its number. Cancel safe.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.terminate.recv() => 15,
            _ = self.interrupt.recv() => 2,
        }
    }
}

fn listen(arguments: &Arguments) -> Result<Socket, Box<dyn Error>> {
    let bind = match &arguments.socket {
        Some(path) => Socket::bind(path),
        // Its folder is ours alone.
        None => Socket::bind(kakehi_channel::default_socket()?).create_parent(),
    };
    let bind = bind.mode(arguments.mode);
    let socket = match arguments.group {
        Some(gid) => bind.group(gid).listen(),
        None => bind.listen(),
    }?;
    warn_of_the_unreachable(arguments, &socket);
    Ok(socket)
}

/// Who was let in by `--mode` or `--group`, and cannot come in nevertheless.
fn warn_of_the_unreachable(arguments: &Arguments, socket: &Socket) {
    const GROUP: u32 = 0o020;
    const OTHERS: u32 = 0o022;
    const SEARCH: u32 = 0o011;
    if arguments.group.is_some() && arguments.mode & GROUP == 0 {
        warn!("--group alone admits nobody: give --mode 660, too");
    }
    let Some(folder) = socket.path().and_then(Path::parent) else { return };
    let Ok(metadata) = fs::metadata(folder) else { return };
    if arguments.mode & OTHERS != 0 && metadata.permissions().mode() & SEARCH == 0 {
        warn!(
            ?folder,
            "others may use the socket, and cannot reach it: they may not search its folder \
             (chmod g+x or o+x), or give --socket in one that they may",
        );
    }
}

/// Reads the jobs file again at each SIGHUP, for ever.
async fn reload(service: &Service, mut hangup: Signal) -> Infallible {
    loop {
        hangup.recv().await;
        systemd::reloading();
        match service.reload().await {
            Ok(jobs) => info!(jobs, "read the jobs file again"),
            Err(problems) => {
                log(&problems);
                error!("the jobs stay as they were");
            }
        }
        systemd::ready();
    }
}

fn log(problems: &[String]) {
    for problem in problems {
        error!("{problem}");
    }
}

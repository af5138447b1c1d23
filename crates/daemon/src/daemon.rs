//! The daemon from its start to its shutdown.

use std::{
    convert::Infallible,
    error::Error,
    fs::{self, DirBuilder, Permissions},
    os::unix::fs::{DirBuilderExt, PermissionsExt, chown},
    path::Path,
    pin::pin,
    time::Duration,
};

use kakehi_server::{Access, Handle, Limits, Socket, serve};
use kakehi_time::duration;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    arguments::Arguments,
    fleet,
    jobs::{Bounds, FleetFile, KILL_AFTER, Service, Settings, StartError, load_fleet},
    systemd,
};

/// How long killed processes, and the last responses, may take after the drain and [`KILL_AFTER`].
const LAST_RESPONSES: Duration = Duration::from_secs(2);

/// How the daemon shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Drained,
    /// By a second signal, which has this number.
    AtOnce(u8),
}

/// Serves until a signal or a `stop` command.
///
/// # Errors
/// If the socket cannot be opened, or the jobs file is wrong.
pub(crate) async fn run(arguments: Arguments) -> Result<End, Box<dyn Error>> {
    // Comes first: it removes environment variables, which is only safe before threads start.
    let activated = Socket::from_systemd()?;
    let mut ends = Ends::new()?;
    let hangup = signal(SignalKind::hangup())?;

    let handle = Handle::default();
    let access = match arguments.jobs {
        // Each job declares its callers, and a reload can change them.
        Some(_) => Access { everybody: true, ..Access::default() },
        None => Access::default(),
    };
    let service = tokio::select! {
        service = service(&arguments, &handle) => service?,
        number = ends.next() => return Ok(End::AtOnce(number)),
    };
    // Read before a client can connect, and change the file.
    let fleet = fleet_of(arguments.jobs.as_deref())?;
    let socket = match activated {
        Some(socket) => socket,
        None => listen(&arguments)?,
    };
    info!(path = ?socket.path(), "listening");

    let limits = Limits::from(arguments.limits);
    let (draining, drained) = (CancellationToken::new(), CancellationToken::new());
    let start = |file| {
        let (state, limits, draining) =
            (arguments.state.as_deref(), limits.clone(), draining.clone());
        fleet::start(file, state, &service, limits, &handle, draining)
    };
    let fleet = fleet.map(start).transpose()?;
    let mut serving = serve(socket, service.clone())
        .access(access)
        .limits(Limits { drain_time: LAST_RESPONSES, ..limits })
        .handle(&handle)
        .shutdown(drained.clone().cancelled_owned())
        .into_future();
    let mut reloading = pin!(reload(&service, hangup));
    let mut watchdog = pin!(systemd::keep_alive());
    let mut ending = pin!(end_runs(&service, &draining, &drained, arguments.drain));
    let mut signalled = false;
    systemd::ready();
    loop {
        let signal = tokio::select! {
            () = &mut serving => {
                if let Some(node) = fleet {
                    let _ = timeout(2 * LAST_RESPONSES, node).await;
                }
                service.close();
                return Ok(End::Drained);
            }
            never = &mut reloading => match never {},
            never = &mut watchdog => match never {},
            never = &mut ending => match never {},
            () = service.stopped() => None,
            number = ends.next() => Some(number),
        };
        if let Some(number) = signal
            && std::mem::replace(&mut signalled, true)
        {
            warn!("second signal: killing all runs");
            service.kill_all();
            service.close();
            return Ok(End::AtOnce(number));
        }
        systemd::stopping();
        draining.cancel();
    }
}

async fn service(arguments: &Arguments, handle: &Handle) -> Result<Service, Box<dyn Error>> {
    let settings = Settings {
        jobs: arguments.jobs.clone(),
        state: arguments.state.clone(),
        demo: arguments.demo,
        bounds: Bounds::from(&arguments.limits),
    };
    Service::new(settings, handle).await.map_err(|error| match error {
        StartError::Jobs(problems) => {
            log(&problems);
            "the jobs file is wrong".into()
        }
        StartError::Store(error) => error.into(),
        StartError::System(error) => {
            format!("cannot become the parent of jobs' processes: {error}").into()
        }
    })
}

/// The table `[fleet]` of the jobs file, if it has one.
fn fleet_of(jobs: Option<&Path>) -> Result<Option<FleetFile>, Box<dyn Error>> {
    let Some(jobs) = jobs else { return Ok(None) };
    load_fleet(jobs).map_err(|problems| {
        log(&problems);
        "the jobs file is wrong".into()
    })
}

/// Ends the runs when `draining` is cancelled. Runs may go on for `drain`, then they get SIGTERM, and
/// after [`KILL_AFTER`] SIGKILL. Their clients get the output up to then and a final response.
/// Meanwhile, the daemon still answers commands such as `status` and `cancel`.
async fn end_runs(
    service: &Service,
    draining: &CancellationToken,
    drained: &CancellationToken,
    drain: Duration,
) -> Infallible {
    draining.cancelled().await;
    service.drain();
    if timeout(drain, service.drained()).await.is_err() {
        warn!("ending the runs that are left after the drain of {}", duration(drain));
        service.end_runs();
        let _ = timeout(KILL_AFTER + LAST_RESPONSES, service.drained()).await;
    }
    drained.cancel();
    std::future::pending().await
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

    /// Waits for the next one and returns its number. Cancel safe.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.terminate.recv() => 15,
            _ = self.interrupt.recv() => 2,
        }
    }
}

fn listen(arguments: &Arguments) -> Result<Socket, Box<dyn Error>> {
    let bind = match &arguments.socket {
        Some(path) => {
            create_folder(path, arguments.group)?;
            Socket::bind(path)
        }
        // The folder belongs to this user alone.
        None => Socket::bind(kakehi_channel::default_socket()?).create_parent(),
    };
    let bind = bind.mode(arguments.mode);
    let socket = match arguments.group {
        Some(gid) => bind.group(gid).listen(),
        None => bind.listen(),
    }?;
    warn_if_unreachable(arguments, &socket);
    Ok(socket)
}

/// Creates the socket's folder for the group of the socket, if its parent exists and it does not.
fn create_folder(socket: &Path, group: Option<u32>) -> std::io::Result<()> {
    const SEARCHABLE_BY_GROUP: u32 = 0o710;
    let Some((gid, folder)) = group.zip(socket.parent()) else { return Ok(()) };
    match DirBuilder::new().mode(SEARCHABLE_BY_GROUP).create(folder) {
        Ok(()) => {
            chown(folder, None, Some(gid))?;
            // The umask may have taken the group's permission.
            fs::set_permissions(folder, Permissions::from_mode(SEARCHABLE_BY_GROUP))
        }
        // The bind reports what is wrong with the path.
        Err(_) => Ok(()),
    }
}

/// Warns if `--mode` or `--group` admit callers that cannot reach the socket.
fn warn_if_unreachable(arguments: &Arguments, socket: &Socket) {
    const GROUP: u32 = 0o020;
    const OTHERS: u32 = 0o022;
    const SEARCH: u32 = 0o011;
    if arguments.group.is_some() && arguments.mode & GROUP == 0 {
        warn!("--group has no effect without --mode 660");
    }
    let Some(folder) = socket.path().and_then(Path::parent) else { return };
    let Ok(metadata) = fs::metadata(folder) else { return };
    if arguments.mode & OTHERS != 0 && metadata.permissions().mode() & SEARCH == 0 {
        warn!(
            ?folder,
            "other users cannot reach the socket: they may not search its folder. Run chmod g+x or \
             o+x on it, or choose another folder by --socket",
        );
    }
}

/// Reloads the jobs at each SIGHUP. Never returns.
async fn reload(service: &Service, mut hangup: Signal) -> Infallible {
    loop {
        hangup.recv().await;
        systemd::reloading();
        match service.reload().await {
            Ok(jobs) => info!(jobs, "reloaded the jobs"),
            Err(problems) => {
                log(&problems);
                error!("not reloaded: the previous jobs stay in use");
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

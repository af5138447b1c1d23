//! `misbehaving SOCKET CONNECTIONS`: a server whose handlers misbehave, for `tests/faults/run` and
//! `tests/faults/attacks`.

use std::{
    env,
    error::Error,
    future::pending,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use kakehi_channel::Request;
use kakehi_server::{Answer, Context, Failure, Handle, Limits, ServerStats, Socket, serve};
use serde::{Serialize, Serializer, ser::Error as _};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};

/// The number of handlers that detached from their client and ran to their end.
static OUTLIVED: AtomicUsize = AtomicUsize::new(0);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let usage = "usage: misbehaving SOCKET CONNECTIONS";
    let path = arguments.next().ok_or(usage)?;
    let connections = arguments.next().ok_or(usage)?.parse()?;
    let limits = Limits {
        connections,
        connections_per_uid: connections,
        drain_time: Duration::from_secs(1),
        ..Limits::default()
    };
    let (handle, mut terminate) = (Handle::default(), signal(SignalKind::terminate())?);
    let known = handle.clone();
    let handler = move |request: Request<String>, context: Context| {
        let handle = known.clone();
        async move { misbehave(request.command.as_deref(), &context, &handle).await }
    };
    serve(Socket::bind(path).listen()?, handler)
        .limits(limits)
        .handle(&handle)
        .shutdown(async move {
            terminate.recv().await;
        })
        .await;
    Ok(())
}

async fn misbehave(
    command: Option<&str>,
    context: &Context,
    handle: &Handle,
) -> Result<Answer<Content>, Failure> {
    match command {
        Some("panic") => panic!("a secret that is not for clients"),
        Some("panic when dropped") => {
            let _bomb = Bomb;
            pending().await
        }
        Some("hang") => pending().await,
        Some("block") => {
            // Blocking the thread is a common mistake in async code.
            thread::sleep(Duration::from_secs(2));
            Ok(Answer::new("blocked").with_content(Content::Nothing))
        }
        Some("flood") => loop {
            context.progress("x".repeat(1000)).await?;
        },
        Some("do not listen") => {
            let _listening = context.cancellation();
            pending().await
        }
        Some("outlive") => {
            context.detach_from_client();
            sleep(Duration::from_millis(500)).await;
            context.progress("is anybody there?").await?;
            OUTLIVED.fetch_add(1, Ordering::SeqCst);
            Ok(Answer::new("outlived").with_content(Content::Nothing))
        }
        Some("speak after the end") => {
            let late = context.clone();
            tokio::spawn(async move {
                sleep(Duration::from_millis(200)).await;
                late.progress("too late").await
            });
            Ok(Answer::new("ended").with_content(Content::Nothing))
        }
        Some("too large") => Ok(Answer::new("x".repeat(17 << 20)).with_content(Content::Nothing)),
        Some("unwritable") => Ok(Answer::new("").with_content(Content::Unwritable)),
        Some("stats") => {
            let outlived = OUTLIVED.load(Ordering::SeqCst);
            Ok(Answer::new("as asked").with_content(Content::Stats(handle.stats(), outlived)))
        }
        _ => Err(Failure::new("no such way to misbehave")),
    }
}

enum Content {
    Nothing,
    Unwritable,
    Stats(ServerStats, usize),
}

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nothing => serializer.serialize_unit(),
            Self::Unwritable => Err(S::Error::custom("it cannot be written")),
            Self::Stats(stats, outlived) => (stats, outlived).serialize(serializer),
        }
    }
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a destructor's secret");
    }
}

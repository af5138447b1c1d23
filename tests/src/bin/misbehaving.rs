//! A server whose handlers misbehave, for `tests/faults/run` and `tests/faults/attacks`:
//! `misbehaving SOCKET CONNECTIONS`.

use std::{
    env,
    error::Error,
    future::pending,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use kakehi_channel::Request;
use kakehi_server::{Answer, Context, Failure, Handle, Limits, Socket, Stats, serve};
use serde::{Serialize, Serializer, ser::Error as _};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};

/// Handlers that went on to their end after their client had left.
static OUTLIVED: AtomicUsize = AtomicUsize::new(0);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let path = arguments.next().ok_or("where is it to listen?")?;
    let connections = arguments.next().ok_or("how many connections?")?.parse()?;
    let limits = Limits { connections, connections_per_uid: connections, ..Limits::default() };
    let (handle, mut terminate) = (Handle::default(), signal(SignalKind::terminate())?);
    let known = handle.clone();
    let handler = move |request: Request<String>, context: Context| {
        let handle = known.clone();
        async move { misbehave(request.command.as_deref(), &context, &handle).await }
    };
    serve(Socket::bind(path).listen()?, handler)
        .limits(limits)
        .handle(&handle)
        .drain(Duration::from_secs(1))
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
            // A mistake in async code, and a common one.
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
            context.outlive_client();
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
    Stats(Stats, usize),
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

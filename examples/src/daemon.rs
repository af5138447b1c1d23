//! The daemon's state and its handlers.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kakehi::Router;
use kakehi::server::{Answer, Context, Failure, Handle, Peer};
use tokio::{sync::broadcast, time::sleep};

use crate::{Change, Drain, Purge, Report, Stats, Step, Warm, Watch};

/// The state of all commands.
pub type Shared = Arc<Cache>;

/// The keys in memory.
#[derive(Debug)]
pub struct Cache {
    keys: Mutex<BTreeSet<String>>,
    changes: broadcast::Sender<Change>,
    handle: Handle,
}

impl Cache {
    /// An empty cache. `handle` is that of its server.
    #[must_use]
    pub fn new(handle: Handle) -> Shared {
        Arc::new(Self { keys: Mutex::default(), changes: broadcast::channel(256).0, handle })
    }

    fn keys(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: Change) {
        match &change {
            Change::Loaded(key) => self.keys().insert(key.clone()),
            Change::Removed(key) => self.keys().remove(key),
        };
        // Without a watcher, a change goes nowhere.
        let _ = self.changes.send(change);
    }
}

/// All commands of the daemon.
pub fn router(cache: Shared) -> Router<Shared> {
    Router::new(cache)
        .command(warm)
        .command(watch)
        .command(stats)
        .command_if(root, purge)
        .command_if(root, drain)
        .describe("cached", env!("CARGO_PKG_VERSION"))
}

fn root(Peer { uid, .. }: Peer) -> Result<(), String> {
    if uid == 0 { Ok(()) } else { Err(format!("uid {uid} is not root")) }
}

async fn warm(cache: Shared, warm: Warm, context: Context<Step>) -> Reported {
    let total = warm.limit.unwrap_or(5);
    for done in 0..total {
        let key = format!("{}{done}", warm.prefix);
        context.progress_with(&key, &Step { done, total }).await?;
        sleep(Duration::from_millis(200)).await;
        cache.change(Change::Loaded(key));
    }
    Ok(report("loaded", total as usize))
}

/// Ends when the server does. When the client disconnects, the future is dropped.
async fn watch(cache: Shared, watch: Watch, context: Context<Change>) -> Result<(), Failure> {
    let mut changes = cache.changes.subscribe();
    let draining = context.server().draining();
    while let Some(change) = draining.run_until_cancelled(changes.recv()).await {
        let change = change?;
        let (Change::Loaded(key) | Change::Removed(key)) = &change;
        if key.starts_with(&watch.prefix) {
            context.progress_with(format!("{change:?}"), &change).await?;
        }
    }
    Ok(())
}

async fn purge(cache: Shared, purge: Purge, _: Context<()>) -> Reported {
    let found = |key: &&String| key.starts_with(&purge.prefix);
    let keys: Vec<String> = cache.keys().iter().filter(found).cloned().collect();
    keys.iter().cloned().map(Change::Removed).for_each(|change| cache.change(change));
    Ok(report("removed", keys.len()))
}

async fn stats(cache: Shared, _: Stats, _: Context<()>) -> Reported {
    Ok(report("in memory", cache.keys().len()))
}

async fn drain(cache: Shared, _: Drain, _: Context<()>) -> Result<&'static str, Failure> {
    cache.handle.shutdown();
    Ok("draining")
}

/// How many keys there are, with a message.
type Reported = Result<Answer<Report>, Failure>;

fn report(what: &str, keys: usize) -> Answer<Report> {
    Answer::new(format!("{keys} keys {what}")).with_content(Report { keys })
}

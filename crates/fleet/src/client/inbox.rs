//! The client's inbox: one subscription for all of its requests.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{Message, Subject};
use futures::StreamExt;
use tokio::{sync::mpsc, task::AbortHandle};
use tracing::debug;

use crate::{
    FleetError,
    broker::Connection,
    early::Early,
    link::Messages,
    message::{Control, ControlKind},
    names::decimal,
};

/// Less than each wait of a request.
const EARLY: Duration = Duration::from_millis(500);

/// The subscription, and whom its messages are for.
#[derive(Debug)]
pub(crate) struct Inbox {
    prefix: String,
    routes: Arc<Routes>,
    last_number: AtomicU64,
    task: AbortHandle,
}

/// A queue of boxes is a hundred bytes instead of 6 KiB, the room for 32 messages.
#[derive(Debug, Default)]
struct Routes(Mutex<HashMap<u64, mpsc::Sender<Box<Message>>>>);

/// One request's part of the inbox; left when dropped.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) subject: Subject,
    pub(crate) messages: mpsc::Receiver<Box<Message>>,
    number: u64,
    routes: Arc<Routes>,
}

impl Inbox {
    pub(crate) async fn open(connection: &Connection) -> Result<Self, FleetError> {
        let prefix = connection.link.new_inbox();
        let subscribed = connection.link.subscribe(format!("{prefix}.*"), None).await;
        let messages = subscribed.map_err(|error| FleetError::subscribe(&error))?;
        let routes = Arc::new(Routes::default());
        let reading = read(messages, Arc::clone(&routes), connection.clone());
        let task = tokio::spawn(reading).abort_handle();
        Ok(Self { prefix, routes, last_number: AtomicU64::new(0), task })
    }

    /// Makes room for `capacity` messages of one request.
    pub(crate) fn route(&self, capacity: usize) -> Route {
        let number = self.last_number.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, messages) = mpsc::channel(capacity);
        self.routes.lock().insert(number, sender);
        let subject = format!("{}.{number}", self.prefix).into();
        Route { subject, messages, number, routes: Arc::clone(&self.routes) }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        self.routes.lock().remove(&self.number);
    }
}

impl Routes {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, mpsc::Sender<Box<Message>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read(mut messages: Messages, routes: Arc<Routes>, connection: Connection) {
    let mut early = Early::new(EARLY);
    loop {
        let message = tokio::select! {
            biased;
            message = messages.next() => message,
            () = early.due(), if early.is_set() => continue,
        };
        let Some(message) = message else { return };
        early.came();
        let number = message.subject.rsplit('.').next().and_then(decimal);
        let route = number.and_then(|number| routes.lock().get(&number).cloned());
        match route {
            // One that does not fit is a gap, which is filled.
            Some(route) => {
                if route.try_send(Box::new(message)).is_err() {
                    debug!(number, "too many messages of one request");
                }
            }
            None => cancel(&connection, &message).await,
        }
    }
}

/// A node that still sends to a request that is over learns it, instead of waiting.
async fn cancel(connection: &Connection, message: &Message) {
    let control = format!("{}.ctl.", connection.subjects.prefix());
    let Some(reply) = message.reply.as_ref().filter(|reply| reply.starts_with(&control)) else {
        return;
    };
    let cancel = Control { kind: ControlKind::Cancel, ..Control::default() };
    let sent = connection.publish(reply.clone(), None, cancel.write(), "".into()).await;
    if let Err(error) = sent {
        debug!(%error, "cannot cancel");
    }
}

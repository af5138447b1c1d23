//! The endless subscription to what happens in a Sōzu.

use std::{
    fmt,
    future::poll_fn,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{FutureExt, Stream, StreamExt, future::BoxFuture, stream::FusedStream};
use kakehi_client::Client;
use tokio::time::{Instant, Sleep, sleep};
use tracing::debug;

use crate::{
    Error, Request, Response, Responses, Wire,
    command::{
        Event, EventKind, SubscribeEvents, request::RequestType, response_content::ContentType,
    },
};

/// How long it waits between two tries to subscribe.
const PAUSE: Duration = Duration::from_millis(100);

/// What a subscription tells.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice {
    /// Sōzu confirmed the first subscription: what happens from here on is told.
    Subscribed,
    /// Something happened. Sōzu tells some things twice, such as `AddCluster`.
    Event(Event),
    /// The subscription ended, or could not be made: Sōzu stopped, was restarted or upgraded, or
    /// closed the connection since nobody read from it. It is made again; until then, nothing is
    /// told of what happens. Said once, however often it fails.
    Lost(Error),
    /// Sōzu ended the subscription by a final response. It is made again, as after
    /// [`Lost`](Self::Lost).
    Ended(Response),
    /// Sōzu confirmed another subscription. What happened since the one before was lost, so long
    /// ago, was not told, and nor was what was on its way then: ask for what must be known.
    Gap(Duration),
    /// A message came that is not understood here: one of another version. The error has its
    /// bytes. What comes next is told as usual.
    Malformed(Error),
}

/// The events of a Sōzu, as a stream that never ends: it subscribes when it is first polled, and
/// subscribes again whenever that was lost, and then says that there was a [gap](Notice::Gap).
///
/// It has a connection of its own, which is none of the client's pool. Read from it: Sōzu closes
/// the connection of a subscriber for whom more than its `max_command_buffer_size` waits.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use kakehi_sozu::{Notice, Sozu};
///
/// let mut events = Sozu::builder("/nowhere").build().events();
/// let Notice::Lost(error) = events.next().await else { panic!("there is no Sōzu") };
/// assert!(error.is_unconnected());
/// # }
/// ```
#[must_use = "nothing is subscribed to unless it is polled"]
pub struct Events {
    client: Client<Request, Response, Wire>,
    /// How long Sōzu may take to confirm a subscription.
    patience: Option<Duration>,
    state: State,
    /// It was confirmed once.
    is_known: bool,
    /// Since when nothing is told; a loss is told once.
    lost: Option<Instant>,
    /// What came in the place of a confirmation.
    early: Option<Event>,
}

enum State {
    Pausing(Pin<Box<Sleep>>),
    Asking(BoxFuture<'static, Result<Responses, Error>>),
    Following {
        responses: Box<Responses>,
        /// Sōzu has said that it tells what happens.
        is_confirmed: bool,
    },
}

impl Events {
    pub(crate) fn new(client: Client<Request, Response, Wire>, patience: Option<Duration>) -> Self {
        let state = State::Asking(ask(&client, patience));
        Self { client, patience, state, is_known: false, lost: None, early: None }
    }

    /// What is told next.
    ///
    /// # Cancel safety
    /// Cancel safe: dropped while it waits, it has lost nothing.
    pub async fn next(&mut self) -> Notice {
        poll_fn(|cx| self.poll_notice(cx)).await
    }

    fn poll_notice(&mut self, cx: &mut Context<'_>) -> Poll<Notice> {
        loop {
            if let Some(event) = self.early.take() {
                return Poll::Ready(Notice::Event(event));
            }
            let notice = match &mut self.state {
                State::Pausing(pause) => {
                    ready!(pause.as_mut().poll(cx));
                    self.state = State::Asking(ask(&self.client, self.patience));
                    None
                }
                State::Asking(asking) => match ready!(asking.as_mut().poll(cx)) {
                    Ok(responses) => {
                        let responses = Box::new(responses);
                        self.state = State::Following { responses, is_confirmed: false };
                        None
                    }
                    Err(error) => self.lose(Notice::Lost(error)),
                },
                State::Following { responses, .. } => {
                    let item = ready!(responses.poll_next_unpin(cx));
                    self.follow(item)
                }
            };
            if let Some(notice) = notice {
                return Poll::Ready(notice);
            }
        }
    }

    fn follow(&mut self, item: Option<Result<Response, Error>>) -> Option<Notice> {
        let State::Following { responses, is_confirmed } = &mut self.state else { return None };
        match item {
            Some(Ok(response)) if response.status.is_final() => self.lose(Notice::Ended(response)),
            Some(Ok(response)) => {
                let event = match response.content {
                    Some(ContentType::Event(event)) => Some(event),
                    _ => None,
                };
                if mem::replace(is_confirmed, true) {
                    return event.map(Notice::Event);
                }
                self.early = event.filter(|event| event.kind() != EventKind::EventsSubscribed);
                Some(self.confirm())
            }
            Some(Err(error)) if responses.is_terminated() => self.lose(Notice::Lost(error)),
            // Nothing happened for a while: that is no loss.
            Some(Err(error)) if error.is_timeout() && *is_confirmed => None,
            Some(Err(error)) if error.is_timeout() => self.lose(Notice::Lost(error)),
            Some(Err(error)) => Some(Notice::Malformed(error)),
            None => {
                self.pause();
                None
            }
        }
    }

    fn confirm(&mut self) -> Notice {
        let is_again = mem::replace(&mut self.is_known, true);
        match self.lost.take().filter(|_| is_again) {
            Some(since) => Notice::Gap(since.elapsed()),
            None => Notice::Subscribed,
        }
    }

    /// Says `how`, unless a loss was told and nothing was confirmed since.
    fn lose(&mut self, how: Notice) -> Option<Notice> {
        debug!(?how, "a subscription ended");
        self.pause();
        let is_told = self.lost.is_some();
        self.lost.get_or_insert_with(Instant::now);
        (!is_told).then_some(how)
    }

    /// Closes the connection, and waits before the next try.
    fn pause(&mut self) {
        self.state = State::Pausing(Box::pin(sleep(PAUSE)));
    }
}

fn ask(
    client: &Client<Request, Response, Wire>,
    patience: Option<Duration>,
) -> BoxFuture<'static, Result<Responses, Error>> {
    let request = RequestType::SubscribeEvents(SubscribeEvents {});
    client.call(request.into()).timeout(patience).deadline(None).send().boxed()
}

impl Stream for Events {
    type Item = Notice;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Notice>> {
        self.get_mut().poll_notice(cx).map(Some)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Pausing(_) => "pausing",
            State::Asking(_) => "asking",
            State::Following { is_confirmed: false, .. } => "unconfirmed",
            State::Following { .. } => "following",
        };
        f.debug_struct("Events")
            .field("path", &self.client.path())
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

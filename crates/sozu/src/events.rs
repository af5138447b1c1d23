//! The stream of a Sōzu's events.

use std::{
    fmt,
    future::poll_fn,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{FutureExt, Stream, StreamExt, future::BoxFuture, stream::FusedStream};
use kakehi_client::{Client, ErrorKind};
use tokio::time::{Instant, Sleep, sleep};
use tracing::debug;

use crate::{
    Error, Request, Response, Responses, Wire,
    command::{
        Event, EventKind, SubscribeEvents, request::RequestType, response_content::ContentType,
    },
};

/// The pause between two attempts to subscribe.
const PAUSE: Duration = Duration::from_millis(100);

/// An item of [`Events`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice {
    /// Sōzu has confirmed the first subscription. Later events are reported.
    Subscribed,
    /// An event. Sōzu reports some events twice, such as `AddCluster`.
    Event(Event),
    /// The subscription failed or ended: Sōzu stopped, restarted, was upgraded, or closed the
    /// connection of a slow reader. `Events` subscribes again; until then no event is reported.
    /// Repeated failures yield one notice.
    Lost(Error),
    /// Sōzu ended the subscription with a final response. `Events` subscribes again, as after
    /// [`Lost`](Self::Lost).
    Ended(Response),
    /// Sōzu has confirmed a new subscription. Events of this duration since the loss, and events
    /// in transit at the loss, are missing. Query the state to catch up.
    Gap(Duration),
    /// A message could not be decoded, for example because Sōzu has another version. The error has
    /// its bytes. The subscription continues.
    Malformed(Error),
}

/// A stream of a Sōzu's events, which never ends. It subscribes when it is first polled. After a
/// lost subscription, it subscribes again and reports a [gap](Notice::Gap).
///
/// The stream has a connection of its own, outside of the client's pool. Sōzu closes the connection
/// of a subscriber that leaves more than `max_command_buffer_size` bytes unread.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use kakehi_sozu::{ErrorKind, Notice, Sozu};
///
/// let mut events = Sozu::builder("/nowhere").build().events();
/// let Notice::Lost(error) = events.next().await else { panic!("no Sōzu is running") };
/// assert_eq!(error.kind(), ErrorKind::Unconnected);
/// # }
/// ```
#[must_use = "`Events` subscribes only when it is polled"]
pub struct Events {
    client: Client<Request, Response, Wire>,
    /// The timeout for the confirmation of a subscription.
    patience: Option<Duration>,
    state: State,
    /// A subscription was confirmed before.
    is_known: bool,
    /// When the subscription was lost. Set until a new one is confirmed.
    lost: Option<Instant>,
    /// An event that came in place of a confirmation.
    early: Option<Event>,
}

enum State {
    Pausing(Pin<Box<Sleep>>),
    Asking(BoxFuture<'static, Result<Responses, Error>>),
    Following {
        responses: Box<Responses>,
        /// Sōzu has confirmed the subscription.
        is_confirmed: bool,
    },
}

impl Events {
    pub(crate) fn new(client: Client<Request, Response, Wire>, patience: Option<Duration>) -> Self {
        let state = State::Asking(ask(&client, patience));
        Self { client, patience, state, is_known: false, lost: None, early: None }
    }

    /// Returns the next notice.
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped future loses no notice.
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
            // A timeout without events is no loss.
            Some(Err(error)) if error.kind() == ErrorKind::Timeout && *is_confirmed => None,
            Some(Err(error)) if error.kind() == ErrorKind::Timeout => {
                self.lose(Notice::Lost(error))
            }
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

    /// Returns `how`, unless an earlier loss was reported and no subscription was confirmed since.
    fn lose(&mut self, how: Notice) -> Option<Notice> {
        debug!(?how, "a subscription ended");
        self.pause();
        let is_told = self.lost.is_some();
        self.lost.get_or_insert_with(Instant::now);
        (!is_told).then_some(how)
    }

    /// Closes the connection and waits before the next attempt.
    fn pause(&mut self) {
        self.state = State::Pausing(Box::pin(sleep(PAUSE)));
    }
}

fn ask(
    client: &Client<Request, Response, Wire>,
    patience: Option<Duration>,
) -> BoxFuture<'static, Result<Responses, Error>> {
    let request = RequestType::SubscribeEvents(SubscribeEvents {});
    client.message(request.into()).timeout(patience).deadline(None).send().boxed()
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

//! A request of the fleet before it is sent.

use std::{fmt, marker::PhantomData, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use kakehi_channel::{Request, Response, TraceContext};
use kakehi_client::{Error, Outcome, Timeouts};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::sync::mpsc;

use super::{
    Target,
    driver::{Driver, Started, Taken, WINDOW},
    failure::Failure,
    responses::Responses,
};
use crate::{message::HEADERS, node::frame};

/// A request before it is sent. Awaited, it returns the final response; [`send`](Self::send) returns
/// all [`Responses`]. `T` is the type of their content.
#[must_use = "nothing is sent unless it is awaited or `send` is called"]
pub struct RequestBuilder<T = Value> {
    target: Target,
    request: Result<Request<Value>, String>,
    timeouts: Timeouts,
    on_accept: Option<OnAccept>,
    content: PhantomData<fn() -> T>,
}

/// Called with the accept of a request.
pub(super) type OnAccept = Box<dyn Fn(&str) + Send + Sync>;

impl Target {
    /// Begins a request for `command`. It is sent when it is awaited.
    ///
    /// ```no_run
    /// # async fn run(fleet: kakehi_fleet::Fleet) -> Result<(), Box<dyn std::error::Error>> {
    /// let response = fleet.any("role", "web")?.request("reload").await?;
    /// # Ok(()) }
    /// ```
    pub fn request(&self, command: impl Serialize) -> RequestBuilder {
        let command = serde_json::to_value(command).map_err(|error| error.to_string());
        self.begin(command.map(|command| Request::with_command("", command)))
    }

    /// Begins a request with this message. An empty id is filled in; the timeouts are those of the
    /// fleet.
    pub fn message(&self, request: Request) -> RequestBuilder {
        self.begin(Ok(request))
    }

    fn begin(&self, request: Result<Request<Value>, String>) -> RequestBuilder {
        let (target, timeouts) = (self.clone(), self.fleet.timeouts);
        RequestBuilder { target, request, timeouts, on_accept: None, content: PhantomData }
    }
}

impl<T: DeserializeOwned> RequestBuilder<T> {
    /// The request's id; by default one that no other request has. A node runs each id of a signer
    /// once.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        if let Ok(request) = &mut self.request {
            request.id = id.into();
        }
        self
    }

    /// The trace that the request belongs to.
    pub fn trace(mut self, trace: impl Into<Option<TraceContext>>) -> Self {
        if let Ok(request) = &mut self.request {
            request.trace = trace.into();
        }
        self
    }

    /// How long to wait for each response. Zero or `None` is without limit.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeouts.timeout = timeout.into().filter(|time| !time.is_zero());
        self
    }

    /// How long to wait for the final response. Zero or `None` is without limit.
    pub fn deadline(mut self, deadline: impl Into<Option<Duration>>) -> Self {
        self.timeouts.deadline = deadline.into().filter(|time| !time.is_zero());
        self
    }

    /// Calls `call` with the value of [`Responses::accept`], before the client sends GO, which
    /// starts the request. Without that call, the request was not started. `call` must not block
    /// for long.
    pub fn on_accept(mut self, call: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.on_accept = Some(Box::new(call));
        self
    }

    /// Decodes the content of responses as `Content`.
    pub fn typed<Content: DeserializeOwned>(self) -> RequestBuilder<Content> {
        let Self { target, request, timeouts, on_accept, .. } = self;
        RequestBuilder { target, request, timeouts, on_accept, content: PhantomData }
    }

    /// Sends the request.
    ///
    /// # Errors
    /// The command cannot be encoded or is over the broker's largest message, or the broker is not
    /// connected: in each case nothing was sent.
    ///
    /// # Cancel safety
    /// Cancel safe: the request is sent or not.
    pub async fn send(self) -> Result<Responses<T>, Error<Response<T>>> {
        let Self { target: Target { fleet, asked }, request, timeouts, on_accept, .. } = self;
        let not_sent = |message| Failure::Transport(Outcome::NotSent, message);
        let mut request = request.map_err(|error| not_sent(error).into_error(""))?;
        let shared = &fleet.shared;
        if request.id.is_empty() {
            request.id = shared.connection.unique();
        }
        let id = request.id.clone();
        let failed = |message| Err(not_sent(message).into_error(&id));
        request.timeout_ms = timeouts.timeout.map(milliseconds);
        request.deadline_ms = timeouts.deadline.map(milliseconds);
        let payload = frame(&request);
        let most = shared.connection.link.max_payload().saturating_sub(HEADERS);
        if payload.len() > most {
            return failed(format!(
                "the request has {} bytes, over {most}, the largest message of the broker",
                payload.len()
            ));
        }
        if !shared.connection.is_connected() {
            return failed("the broker is not connected".to_owned());
        }
        let Ok(permit) = Arc::clone(&shared.under_way).acquire_owned().await else {
            return failed("the fleet is closed".to_owned());
        };
        let capacity = usize::try_from(2 * WINDOW).unwrap_or(usize::MAX);
        let (sender, items) = mpsc::channel(capacity);
        let (taken, started) = (Arc::new(Taken::default()), Arc::new(Started::default()));
        let driver = Driver {
            shared: Arc::clone(shared),
            asked,
            id: id.clone(),
            payload,
            timeouts,
            route: shared.inbox.route(2 * capacity),
            items: sender,
            taken: Arc::clone(&taken),
            started: Arc::clone(&started),
            on_accept,
            control: None,
        };
        tokio::spawn(async move {
            driver.run().await;
            drop(permit);
        });
        Ok(Responses {
            id,
            items,
            taken,
            started,
            frames: Bytes::new(),
            received: None,
            must_yield: false,
            is_over: false,
            is_complete: true,
            content: PhantomData,
        })
    }
}

impl<T: DeserializeOwned + Send + 'static> IntoFuture for RequestBuilder<T> {
    type Output = Result<Response<T>, Error<Response<T>>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    /// # Cancel safety
    /// Dropped, it cancels the request.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async { self.send().await?.last().await })
    }
}

impl<T> fmt::Debug for RequestBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBuilder")
            .field("asked", &self.target.asked)
            .field("timeouts", &self.timeouts)
            .finish_non_exhaustive()
    }
}

/// Rounded up: 0 on the wire means without limit.
fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX).max(1)
}

//! The responses to one request of the fleet.

use std::{
    fmt,
    marker::PhantomData,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use futures::{Stream, StreamExt};
use kakehi_channel::{Decode, Json, Response, ResponseMessage, Status};
use kakehi_client::{Error, Outcome};
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, time::timeout};

use super::{
    driver::{Item, Started, Taken},
    failure::Failure,
};

/// The responses to one request: a stream that ends after the final one.
///
/// An ERROR is an item like any other. Keep-alives are not shown. Dropped before its end, it
/// cancels the request.
#[must_use = "dropped, it cancels the request"]
pub struct Responses<T = serde_json::Value> {
    pub(super) id: String,
    pub(super) items: mpsc::Receiver<Item>,
    pub(super) taken: Arc<Taken>,
    pub(super) started: Arc<Started>,
    pub(super) frames: Bytes,
    /// Received by [`accepted`](Self::accepted), and not yet looked at.
    pub(super) received: Option<Item>,
    /// A batch was taken, and other tasks have not run since.
    pub(super) must_yield: bool,
    pub(super) is_over: bool,
    pub(super) is_complete: bool,
    pub(super) content: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Responses<T> {
    /// The request's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The node, its process and the number of the request there, `NODE.EPOCH.N`: what
    /// [`Fleet::settle`](crate::Fleet::settle) takes. `None`: no node has accepted the request yet.
    #[must_use]
    pub fn accept(&self) -> Option<&str> {
        self.started.accept.get().map(String::as_str)
    }

    /// Waits until a node has accepted the request and the client has sent GO, which starts it.
    /// Returns the value of [`accept`](Self::accept). `None`: the request ended before.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn accepted(&mut self) -> Option<String> {
        if self.accept().is_none() && self.received.is_none() && !self.is_over {
            tokio::select! {
                biased;
                () = self.started.changed.notified() => {}
                item = self.items.recv() => self.received = item,
            }
        }
        self.accept().map(str::to_owned)
    }

    /// Whether all progress arrived. `false`: the node was lost, and only the final response was
    /// found afterwards.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The next response; `None` after the final one, and after an error.
    ///
    /// # Errors
    /// As a request of `kakehi-client`.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Response<T>, Error<Response<T>>>> {
        StreamExt::next(self).await
    }

    /// Waits for the next response for at most `patience`; `None` after the final one.
    ///
    /// # Errors
    /// As [`next`](Self::next), and a timeout. The request goes on then.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn next_within(
        &mut self,
        patience: Duration,
    ) -> Result<Option<Response<T>>, Error<Response<T>>> {
        match timeout(patience, StreamExt::next(self)).await {
            Ok(next) => next.transpose(),
            Err(_) => Err(Error::expired(Outcome::Unknown, patience, false)),
        }
    }

    /// Skips progress and returns the final response.
    ///
    /// # Errors
    /// As a request of `kakehi-client`: an ERROR is an error, too.
    pub async fn last(mut self) -> Result<Response<T>, Error<Response<T>>> {
        while let Some(response) = self.next().await.transpose()? {
            match response.status {
                Status::Processing => {}
                Status::Ok => return Ok(response),
                Status::Error => return Err(Error::answered(response)),
            }
        }
        Err(self.lost())
    }

    fn lost(&self) -> Error<Response<T>> {
        let message = "the connection to the broker is closed".to_owned();
        let is_started = self.started.accept.get().is_some();
        let outcome = if is_started { Outcome::Unknown } else { Outcome::NotSent };
        Failure::Transport(outcome, message).into_error(&self.id)
    }

    /// The next of the frames that came. Each is ended by NUL.
    fn next_frame(&mut self) -> Option<Next<T>> {
        if self.frames.is_empty() {
            return None;
        }
        let end = memchr::memchr(0, &self.frames).unwrap_or(self.frames.len());
        let decoded = self.decode(self.frames.get(..end).unwrap_or_default());
        self.frames.advance((end + 1).min(self.frames.len()));
        if self.frames.is_empty() {
            self.taken.add_one();
            self.must_yield = true;
        }
        Some(decoded)
    }

    /// Decodes a frame, or at least its envelope: an outcome counts, whatever its content is.
    fn decode(&self, frame: &[u8]) -> Next<T> {
        let (response, unknown) = match Json::default().decode(frame) {
            Ok(response) => (response, None),
            Err(error) => match Response::envelope(frame) {
                Some(response) => (response, Some(error.with_payload(frame))),
                None => return Err(error.with_payload(frame).into()),
            },
        };
        // A server that could not read the request does not know its id.
        let is_nameless = response.id.is_empty() && response.status == Status::Error;
        if response.id != self.id && !is_nameless {
            let Response { id: found, .. } = response;
            let message = format!("a response to {found:?} came instead of {:?}", self.id);
            return Err(Error::transport(Outcome::Unknown, message));
        }
        match unknown {
            Some(error) if response.status == Status::Ok => Err(Error::unreadable(error, response)),
            // Progress with a content is not a keep-alive, even without a message.
            None if response.is_keep_alive() => Ok(None),
            _ => Ok(Some(response)),
        }
    }
}

/// A response, or nothing to show: a keep-alive.
type Next<T> = Result<Option<Response<T>>, Error<Response<T>>>;

impl<T: DeserializeOwned> Stream for Responses<T> {
    type Item = Result<Response<T>, Error<Response<T>>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if this.is_over {
                return Poll::Ready(None);
            }
            if let Some(next) = this.next_frame() {
                match next {
                    Ok(None) => continue,
                    Ok(Some(response)) => {
                        this.is_over = response.status.is_final();
                        return Poll::Ready(Some(Ok(response)));
                    }
                    Err(error) => {
                        this.close();
                        return Poll::Ready(Some(Err(error)));
                    }
                }
            }
            // On one thread, the node would else get credit only after all batches are read, and it
            // would wait meanwhile.
            if mem::take(&mut this.must_yield) && !this.items.is_empty() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let item = match this.received.take() {
                Some(item) => Some(item),
                None => ready!(this.items.poll_recv(cx)),
            };
            match item {
                Some(Item::Frames(frames)) if frames.is_empty() => this.taken.add_one(),
                Some(Item::Frames(frames)) => this.frames = frames,
                Some(Item::Settled(frames)) => {
                    this.is_complete = false;
                    this.frames = frames;
                }
                Some(Item::Failed(failure)) => {
                    this.close();
                    return Poll::Ready(Some(Err(failure.into_error(&this.id))));
                }
                None => {
                    this.close();
                    return Poll::Ready(Some(Err(this.lost())));
                }
            }
        }
    }
}

impl<T> Responses<T> {
    fn close(&mut self) {
        self.is_over = true;
        self.items.close();
    }
}

impl<T> Unpin for Responses<T> {}

impl<T> fmt::Debug for Responses<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responses")
            .field("id", &self.id)
            .field("accept", &self.started.accept.get())
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use kakehi_client::{ErrorKind, Refusal};

    use super::*;

    const UNKNOWN: &str = r#","content":{"new":["field"]}"#;

    fn frame(id: &str, status: &str, rest: &str) -> String {
        format!(
            r#"{{"id":"{id}","version":0,"status":"{status}","message":""{rest}}}{nul}"#,
            nul = '\0'
        )
    }

    /// The responses to the request `a` of a client that expects numbers.
    fn answered(frames: &[String]) -> Responses<u32> {
        let (to_reader, items) = mpsc::channel(1);
        to_reader.try_send(Item::Frames(frames.concat().into())).unwrap();
        Responses {
            id: "a".to_owned(),
            items,
            taken: Arc::default(),
            started: Arc::default(),
            frames: Bytes::new(),
            received: None,
            must_yield: false,
            is_over: false,
            is_complete: true,
            content: PhantomData,
        }
    }

    #[tokio::test]
    async fn progress_with_unknown_content_is_shown_and_the_request_goes_on() {
        let frames = [
            frame("a", "PROCESSING", UNKNOWN),
            frame("a", "PROCESSING", ""),
            frame("a", "OK", r#","content":7"#),
        ];
        let mut responses = answered(&frames);
        let shown = responses.next().await.unwrap().unwrap();
        assert_eq!((shown.status, shown.content), (Status::Processing, None));
        let last = responses.next().await.unwrap().unwrap();
        assert_eq!((last.status, last.content), (Status::Ok, Some(7)), "no keep-alive is shown");
        assert!(responses.next().await.is_none());
    }

    #[tokio::test]
    async fn other_tasks_run_between_two_batches() {
        let (to_reader, items) = mpsc::channel(2);
        for message in ["1", "2"] {
            let content = format!(r#","content":{message}"#);
            let frames = frame("a", "PROCESSING", &content).into();
            to_reader.try_send(Item::Frames(frames)).unwrap();
        }
        let mut responses = Responses { items, ..answered(&[]) };
        let read = responses.next().now_or_never().unwrap().unwrap().unwrap();
        assert_eq!(read.content, Some(1));
        assert!(responses.next().now_or_never().is_none(), "it yields");
        assert_eq!(responses.next().await.unwrap().unwrap().content, Some(2));
    }

    #[tokio::test]
    async fn an_ok_with_unknown_content_is_done() {
        let frame = frame("a", "OK", UNKNOWN);
        let error = answered(std::slice::from_ref(&frame)).last().await.unwrap_err();
        assert_eq!((error.outcome(), error.kind()), (Outcome::Done, ErrorKind::Content));
        assert_eq!(error.payload(), frame.strip_suffix('\0').map(str::as_bytes));
        assert_eq!(error.response().unwrap().status, Status::Ok);
    }

    #[tokio::test]
    async fn an_error_counts_with_unknown_content_and_without_an_id() {
        let error = answered(&[frame("a", "ERROR", UNKNOWN)]).last().await.unwrap_err();
        assert_eq!((error.outcome(), error.kind()), (Outcome::Failed, ErrorKind::Answered));
        let refused = r#","content":"x","refused":"busy""#;
        let error = answered(&[frame("", "ERROR", refused)]).last().await.unwrap_err();
        assert_eq!((error.outcome(), error.refusal()), (Outcome::Refused, Some(Refusal::Busy)));
    }

    #[tokio::test]
    async fn the_outcome_is_unknown_where_no_envelope_of_the_request_came() {
        for wrong in [frame("b", "OK", ""), frame("", "OK", ""), "{\0".to_owned()] {
            let mut responses = answered(&[wrong, frame("a", "OK", "")]);
            let error = responses.next().await.unwrap().unwrap_err();
            assert_eq!(error.outcome(), Outcome::Unknown);
            assert!(responses.next().await.is_none(), "it ends with an error");
        }
    }
}

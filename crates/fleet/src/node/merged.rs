//! Several subscriptions as one stream.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use async_nats::Message;
use futures::{Stream, StreamExt};

use crate::link::Messages;

/// The messages of several subscriptions, each with the tag of its subscription. It ends with the last
/// subscription. It is smaller than `SelectAll`: a node at rest is little more than its subscriptions.
pub(super) struct Merged<T> {
    subscriptions: Vec<(T, Messages)>,
    /// The position of the next subscription. All have their turn.
    next: usize,
}

impl<T> Merged<T> {
    pub(super) fn push(&mut self, tag: T, messages: Messages) {
        self.subscriptions.reserve_exact(1);
        self.subscriptions.push((tag, messages));
    }

    /// Ends all subscriptions.
    pub(super) fn clear(&mut self) {
        self.subscriptions.clear();
    }
}

impl<T> Default for Merged<T> {
    fn default() -> Self {
        Self { subscriptions: vec![], next: 0 }
    }
}

impl<T: Clone + Unpin> Stream for Merged<T> {
    type Item = (T, Message);

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { subscriptions, next } = self.get_mut();
        let mut pending = 0;
        while pending < subscriptions.len() {
            *next %= subscriptions.len();
            let Some((tag, messages)) = subscriptions.get_mut(*next) else { break };
            match messages.poll_next_unpin(cx) {
                Poll::Ready(Some(message)) => {
                    *next += 1;
                    return Poll::Ready(Some((tag.clone(), message)));
                }
                Poll::Ready(None) => drop(subscriptions.swap_remove(*next)),
                Poll::Pending => {
                    *next += 1;
                    pending += 1;
                }
            }
        }
        if subscriptions.is_empty() { Poll::Ready(None) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use futures::stream;

    use super::*;

    fn message(subject: &str) -> Message {
        Message {
            subject: subject.into(),
            reply: None,
            payload: bytes::Bytes::new(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        }
    }

    fn next(merged: &mut Merged<u8>) -> Poll<Option<(u8, String)>> {
        let next = merged.poll_next_unpin(&mut Context::from_waker(Waker::noop()));
        next.map(|next| next.map(|(tag, message)| (tag, message.subject.to_string())))
    }

    fn item(tag: u8, subject: &str) -> Poll<Option<(u8, String)>> {
        Poll::Ready(Some((tag, subject.to_owned())))
    }

    #[test]
    fn each_subscription_has_its_turn_and_the_last_end_is_the_end() {
        let mut merged = Merged::default();
        merged.push(1, Box::pin(stream::iter([message("a"), message("b"), message("c")])));
        merged.push(2, Box::pin(stream::iter([message("x")])));
        for (tag, subject) in [(1, "a"), (2, "x"), (1, "b"), (1, "c")] {
            assert_eq!(next(&mut merged), item(tag, subject));
        }
        assert_eq!(next(&mut merged), Poll::Ready(None));
    }

    #[test]
    fn a_quiet_subscription_does_not_delay_or_end_the_others() {
        let mut merged = Merged::default();
        merged.push(1, Box::pin(stream::pending()));
        merged.push(2, Box::pin(stream::iter([message("x"), message("y")])));
        assert_eq!(next(&mut merged), item(2, "x"));
        assert_eq!(next(&mut merged), item(2, "y"));
        assert_eq!(next(&mut merged), Poll::Pending, "one subscription is left");
        merged.clear();
        assert_eq!(next(&mut merged), Poll::Ready(None));
    }
}

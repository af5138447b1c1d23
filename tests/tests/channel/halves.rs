//! A channel as a `Sink` and a `Stream`, in two halves and in two tasks.

use std::task::Poll;

use futures::{SinkExt, StreamExt, TryStreamExt};
use kakehi_channel::{Channel, ErrorKind};
use kakehi_tests::wire::poll_once;

use crate::soon;

const MANY: u32 = 1_000;

#[tokio::test]
async fn two_halves_work_in_two_tasks() {
    let (left, right) = Channel::<u32, u32>::pair().unwrap();
    let (mut sending, receiving) = left.split();
    let (echo, requests) = right.split();

    let echoing = tokio::spawn(requests.map_ok(|number| number + 1).forward(echo));
    let received = tokio::spawn(receiving.try_collect::<Vec<_>>());
    for number in 0..MANY {
        soon(sending.feed(number)).await.unwrap();
    }
    soon(sending.close()).await.unwrap();
    soon(echoing).await.unwrap().unwrap();
    let expected: Vec<_> = (1..=MANY).collect();
    assert_eq!(soon(received).await.unwrap().unwrap(), expected);
}

#[tokio::test]
async fn a_waiting_receiver_does_not_hold_up_the_sender() {
    let (left, mut right) = Channel::<u32, u32>::pair().unwrap();
    let (mut sending, mut receiving) = left.split();
    let waiting = tokio::spawn(async move { receiving.next().await });
    tokio::task::yield_now().await;
    sending.send(1).await.unwrap();
    assert_eq!(soon(right.next()).await.unwrap().unwrap(), 1);
    right.send(2).await.unwrap();
    assert_eq!(soon(waiting).await.unwrap().unwrap().unwrap(), 2);
}

#[tokio::test]
async fn closing_the_sending_half_shuts_only_its_direction() {
    let (left, mut right) = Channel::<u32, u32>::pair().unwrap();
    let (mut sending, mut receiving) = left.split();
    sending.send(1).await.unwrap();
    sending.close().await.unwrap();
    assert_eq!(soon(right.next()).await.unwrap().unwrap(), 1);
    assert!(soon(right.next()).await.is_none());
    right.send(2).await.unwrap();
    assert_eq!(soon(receiving.next()).await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn the_connection_ends_with_the_second_half() {
    let (left, mut right) = Channel::<u32, u32>::pair().unwrap();
    let (sending, receiving) = left.split();
    drop(sending);
    assert!(matches!(poll_once(right.next()), Poll::Pending), "one half is left");
    drop(receiving);
    assert!(soon(right.next()).await.is_none());
    assert_eq!(right.send(1).await.unwrap_err().kind(), ErrorKind::Disconnected);
}

#[tokio::test]
async fn two_halves_become_one_channel_again() {
    let (left, mut right) = Channel::<u32, u32>::pair().unwrap();
    let (sending, receiving) = left.split();
    let mut left = sending.reunite(receiving).unwrap();
    left.send(1).await.unwrap();
    assert_eq!(soon(right.next()).await.unwrap().unwrap(), 1);
}

//! Scripted byte streams, payloads of any bytes, and property tests.

use std::{
    collections::VecDeque,
    fmt::Debug,
    future::Future,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use prost::{
    DecodeError, Message,
    bytes::{Buf, BufMut},
    encoding::{DecodeContext, WireType},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The number of cases of each property test.
pub const CASES: u32 = if cfg!(miri) { 16 } else { 1_000 };

/// Runs `test` on [`CASES`] values of `strategy`.
///
/// # Panics
/// If a case fails. Shows the smallest failing case.
pub fn for_all<S: Strategy>(strategy: &S, test: impl Fn(S::Value))
where
    S::Value: Debug,
{
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(strategy, |value| {
        test(value);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// Polls `future` once and drops it.
pub fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Sizes of reads or writes, used in turn and repeated. `true`: the stream is pending once after
/// this one.
pub type Chunks = Vec<(usize, bool)>;

/// A strategy for [`Chunks`] that mixes small and large ones.
pub fn chunks() -> impl Strategy<Value = Chunks> {
    let size = prop_oneof![1..=4_usize, 1..=64_usize, 1..=9_000_usize];
    proptest::collection::vec((size, any::<bool>()), 1..12)
}

/// The behaviour of a [`Script`] for one read.
#[derive(Clone, Debug)]
pub enum Step {
    /// It returns these bytes, in several reads if the reader's buffer is too small.
    Bytes(Vec<u8>),
    /// It is pending once.
    Wait,
    /// It fails.
    Fail(io::ErrorKind),
}

/// A byte stream whose reads follow a script and then return the end. It keeps all written bytes.
#[derive(Debug, Default)]
pub struct Script {
    steps: VecDeque<Step>,
    reads: usize,
    given: usize,
    write_sizes: VecDeque<(usize, bool)>,
    waits: bool,
    written: Vec<u8>,
}

impl Script {
    /// A stream whose reads follow `steps`.
    #[must_use]
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect(), ..Self::default() }
    }

    /// A stream that returns `bytes` in pieces of the sizes in `chunks`.
    #[must_use]
    pub fn cut(mut bytes: &[u8], chunks: &Chunks) -> Self {
        let mut steps = vec![];
        for (size, wait) in chunks.iter().cycle() {
            let (chunk, rest) = bytes.split_at((*size).min(bytes.len()));
            if chunk.is_empty() {
                break;
            }
            steps.push(Step::Bytes(chunk.to_vec()));
            steps.extend(wait.then_some(Step::Wait));
            bytes = rest;
        }
        Self::new(steps)
    }

    /// A stream that accepts pieces of the sizes in `chunks`.
    #[must_use]
    pub fn writable(chunks: Chunks) -> Self {
        Self { write_sizes: chunks.into(), ..Self::default() }
    }

    /// Returns the number of reads.
    #[must_use]
    pub fn reads(&self) -> usize {
        self.reads
    }

    /// Returns the number of bytes read.
    #[must_use]
    pub fn given(&self) -> usize {
        self.given
    }

    /// Returns the written bytes.
    #[must_use]
    pub fn written(&self) -> &[u8] {
        &self.written
    }
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.reads += 1;
        match self.steps.pop_front() {
            Some(Step::Bytes(mut bytes)) => {
                let rest = bytes.split_off(bytes.len().min(buffer.remaining()));
                buffer.put_slice(&bytes);
                self.given += bytes.len();
                if !rest.is_empty() {
                    self.steps.push_front(Step::Bytes(rest));
                }
                Poll::Ready(Ok(()))
            }
            Some(Step::Wait) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Step::Fail(kind)) => Poll::Ready(Err(kind.into())),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if std::mem::take(&mut self.waits) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut count = bytes.len();
        if let Some((size, wait)) = self.write_sizes.pop_front() {
            self.write_sizes.push_back((size, wait));
            self.waits = wait;
            count = count.min(size);
        }
        self.written.extend(bytes.iter().take(count));
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A protobuf message that is its own encoding, so that any payload decodes and encodes unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Raw(pub Vec<u8>);

impl Message for Raw {
    fn encode_raw(&self, target: &mut impl BufMut) {
        target.put_slice(&self.0);
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn merge(&mut self, source: impl Buf) -> Result<(), DecodeError> {
        self.0.put(source);
        Ok(())
    }

    /// Not called, since [`merge`](Message::merge) takes all fields at once.
    fn merge_field(
        &mut self,
        _: u32,
        _: WireType,
        _: &mut impl Buf,
        _: DecodeContext,
    ) -> Result<(), DecodeError> {
        unreachable!("all fields are taken at once")
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

/// Returns `payload` as a frame of the Sōzu format.
#[must_use]
pub fn sozu_frame(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u64 + 8).to_le_bytes(), payload].concat()
}

//! Measures each step of a message: `cargo bench -p kakehi-sozu-format`.
//!
//! A message of a few bytes, one of a usual size and one of a mebibyte, in both formats. The whole
//! way, through sockets and beside others, is in `bench/`.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark that fails is to stop")]

use divan::{Bencher, black_box, counter::BytesCount};
use kakehi_channel::{Decode, Encode, Format, Json, Response, low_level::Buffer};
use kakehi_sozu_format::Sozu;

const SIZES: [usize; 3] = [0, 100, 1 << 20];
const MAX: usize = 4 << 20;

fn main() {
    divan::main();
}

/// A response with a text of so many bytes.
fn response(size: usize) -> Response<()> {
    Response::processing("ID-00000001", "x".repeat(size))
}

#[divan::bench(args = SIZES)]
fn buffer_put_and_consume(bencher: Bencher<'_, '_>, size: usize) {
    let data = vec![b'x'; size];
    let mut buffer = Buffer::new(1024, MAX);
    bencher.counter(BytesCount::new(size)).bench_local(|| {
        buffer.put(black_box(&data)).unwrap();
        buffer.consume(size);
    });
}

#[divan::bench(args = SIZES)]
fn find_json(bencher: Bencher<'_, '_>, size: usize) {
    find::<Json>(bencher, &framed(&mut Json::default(), &response(size)));
}

#[divan::bench(args = SIZES)]
fn find_sozu(bencher: Bencher<'_, '_>, size: usize) {
    find::<Sozu>(bencher, &framed(&mut Sozu, &message(size)));
}

#[divan::bench(args = SIZES)]
fn encode_json(bencher: Bencher<'_, '_>, size: usize) {
    encode::<Json, _>(bencher, size, &response(size));
}

#[divan::bench(args = SIZES)]
fn encode_sozu(bencher: Bencher<'_, '_>, size: usize) {
    encode::<Sozu, _>(bencher, size, &message(size));
}

#[divan::bench(args = SIZES)]
fn decode_json(bencher: Bencher<'_, '_>, size: usize) {
    decode::<Json, Response<()>>(bencher, &framed(&mut Json::default(), &response(size)));
}

#[divan::bench(args = SIZES)]
fn decode_sozu(bencher: Bencher<'_, '_>, size: usize) {
    decode::<Sozu, Message>(bencher, &framed(&mut Sozu, &message(size)));
}

/// The same in protobuf.
#[derive(Clone, PartialEq, prost::Message)]
struct Message {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    message: String,
}

fn message(size: usize) -> Message {
    Message { id: "ID-00000001".into(), message: "x".repeat(size) }
}

fn framed<F: Encode<T>, T>(format: &mut F, message: &T) -> Vec<u8> {
    let mut out = Buffer::new(1024, MAX);
    format.encode_frame(message, &mut out, MAX).unwrap();
    out.data().to_vec()
}

fn find<F: Format + Default>(bencher: Bencher<'_, '_>, frame: &[u8]) {
    bencher
        .counter(BytesCount::new(frame.len()))
        .bench_local(|| F::default().find(black_box(frame), MAX).unwrap().unwrap());
}

fn encode<F: Encode<T> + Default, T>(bencher: Bencher<'_, '_>, size: usize, message: &T) {
    let mut out = Buffer::new(1024, MAX);
    bencher.counter(BytesCount::new(size)).bench_local(|| {
        F::default().encode_frame(black_box(message), &mut out, MAX).unwrap();
        out.consume(out.len());
    });
}

fn decode<F, T>(bencher: Bencher<'_, '_>, frame: &[u8])
where
    F: Decode<T> + Default,
{
    let payload = F::default().find(frame, MAX).unwrap().unwrap().payload;
    bencher.counter(BytesCount::new(frame.len())).bench_local(|| {
        F::default().decode(black_box(frame.get(payload.clone()).unwrap())).unwrap()
    });
}

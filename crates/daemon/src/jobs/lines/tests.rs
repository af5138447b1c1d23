use futures::FutureExt;
use tokio::{
    io::AsyncWriteExt,
    net::unix::pipe::{Receiver, Sender, pipe},
};

use super::*;
use crate::jobs::chunk::{Chunk, Piece, Stream};

fn lines() -> (Sender, Lines<Receiver>) {
    let (sender, receiver) = pipe().unwrap();
    (sender, Lines::new(receiver))
}

fn chunk_of(Cut { bytes, line, part, end }: &Cut<'_>) -> Chunk {
    let stream = Stream::Stdout;
    Chunk {
        number: 0,
        at_ms: 0,
        stream,
        line: *line,
        part: *part,
        end: *end,
        bytes: (*bytes).into(),
    }
}

/// Reads the pieces of the pipe, each as text, line, part, cut and newline.
async fn read(lines: &mut Lines<Receiver>) -> Vec<(String, u64, Option<u32>, bool, bool)> {
    lines.fill().await.unwrap();
    let mut pieces = vec![];
    while let Some(cut) = lines.next() {
        for Piece { bytes, line, part, cut, newline } in chunk_of(&cut).pieces() {
            pieces.push((String::from_utf8_lossy(bytes).into(), line, part, cut, newline));
        }
    }
    pieces
}

fn whole(text: &str, line: u64) -> (String, u64, Option<u32>, bool, bool) {
    (text.to_owned(), line, None, false, true)
}

#[tokio::test]
async fn lines_are_told_as_they_end() {
    let (mut sender, mut lines) = lines();
    sender.write_all(b"one\n\ntwo\r\nth").await.unwrap();
    assert_eq!(read(&mut lines).await, [whole("one", 1), whole("", 2), whole("two\r", 3)],);
    assert!(lines.fill().now_or_never().is_none());
    sender.write_all(b"ree\nrest").await.unwrap();
    assert_eq!(read(&mut lines).await, [whole("three", 4)]);
    drop(sender);
    assert_eq!(read(&mut lines).await, [("rest".to_owned(), 5, None, false, false)]);
    assert!(!lines.is_open());
    assert_eq!(lines.count(), 5);
}

#[tokio::test]
async fn one_read_takes_what_a_command_mostly_says() {
    let (mut sender, mut lines) = lines();
    sender.write_all(&b"x\n".repeat(INITIAL / 2)).await.unwrap();
    assert_eq!(read(&mut lines).await.len(), 4096);
}

#[tokio::test]
async fn a_stream_that_ends_with_a_line_has_no_other() {
    let (mut sender, mut lines) = lines();
    sender.write_all(b"one\n").await.unwrap();
    drop(sender);
    assert_eq!(read(&mut lines).await, [whole("one", 1)]);
    assert_eq!(read(&mut lines).await, []);
    assert_eq!(lines.count(), 1);
}

/// All pieces of `data`, written to a pipe in chunks of several sizes.
async fn pieces(data: &[u8], chunk: usize) -> Vec<(Vec<u8>, u64, Option<u32>, bool, bool)> {
    let (mut sender, mut lines) = lines();
    let owned = data.to_vec();
    let writing = tokio::spawn(async move {
        for chunk in owned.chunks(chunk) {
            sender.write_all(chunk).await.unwrap();
        }
    });
    let mut pieces = vec![];
    while lines.is_open() {
        lines.fill().await.unwrap();
        while let Some(cut) = lines.next() {
            for Piece { bytes, line, part, cut, newline } in chunk_of(&cut).pieces() {
                assert!(bytes.len() <= MAX_PIECE && !bytes.contains(&b'\n'));
                pieces.push((bytes.to_vec(), line, part, cut, newline));
            }
        }
        assert!(lines.buffer.capacity() <= MAX);
    }
    writing.await.unwrap();
    pieces
}

#[tokio::test]
async fn a_line_over_64_kib_is_cut_into_pieces_that_say_so() {
    let exact = [vec![b'x'; MAX_PIECE], b"\n".to_vec()].concat();
    let told = pieces(&exact, 1 << 20).await;
    assert_eq!(told, [(vec![b'x'; MAX_PIECE], 1, None, false, true)]);

    let long = [vec![b'x'; 2 * MAX_PIECE + 1], b"\nnext\n".to_vec()].concat();
    let told = pieces(&long, 1 << 20).await;
    assert_eq!(
        told,
        [
            (vec![b'x'; MAX_PIECE], 1, Some(1), true, false),
            (vec![b'x'; MAX_PIECE], 1, Some(2), true, false),
            (b"x".to_vec(), 1, Some(3), false, true),
            (b"next".to_vec(), 2, None, false, true),
        ],
    );
}

#[tokio::test]
async fn a_cut_spares_characters() {
    let text = "xü€𝄞".repeat(20_000);
    let told = pieces(text.as_bytes(), 1 << 20).await;
    assert!(told.len() > 3);
    for (bytes, ..) in &told {
        assert!(std::str::from_utf8(bytes).is_ok());
        assert!(bytes.len() > MAX_PIECE - 4 || Some(bytes) == told.last().map(|piece| &piece.0));
    }
    let noise = vec![0x80; MAX_PIECE + 10];
    assert_eq!(pieces(&noise, 1 << 20).await[0].0.len(), MAX_PIECE);
}

#[tokio::test]
async fn any_bytes_in_any_chunks_are_restored() {
    let mut state = 7_u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % below
    };
    for case in 0..30 {
        let mut data = vec![];
        for _ in 0..random(20) {
            let length = if random(4) == 0 { random(300_000) } else { random(200) };
            data.extend((0..length).map(|_| u8::try_from(random(256)).unwrap() | 0x20));
            data.extend((random(5) > 0).then_some(b'\n'));
        }
        let chunk = [1 << 20, 65_536, 4096, 1000][case % 4];
        let told = pieces(&data, chunk).await;
        let mut restored = vec![];
        let mut last = (0, None);
        for (bytes, line, part, cut, newline) in told {
            restored.extend(bytes);
            restored.extend(newline.then_some(b'\n'));
            assert!(!(cut && newline));
            let follows = match (last, part) {
                ((before, _), None | Some(1)) => line == before + 1,
                ((before, Some(part)), Some(next)) => line == before && next == part + 1,
                _ => false,
            };
            assert!(follows, "{last:?} {line} {part:?}");
            last = (line, part.filter(|_| cut));
        }
        assert_eq!(restored, data);
    }
}

#[tokio::test]
async fn what_is_in_the_pipe_is_read_though_somebody_holds_it_open() {
    let (mut sender, mut lines) = lines();
    sender.write_all(b"one\ntwo").await.unwrap();
    lines.finish();
    sender.write_all(b" and more\n").await.unwrap();
    assert_eq!(read(&mut lines).await, [whole("one", 1)]);
    assert_eq!(read(&mut lines).await, [("two".to_owned(), 2, None, false, false)]);
    assert!(!lines.is_open());
}

#[tokio::test]
async fn an_empty_pipe_that_somebody_holds_open_is_not_waited_for() {
    let (mut sender, mut lines) = lines();
    sender.write_all(b"part").await.unwrap();
    assert_eq!(read(&mut lines).await, []);
    lines.finish();
    assert!(!lines.is_open());
    let last = lines.next().map(|cut| cut.bytes.to_vec());
    assert_eq!(last.as_deref(), Some(&b"part"[..]));
    assert!(lines.next().is_none());
}

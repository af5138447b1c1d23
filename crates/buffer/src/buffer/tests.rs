//! Where the bytes are, which cannot be seen from outside.

use bytes::BytesMut;

use super::{Buffer, Full, LARGE};

#[test]
fn space_is_what_is_left_behind_the_data() {
    let mut buffer = Buffer::fixed(8);
    buffer.put(b"abc").unwrap();
    assert_eq!((buffer.space().len(), buffer.space), (5, 5));
}

#[test]
fn large_pieces_are_bounded_as_small_ones_are() {
    for len in [LARGE, LARGE + 1, 2 * LARGE] {
        let mut buffer = Buffer::new(16, 3 * LARGE);
        buffer.put(&vec![b'x'; len]).unwrap();
        assert!((len..=3 * LARGE).contains(&buffer.capacity()), "{}", buffer.capacity());
        let full = buffer.put(&vec![b'y'; 3 * LARGE - len + 1]).unwrap_err();
        assert_eq!(full, Full { wanted: 3 * LARGE + 1, max: 3 * LARGE });
        assert_eq!(buffer.data(), vec![b'x'; len]);
        buffer.consume(1);
        buffer.put(&vec![b'y'; 3 * LARGE - len + 1]).unwrap();
        assert_eq!((buffer.len(), buffer.capacity()), (3 * LARGE, 3 * LARGE));
        let (of_before, new) = buffer.data().split_at(len - 1);
        assert!(of_before.iter().all(|byte| *byte == b'x') && new.iter().all(|byte| *byte == b'y'));
    }
}

#[test]
fn data_is_moved_only_for_what_does_not_fit_behind_it() {
    for piece in [1, LARGE] {
        let mut buffer = Buffer::fixed(4 + piece);
        buffer.put(b"abcd").unwrap();
        buffer.consume(2);
        buffer.put(&vec![b'x'; piece]).unwrap();
        assert_eq!((buffer.position, buffer.end), (2, 4 + piece), "it fits exactly");
        buffer.put(b"ef").unwrap();
        assert_eq!((buffer.position, buffer.end), (0, 4 + piece), "now it does not");
        assert_eq!(buffer.data().get(..3), Some(&b"cdx"[..]));
    }
}

#[test]
fn memory_is_exchanged_only_where_nothing_is_lost_and_no_limit_is_passed() {
    let mut buffer = Buffer::new(4, 64);
    buffer.put(b"ab").unwrap();
    let mut source = BytesMut::from(&b"cd"[..]);
    buffer.take_from(&mut source).unwrap();
    assert_eq!((buffer.data(), source.len()), (&b"abcd"[..], 0));

    let mut buffer = Buffer::new(4, 64);
    let mut source = BytesMut::with_capacity(128);
    source.extend_from_slice(b"cd");
    buffer.take_from(&mut source).unwrap();
    assert_eq!((buffer.data(), source.len()), (&b"cd"[..], 0));
    assert!(buffer.capacity() <= 64, "{}", buffer.capacity());
}

#[test]
fn what_is_full_says_how_much_was_wanted() {
    let full = Buffer::fixed(1).put(b"ab").unwrap_err();
    assert_eq!(full.to_string(), "2 bytes do not fit into a buffer of at most 1 bytes");
}

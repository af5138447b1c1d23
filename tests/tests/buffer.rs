//! The buffer keeps its bytes and its bounds, whatever is called in whatever order.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper that fails is a test that fails"
)]

use std::{
    io::{self, Write as _},
    panic::{AssertUnwindSafe, catch_unwind},
};

use kakehi_channel::low_level::{Buffer, Full};
use kakehi_tests::wire::for_all;
use proptest::{collection::vec, prelude::*, sample::Index};

/// One call, with a count that is chosen within what is allowed by then.
#[derive(Clone, Debug)]
enum Call {
    SpaceAndFill(Index, u8),
    Consume(Index),
    Truncate(usize),
    Shift,
    Grow,
    Shrink,
    Put(Vec<u8>),
    Reset,
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        3 => (any::<Index>(), any::<u8>()).prop_map(|(count, byte)| Call::SpaceAndFill(count, byte)),
        3 => any::<Index>().prop_map(Call::Consume),
        1 => (0..80_usize).prop_map(Call::Truncate),
        2 => Just(Call::Shift),
        2 => Just(Call::Grow),
        1 => Just(Call::Shrink),
        3 => vec(any::<u8>(), 0..80).prop_map(Call::Put),
        1 => Just(Call::Reset),
    ]
}

/// The expected state of a buffer.
struct Model {
    data: Vec<u8>,
    capacity: usize,
    initial: usize,
    max: usize,
}

impl Model {
    fn doubled(&self) -> usize {
        (self.capacity * 2).max(self.initial).max(1).min(self.max)
    }

    /// Makes the same call here and there.
    fn call(&mut self, buffer: &mut Buffer, call: Call) {
        match call {
            Call::SpaceAndFill(count, byte) => {
                let [_, end, ..] = figures(buffer);
                let space = buffer.space();
                assert_eq!(space.len(), self.capacity - end, "all memory behind the data");
                let count = count.index(space.len() + 1);
                space[..count].fill(byte);
                buffer.fill(count);
                self.data.resize(self.data.len() + count, byte);
            }
            Call::Consume(count) => {
                let count = count.index(self.data.len() + 1);
                let capacity = buffer.capacity();
                buffer.consume(count);
                self.data.drain(..count);
                if self.data.is_empty() {
                    assert_eq!(buffer.space().len(), capacity, "all is space again, unshifted");
                }
            }
            Call::Truncate(count) => {
                buffer.truncate(count);
                self.data.truncate(count);
            }
            Call::Shift => {
                buffer.shift();
                assert_eq!(figures(buffer)[0], 0);
            }
            Call::Grow => {
                assert_eq!(buffer.grow(), self.capacity < self.max);
                self.capacity = self.doubled().max(self.capacity);
            }
            Call::Shrink => {
                buffer.shrink();
                if self.data.is_empty() {
                    self.capacity = self.capacity.min(self.initial);
                }
            }
            Call::Put(bytes) => {
                let wanted = self.data.len() + bytes.len();
                if wanted > self.max {
                    let full = Full { wanted, max: self.max };
                    assert_eq!(buffer.put(&bytes), Err(full));
                } else {
                    assert_eq!(buffer.put(&bytes), Ok(()));
                    self.data.extend(bytes);
                }
                while self.capacity < self.data.len() {
                    self.capacity = self.doubled();
                }
            }
            Call::Reset => {
                buffer.reset();
                self.data.clear();
            }
        }
    }

    fn check(&self, buffer: &Buffer) {
        assert_eq!(buffer.data(), self.data);
        assert_eq!(buffer.len(), self.data.len());
        assert_eq!(buffer.is_empty(), self.data.is_empty());
        assert_eq!((buffer.capacity(), buffer.max()), (self.capacity, self.max));
        let [position, end, capacity, max] = figures(buffer);
        assert!(position <= end && end <= capacity && capacity <= max, "{buffer:?}");
        assert_eq!(end - position, self.data.len(), "{buffer:?}");
    }
}

/// Position, end, capacity and max, which only the debug output shows all of.
fn figures(buffer: &Buffer) -> [usize; 4] {
    let text = format!("{buffer:?}");
    let numbers =
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok());
    numbers.collect::<Vec<_>>().try_into().unwrap()
}

#[test]
fn after_any_calls_a_growing_buffer_holds_what_a_vec_would_hold() {
    for_all(&(0..40_usize, 0..100_usize, vec(call(), 0..60)), |(initial, max, calls)| {
        let mut buffer = Buffer::new(initial, max);
        let mut model = Model { data: vec![], capacity: 0, initial: initial.min(max), max };
        model.check(&buffer);
        for call in calls {
            model.call(&mut buffer, call);
            model.check(&buffer);
        }
    });
}

#[test]
fn after_any_calls_a_fixed_buffer_has_the_size_it_was_made_with() {
    for_all(&(0..100_usize, vec(call(), 0..60)), |(size, calls)| {
        let mut buffer = Buffer::fixed(size);
        let mut model = Model { data: vec![], capacity: size, initial: size, max: size };
        model.check(&buffer);
        for call in calls {
            model.call(&mut buffer, call);
            model.check(&buffer);
            assert_eq!(buffer.capacity(), size);
        }
    });
}

/// `call` must panic with `words`, and change nothing.
fn is_refused(buffer: &mut Buffer, words: &str, call: impl FnOnce(&mut Buffer)) {
    let before = (figures(buffer), buffer.data().to_vec());
    let panic = catch_unwind(AssertUnwindSafe(|| call(buffer))).unwrap_err();
    assert_eq!(panic.downcast_ref::<String>().unwrap(), words);
    assert_eq!((figures(buffer), buffer.data().to_vec()), before);
}

#[test]
fn filling_past_the_space_is_refused() {
    let mut buffer = Buffer::fixed(4);
    is_refused(&mut buffer, "filled 1 bytes of a space of 0", |buffer| buffer.fill(1));
    buffer.space()[..3].copy_from_slice(b"abc");
    buffer.fill(3);
    is_refused(&mut buffer, "filled 2 bytes of a space of 1", |buffer| buffer.fill(2));
    let all = format!("filled {} bytes of a space of 1", usize::MAX);
    is_refused(&mut buffer, &all, |buffer| buffer.fill(usize::MAX));
    buffer.fill(1);
    assert_eq!(buffer.data(), b"abc\0");
}

#[test]
fn space_must_be_asked_for_anew_after_a_put() {
    let mut buffer = Buffer::fixed(4);
    assert_eq!(buffer.space().len(), 4);
    buffer.put(b"ab").unwrap();
    is_refused(&mut buffer, "filled 1 bytes of a space of 0", |buffer| buffer.fill(1));
}

#[test]
fn consuming_past_the_data_is_refused() {
    let mut buffer = Buffer::new(4, 8);
    is_refused(&mut buffer, "consumed 1 bytes of 0", |buffer| buffer.consume(1));
    buffer.put(b"abc").unwrap();
    buffer.consume(1);
    is_refused(&mut buffer, "consumed 3 bytes of 2", |buffer| buffer.consume(3));
    let all = format!("consumed {} bytes of 2", usize::MAX);
    is_refused(&mut buffer, &all, |buffer| buffer.consume(usize::MAX));
    assert_eq!(buffer.data(), b"bc");
}

#[test]
fn memory_is_taken_when_needed_and_given_back_when_all_was_consumed() {
    let mut buffer = Buffer::new(16, 1024);
    assert_eq!(buffer.capacity(), 0);
    for (len, capacity) in [(1, 16), (16, 16), (17, 32), (500, 512), (513, 1024), (1024, 1024)] {
        buffer.put(&vec![b'x'; len - buffer.len()]).unwrap();
        assert_eq!((buffer.len(), buffer.capacity()), (len, capacity));
    }
    buffer.consume(1023);
    buffer.shrink();
    assert_eq!((buffer.data(), buffer.capacity()), (&b"x"[..], 1024), "not while it holds data");
    buffer.consume(1);
    assert_eq!(buffer.capacity(), 1024, "only `shrink` releases memory");
    buffer.shrink();
    assert_eq!(buffer.capacity(), 16);
}

#[test]
fn consumed_bytes_are_used_again_before_memory_is_taken() {
    let mut buffer = Buffer::new(8, 64);
    buffer.put(b"abcdefgh").unwrap();
    buffer.consume(6);
    buffer.put(b"ijklmn").unwrap();
    assert_eq!((buffer.data(), buffer.capacity()), (&b"ghijklmn"[..], 8));
}

#[test]
fn a_writer_is_told_that_the_buffer_is_full() {
    let mut buffer = Buffer::new(2, 6);
    assert_eq!(buffer.write(b"abcd").unwrap(), 4);
    buffer.flush().unwrap();
    let error = buffer.write_all(b"efg").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    let full = error.get_ref().unwrap();
    assert_eq!(full.downcast_ref(), Some(&Full { wanted: 7, max: 6 }));
    assert_eq!(buffer.data(), b"abcd");
}

#[test]
fn debug_output_shows_figures_and_no_content() {
    let mut buffer = Buffer::new(16, 64);
    buffer.put(b"a secret").unwrap();
    buffer.consume(2);
    let shown = "Buffer { position: 2, end: 8, capacity: 16, max: 64, .. }";
    assert_eq!(format!("{buffer:?}"), shown);
}

//! Fuzzes `Buffer` against a vector.

use std::io::Write;

use arbitrary::Arbitrary;
use kakehi_channel::low_level::{Buffer, Full};

#[derive(Arbitrary, Debug)]
struct Use<'a> {
    initial: u8,
    max: u16,
    is_fixed: bool,
    steps: Vec<Step<'a>>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Step<'a> {
    Put(&'a [u8]),
    Write(&'a [u8]),
    /// Fills this many bytes of the free space.
    Fill(u8, u16),
    Consume(u16),
    Truncate(u16),
    Shift,
    Grow,
    Shrink,
    Reset,
}

/// Checks after each step that a [`Buffer`] holds the same bytes as a vector, within its bounds.
///
/// # Panics
/// If the property does not hold.
pub fn buffer(data: &[u8]) {
    let Some(Use { initial, max, is_fixed, steps }) = super::input(data) else { return };
    let (initial, max) = (usize::from(initial), usize::from(max % 600));
    let mut buffer = if is_fixed { Buffer::fixed(max) } else { Buffer::new(initial, max) };
    let mut model = vec![];
    for step in steps {
        take(&mut buffer, &mut model, step, initial.min(max), is_fixed);
        assert_eq!(buffer.data(), model);
        assert_eq!((buffer.len(), buffer.is_empty()), (model.len(), model.is_empty()));
        assert_eq!(buffer.max(), max);
        assert!(buffer.len() <= buffer.capacity() && buffer.capacity() <= max, "{buffer:?}");
        assert!(!is_fixed || buffer.capacity() == max, "{buffer:?}");
    }
}

fn take(buffer: &mut Buffer, model: &mut Vec<u8>, step: Step, initial: usize, is_fixed: bool) {
    let (max, before) = (buffer.max(), buffer.capacity());
    match step {
        Step::Put(bytes) => {
            let wanted = model.len() + bytes.len();
            let expected = if wanted <= max { Ok(()) } else { Err(Full { wanted, max }) };
            assert_eq!(buffer.put(bytes), expected);
            model.extend(bytes.iter().filter(|_| expected.is_ok()));
        }
        Step::Write(bytes) => {
            let fits = model.len() + bytes.len() <= max;
            assert_eq!(buffer.write_all(bytes).is_ok(), fits);
            model.extend(bytes.iter().filter(|_| fits));
        }
        Step::Fill(byte, count) => {
            let space = buffer.space();
            let count = usize::from(count).min(space.len());
            space[..count].fill(byte);
            buffer.fill(count);
            model.resize(model.len() + count, byte);
        }
        Step::Consume(count) => {
            let count = usize::from(count).min(model.len());
            buffer.consume(count);
            model.drain(..count);
        }
        Step::Truncate(count) => {
            buffer.truncate(usize::from(count));
            model.truncate(usize::from(count));
        }
        Step::Shift => {
            buffer.shift();
            assert_eq!(buffer.space().len(), buffer.capacity() - model.len(), "{buffer:?}");
        }
        Step::Grow => {
            assert_eq!(buffer.grow(), before < max, "{buffer:?}");
            let grown = (2 * before).max(initial).max(1).min(max);
            assert_eq!(buffer.capacity(), grown.max(before), "{buffer:?}");
        }
        Step::Shrink => {
            buffer.shrink();
            let most = if model.is_empty() && !is_fixed { initial } else { before };
            assert!(buffer.capacity() <= most, "{buffer:?}");
        }
        Step::Reset => {
            buffer.reset();
            model.clear();
        }
    }
}

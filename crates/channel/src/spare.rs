//! A piece of memory that the channels of a thread read into, one after the other.

use std::cell::Cell;

use bytes::BytesMut;

/// Of the size of a large read, in bytes.
pub(crate) const SIZE: usize = 64 * 1024;

thread_local! {
    static SPARE: Cell<BytesMut> = Cell::default();
}

/// Empty, of [`SIZE`] bytes: what [`put`] was given before, if anything.
pub(crate) fn take() -> BytesMut {
    let memory = SPARE.try_with(Cell::take).unwrap_or_default();
    if memory.capacity() == SIZE { memory } else { BytesMut::with_capacity(SIZE) }
}

/// Keeps memory for the next one who takes some; drops what is not of that size.
pub(crate) fn put(mut memory: BytesMut) {
    if memory.capacity() == SIZE {
        memory.clear();
        // At the end of a thread there may be no place for it any more.
        let _ = SPARE.try_with(|spare| spare.replace(memory));
    }
}

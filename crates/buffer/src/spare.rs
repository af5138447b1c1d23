//! One read buffer per thread, which the channels of the thread use one after the other. An idle
//! channel then holds no memory, and a large read needs no allocation.

use std::cell::Cell;

use bytes::BytesMut;

/// Its size in bytes, that of a large read. Most large contents are a power of two, up to 64 KiB or
/// 1 MiB. With 2 KiB for what is around the content, their frames fit into this size or the next ones.
pub const SIZE: usize = 66 * 1024;

thread_local! {
    static SPARE: Cell<BytesMut> = Cell::default();
}

/// Takes the thread's buffer, or a new one. It is empty and has [`SIZE`] bytes of memory.
#[must_use]
pub fn take() -> BytesMut {
    let memory = SPARE.try_with(Cell::take).unwrap_or_default();
    if memory.capacity() == SIZE { memory } else { BytesMut::with_capacity(SIZE) }
}

/// Returns a buffer to the thread. Drops it if its size is not [`SIZE`].
pub fn put(mut memory: BytesMut) {
    if memory.capacity() == SIZE {
        memory.clear();
        // Fails while the thread ends.
        let _ = SPARE.try_with(|spare| spare.replace(memory));
    }
}

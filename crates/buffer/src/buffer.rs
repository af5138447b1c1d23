//! The growable buffer: memory, a position, an end, and a hard maximum. It does no IO.

#[cfg(test)]
mod tests;

use std::{fmt, io};

use bytes::BytesMut;

/// From which capacity on memory grows in place, in bytes. The standard library more than doubles a
/// smaller one.
const IN_PLACE: usize = 1024;

/// From how many bytes on the target is not initialized first.
const LARGE: usize = 1024;

/// A growable buffer of bytes with a hard maximum.
///
/// ```text
///   0        position          end          capacity        max
///   ├────────────┼──────────────┼──────────────┤ ─ ─ ─ ─ ─ ─ ┤
///    consumed          data          space        may grow
/// ```
///
/// `position ≤ end ≤ capacity ≤ max` holds after every call. The buffer allocates memory when bytes
/// arrive, and doubles it as needed. All sizes are in bytes.
///
/// ```
/// use kakehi_buffer::Buffer;
///
/// let mut buffer = Buffer::new(4, 16);
/// assert_eq!(buffer.capacity(), 0, "a new buffer has no memory");
///
/// buffer.put(b"a message").unwrap();
/// assert_eq!((buffer.data(), buffer.capacity()), (&b"a message"[..], 16));
///
/// buffer.consume(2);
/// assert_eq!(buffer.data(), b"message");
/// let full = buffer.put(b"far too long").unwrap_err();
/// assert_eq!((full.wanted, full.max), (19, 16));
///
/// buffer.shift();
/// assert_eq!(buffer.space().len(), 9);
/// buffer.space()[..2].copy_from_slice(b"!!");
/// buffer.fill(2);
/// assert_eq!(buffer.data(), b"message!!");
/// buffer.truncate(7);
///
/// assert!(!buffer.grow(), "the capacity is the maximum");
/// buffer.consume(7);
/// buffer.shrink();
/// assert_eq!(buffer.capacity(), 4);
/// ```
pub struct Buffer {
    /// Initialized at least up to `end`.
    memory: BytesMut,
    position: usize,
    end: usize,
    /// The length of the space that was last returned. A connection has three buffers, so the
    /// fields are small.
    space: u32,
    initial: u32,
    max: usize,
}

impl Buffer {
    /// Creates an empty buffer of at most `max` bytes, without memory. The first allocation is
    /// `initial` bytes, at most `max` and 4 GiB.
    #[must_use]
    pub fn new(initial: usize, max: usize) -> Self {
        let (memory, initial) = (BytesMut::new(), size(initial.min(max)));
        Self { memory, position: 0, end: 0, space: 0, initial, max }
    }

    /// Creates a buffer of exactly `size` bytes, which neither grows nor shrinks.
    #[must_use]
    pub fn fixed(size: usize) -> Self {
        let mut buffer = Self::new(size, size);
        buffer.grow();
        buffer
    }

    /// The bytes that were put and not consumed.
    #[must_use]
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "position ≤ end ≤ memory.len() always holds")]
    pub fn data(&self) -> &[u8] {
        &self.memory[self.position..self.end]
    }

    /// The free memory behind the data. Write into it, then call [`fill`](Self::fill). It is empty
    /// if the capacity is used up: [`shift`](Self::shift) and [`grow`](Self::grow) make space.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "end ≤ memory.len() always holds")]
    pub fn space(&mut self) -> &mut [u8] {
        self.memory.resize(self.capacity(), 0);
        self.space = size(self.memory.len() - self.end);
        &mut self.memory[self.end..]
    }

    /// Counts the first `count` bytes of [`space`](Self::space) as data.
    ///
    /// # Panics
    /// If `count` is more than the length of the space, or over 4 GiB.
    pub fn fill(&mut self, count: usize) {
        let space = self.space as usize;
        assert!(count <= space, "filled {count} bytes of a space of {space}");
        self.end += count;
        self.space = size(space - count);
    }

    /// Removes the first `count` bytes of the data. Moves no byte.
    ///
    /// # Panics
    /// If `count` is more than the length of the data.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        let len = self.len();
        assert!(count <= len, "consumed {count} bytes of {len}");
        self.position += count;
        if self.is_empty() {
            self.reset();
        }
    }

    /// Keeps only the first `count` bytes of the data.
    pub fn truncate(&mut self, count: usize) {
        self.end -= self.len().saturating_sub(count);
        self.space = 0;
    }

    /// Moves the data to the start of the memory, so that consumed bytes become space.
    pub fn shift(&mut self) {
        if self.position > 0 {
            self.memory.copy_within(self.position..self.end, 0);
            self.end -= self.position;
            (self.position, self.space) = (0, 0);
        }
    }

    /// Doubles the capacity, up to the maximum. Returns `false` if it is the maximum already.
    pub fn grow(&mut self) -> bool {
        let capacity = self.capacity();
        self.grow_to(capacity.saturating_add(1));
        self.capacity() > capacity
    }

    /// Doubles the capacity until it is at least `wanted` or the maximum, in one step.
    pub fn grow_to(&mut self, wanted: usize) {
        let (old, wanted) = (self.capacity(), wanted.min(self.max));
        let mut target = old;
        while target < wanted {
            target = target.saturating_mul(2).max(self.initial()).max(1).min(self.max);
        }
        if target == old {
            return;
        }
        self.space = 0;
        self.memory.truncate(self.end);
        if target == 2 * old && old >= IN_PLACE && self.end > old / 2 {
            // Grows a large frame in place, if the allocator can. Otherwise it copies all of `old`.
            self.memory.reserve(target - self.end);
        } else {
            let mut memory = BytesMut::with_capacity(target);
            memory.extend_from_slice(&self.memory);
            self.memory = memory;
        }
    }

    /// Returns to the initial capacity if there is no data.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            self.reset();
            if self.capacity() > self.initial() {
                self.memory = BytesMut::with_capacity(self.initial());
            }
        }
    }

    /// Appends `bytes`. Shifts and grows the buffer if needed.
    ///
    /// # Errors
    /// [`Full`] if the data would exceed the maximum. The buffer is then unchanged.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        if bytes.len() < LARGE {
            return self.put_all([bytes]);
        }
        self.make_room(bytes.len())?;
        self.memory.truncate(self.end);
        self.memory.extend_from_slice(bytes);
        self.end += bytes.len();
        self.space = 0;
        Ok(())
    }

    /// Removes all data and keeps the memory.
    pub fn reset(&mut self) {
        (self.position, self.end, self.space) = (0, 0, 0);
    }

    /// The length of the data in bytes.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.end - self.position
    }

    /// Whether there is no data.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.position == self.end
    }

    /// The size of the memory in bytes.
    #[must_use]
    #[inline]
    pub fn capacity(&self) -> usize {
        self.memory.capacity()
    }

    /// The maximum size of the memory in bytes.
    #[must_use]
    pub fn max(&self) -> usize {
        self.max
    }

    /// The size of the first allocation in bytes.
    #[must_use]
    pub fn initial(&self) -> usize {
        self.initial as usize
    }

    /// Appends small pieces, all or none.
    #[inline]
    pub(crate) fn put_all<const N: usize>(&mut self, pieces: [&[u8]; N]) -> Result<(), Full> {
        let count = pieces.iter().fold(0, |sum: usize, piece| sum.saturating_add(piece.len()));
        let mut space = match self.memory.get_mut(self.end..) {
            Some(space) if count <= space.len() => space,
            _ => self.open(count)?,
        };
        for piece in pieces {
            let (to, rest) = space.split_at_mut(piece.len());
            to.copy_from_slice(piece);
            space = rest;
        }
        self.end += count;
        self.space = 0;
        Ok(())
    }

    /// Overwrites the byte `at` this index of the data, if there is one.
    pub(crate) fn replace(&mut self, at: usize, byte: u8) {
        let end = self.end;
        if let Some(old) = self.memory.get_mut(self.position + at..end).and_then(<[u8]>::first_mut)
        {
            *old = byte;
        }
    }

    /// Initialized space for `count` more bytes, and for some that may follow.
    #[cold]
    #[expect(clippy::indexing_slicing, reason = "end ≤ memory.len() always holds")]
    fn open(&mut self, count: usize) -> Result<&mut [u8], Full> {
        self.make_room(count)?;
        let len = self.end + count.max(LARGE);
        self.memory.resize(len.min(self.capacity()), 0);
        Ok(&mut self.memory[self.end..])
    }

    /// Shifts, then grows, until `count` more bytes fit.
    fn make_room(&mut self, count: usize) -> Result<(), Full> {
        if count <= self.capacity() - self.end {
            return Ok(());
        }
        let wanted = self.len().saturating_add(count);
        if wanted > self.max {
            return Err(Full { wanted, max: self.max });
        }
        self.shift();
        self.grow_to(wanted);
        Ok(())
    }

    /// Appends exactly `count` bytes that `write` adds to the memory's end.
    ///
    /// # Errors
    /// [`Full`] if the data would exceed the maximum. The buffer is then unchanged.
    pub fn put_with(
        &mut self,
        count: usize,
        write: impl FnOnce(&mut BytesMut),
    ) -> Result<(), Full> {
        self.make_room(count)?;
        self.memory.truncate(self.end);
        write(&mut self.memory);
        (self.end, self.space) = (self.memory.len(), 0);
        Ok(())
    }

    /// Appends the bytes of `source`. Takes its memory instead of copying if there is no data.
    ///
    /// # Errors
    /// [`Full`] if the data would exceed the maximum. Both are then unchanged.
    pub fn take_from(&mut self, source: &mut BytesMut) -> Result<(), Full> {
        if self.is_empty() && source.capacity() <= self.max {
            self.memory = std::mem::take(source);
            (self.position, self.end, self.space) = (0, self.memory.len(), 0);
            return Ok(());
        }
        self.put(source)?;
        source.clear();
        Ok(())
    }

    /// Appends all data to `target`. Hands over the memory instead of copying if `target` is empty.
    pub fn give_to(&mut self, target: &mut BytesMut) {
        if target.is_empty() {
            self.shift();
            self.memory.truncate(self.end);
            *target = std::mem::take(&mut self.memory);
        } else {
            target.extend_from_slice(self.data());
        }
        self.reset();
    }

    /// Removes all data and returns the memory.
    pub fn take_memory(&mut self) -> BytesMut {
        self.reset();
        std::mem::take(&mut self.memory)
    }
}

/// Saturates at 4 GiB.
fn size(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Appends all bytes of a write, or fails with [`io::ErrorKind::StorageFull`] and a [`Full`] inside.
impl io::Write for Buffer {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.put(bytes).map_err(|full| io::Error::new(io::ErrorKind::StorageFull, full))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Shows sizes and no content, which may be secret.
impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer")
            .field("position", &self.position)
            .field("end", &self.end)
            .field("capacity", &self.capacity())
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

/// The error of bytes that exceed the maximum of a [`Buffer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// How many bytes the buffer would have to hold.
    pub wanted: usize,
    /// How many bytes the buffer can hold.
    pub max: usize,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes do not fit into a buffer of at most {} bytes", self.wanted, self.max)
    }
}

impl std::error::Error for Full {}

//! The growable buffer: memory, a position, an end, and a hard maximum. It does no IO.

#[cfg(test)]
mod tests;

use std::{fmt, io};

use bytes::BytesMut;

use crate::spare;

/// From what capacity on memory grows in place, where the allocator can, in bytes. The standard
/// library makes less than this more than twice as large.
const IN_PLACE: usize = 1024;

/// From what size on bytes are put into memory that was not initialized before, in bytes.
const LARGE: usize = 1024;

/// Bytes that wait between a socket and a message.
///
/// ```text
///   0        position          end          capacity        max
///   ├────────────┼──────────────┼──────────────┤ ─ ─ ─ ─ ─ ─ ┤
///    consumed          data          space        may grow
/// ```
///
/// `position ≤ end ≤ capacity ≤ max` holds after every call. Memory is taken when bytes arrive,
/// doubled while there is too little, and given back once everything was consumed. All sizes are
/// in bytes.
///
/// ```
/// use kakehi_channel::Buffer;
///
/// let mut buffer = Buffer::new(4, 16);
/// assert_eq!(buffer.capacity(), 0, "nothing is allocated before it is needed");
///
/// buffer.put(b"a message").unwrap();
/// assert_eq!((buffer.data(), buffer.capacity()), (&b"a message"[..], 16));
///
/// buffer.consume(2);
/// assert_eq!(buffer.data(), b"message");
/// assert!(buffer.put(b"far too long").is_err(), "the maximum is hard");
/// ```
pub struct Buffer {
    /// Initialized at least up to `end`; its length beyond `end` means nothing.
    memory: BytesMut,
    position: usize,
    end: usize,
    /// How much behind `end` was asked for, to be written into. There are three buffers to a
    /// connection: each byte here counts.
    space: u32,
    initial: u32,
    max: usize,
}

impl Buffer {
    /// An empty buffer that takes `initial` bytes when first needed and never holds more than
    /// `max`. An `initial` over `max`, or over 4 GiB, is lowered to it.
    ///
    /// ```
    /// let buffer = kakehi_channel::Buffer::new(16_384, 1_048_576);
    /// assert!(buffer.is_empty());
    /// ```
    #[must_use]
    pub fn new(initial: usize, max: usize) -> Self {
        let (memory, initial) = (BytesMut::new(), size(initial.min(max)));
        Self { memory, position: 0, end: 0, space: 0, initial, max }
    }

    /// A buffer of exactly `size` bytes, allocated at once, that neither grows nor shrinks.
    ///
    /// ```
    /// let mut buffer = kakehi_channel::Buffer::fixed(8);
    /// assert_eq!((buffer.capacity(), buffer.grow()), (8, false));
    /// ```
    #[must_use]
    pub fn fixed(size: usize) -> Self {
        let mut buffer = Self::new(size, size);
        buffer.grow();
        buffer
    }

    /// What has been put in and not yet consumed.
    ///
    /// ```
    /// let mut buffer = kakehi_channel::Buffer::fixed(8);
    /// buffer.put(b"data").unwrap();
    /// assert_eq!(buffer.data(), b"data");
    /// ```
    #[must_use]
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "position ≤ end ≤ memory.len() always holds")]
    pub fn data(&self) -> &[u8] {
        &self.memory[self.position..self.end]
    }

    /// The free memory behind the data: write into it, then say how much by [`fill`](Self::fill).
    /// Empty when the capacity is used up; [`shift`](Self::shift) or [`grow`](Self::grow) make
    /// more.
    ///
    /// ```
    /// let mut buffer = kakehi_channel::Buffer::fixed(8);
    /// buffer.space()[..2].copy_from_slice(b"ok");
    /// buffer.fill(2);
    /// assert_eq!(buffer.data(), b"ok");
    /// ```
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
    /// When `count` is more than the space last returned, or 4 GiB: the caller claims bytes that it
    /// cannot have written.
    ///
    /// ```
    /// let mut buffer = kakehi_channel::Buffer::fixed(8);
    /// buffer.space().fill(b'x');
    /// buffer.fill(3);
    /// assert_eq!(buffer.data(), b"xxx");
    /// ```
    pub fn fill(&mut self, count: usize) {
        let space = self.space as usize;
        assert!(count <= space, "filled {count} bytes of a space of {space}");
        self.end += count;
        self.space = size(space - count);
    }

    /// Drops the first `count` bytes of the data. Costs nothing: no byte moves.
    ///
    /// # Panics
    /// When `count` is more than the data that there is.
    ///
    /// ```
    /// let mut buffer = kakehi_channel::Buffer::fixed(8);
    /// buffer.put(b"a tail").unwrap();
    /// buffer.consume(2);
    /// assert_eq!(buffer.data(), b"tail");
    /// ```
    #[inline]
    pub fn consume(&mut self, count: usize) {
        let len = self.len();
        assert!(count <= len, "consumed {count} bytes of {len}");
        self.position += count;
        if self.is_empty() {
            self.reset();
        }
    }

    /// Keeps the first `count` bytes of the data and drops the rest, as after a write that
    /// failed half-way. Does nothing when there are no more than that.
    ///
    /// ```
    /// let mut buffer = kakehi_channel::Buffer::fixed(8);
    /// buffer.put(b"half way").unwrap();
    /// buffer.truncate(4);
    /// assert_eq!(buffer.data(), b"half");
    /// ```
    pub fn truncate(&mut self, count: usize) {
        self.end -= self.len().saturating_sub(count);
        self.space = 0;
    }

    /// Moves the data to the start of the memory, so that what was consumed becomes space.
    ///
    /// ```
    /// let mut buffer = kakehi_channel::Buffer::fixed(4);
    /// buffer.put(b"abcd").unwrap();
    /// buffer.consume(3);
    /// assert_eq!(buffer.space().len(), 0);
    /// buffer.shift();
    /// assert_eq!(buffer.data(), b"d");
    /// assert_eq!(buffer.space().len(), 3);
    /// ```
    pub fn shift(&mut self) {
        if self.position > 0 {
            self.memory.copy_within(self.position..self.end, 0);
            self.end -= self.position;
            (self.position, self.space) = (0, 0);
        }
    }

    /// Doubles the capacity, from `initial`, up to `max`. `false`: it already is the maximum.
    ///
    /// ```
    /// let mut buffer = kakehi_channel::Buffer::new(4, 10);
    /// let mut sizes = vec![];
    /// while buffer.grow() {
    ///     sizes.push(buffer.capacity());
    /// }
    /// assert_eq!(sizes, [4, 8, 10]);
    /// ```
    pub fn grow(&mut self) -> bool {
        let capacity = self.capacity();
        if capacity >= self.max {
            return false;
        }
        self.space = 0;
        let target = capacity.saturating_mul(2).max(self.initial()).max(1).min(self.max);
        self.memory.truncate(self.end);
        if target == 2 * capacity && capacity >= IN_PLACE {
            // A large frame is not copied each time.
            self.memory.reserve(target - self.end);
        } else {
            let mut memory = BytesMut::with_capacity(target);
            memory.extend_from_slice(&self.memory);
            self.memory = memory;
        }
        true
    }

    /// Once everything was consumed, goes back to the initial capacity. Keeps memory that still
    /// holds data.
    ///
    /// ```
    /// let mut buffer = kakehi_channel::Buffer::new(4, 64);
    /// buffer.put(&[0; 64]).unwrap();
    /// buffer.shrink();
    /// assert_eq!(buffer.capacity(), 64, "there is data in it");
    /// buffer.consume(64);
    /// buffer.shrink();
    /// assert_eq!(buffer.capacity(), 4);
    /// ```
    pub fn shrink(&mut self) {
        if self.is_empty() {
            self.reset();
            if self.capacity() > self.initial() {
                self.memory = BytesMut::with_capacity(self.initial());
            }
        }
    }

    /// Appends `bytes`, shifting and growing as needed.
    ///
    /// # Errors
    /// [`Full`] when they would not fit under the maximum; nothing is put in then.
    ///
    /// ```
    /// let mut buffer = kakehi_channel::Buffer::fixed(4);
    /// buffer.put(b"abc").unwrap();
    /// assert_eq!(
    ///     buffer.put(b"de").unwrap_err().to_string(),
    ///     "5 bytes do not fit into a buffer of at most 4 bytes",
    /// );
    /// assert_eq!(buffer.data(), b"abc");
    /// ```
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

    /// Forgets all data and keeps the memory.
    ///
    /// ```
    /// let mut buffer = kakehi_channel::Buffer::fixed(4);
    /// buffer.put(b"abc").unwrap();
    /// buffer.reset();
    /// assert!(buffer.is_empty());
    /// ```
    pub fn reset(&mut self) {
        (self.position, self.end, self.space) = (0, 0, 0);
    }

    /// How many bytes of data there are.
    ///
    /// ```
    /// assert_eq!(kakehi_channel::Buffer::fixed(4).len(), 0);
    /// ```
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.end - self.position
    }

    /// Whether everything was consumed.
    ///
    /// ```
    /// assert!(kakehi_channel::Buffer::fixed(4).is_empty());
    /// ```
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.position == self.end
    }

    /// The memory held now, in bytes.
    ///
    /// ```
    /// assert_eq!(kakehi_channel::Buffer::fixed(4).capacity(), 4);
    /// ```
    #[must_use]
    #[inline]
    pub fn capacity(&self) -> usize {
        self.memory.capacity()
    }

    /// The most memory that it will ever hold, in bytes.
    ///
    /// ```
    /// assert_eq!(kakehi_channel::Buffer::new(4, 64).max(), 64);
    /// ```
    #[must_use]
    pub fn max(&self) -> usize {
        self.max
    }

    pub(crate) fn initial(&self) -> usize {
        self.initial as usize
    }

    /// Appends small pieces, as one: all of them or none.
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

    /// Initialized space for `count` more bytes, and for some of those that will follow.
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
        while self.capacity() < wanted && self.grow() {}
        Ok(())
    }

    /// Appends exactly `count` bytes that `write` adds to the memory's end.
    #[cfg(feature = "sozu")]
    pub(crate) fn put_with(
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

    /// Takes what `source` holds as data, by exchange of memory where there is no data yet.
    pub(crate) fn take_from(&mut self, source: &mut BytesMut) -> Result<(), Full> {
        if self.is_empty() && source.capacity() <= self.max {
            self.memory = std::mem::take(source);
            (self.position, self.end, self.space) = (0, self.memory.len(), 0);
            return Ok(());
        }
        self.put(source)?;
        source.clear();
        Ok(())
    }

    /// Hands all data to the end of `target`, and the memory with it where `target` is empty.
    pub(crate) fn give_to(&mut self, target: &mut BytesMut) {
        if target.is_empty() {
            self.shift();
            self.memory.truncate(self.end);
            *target = std::mem::take(&mut self.memory);
        } else {
            target.extend_from_slice(self.data());
        }
        self.reset();
    }

    /// Forgets all data and gives the memory back: the next byte takes memory anew.
    pub(crate) fn release(&mut self) {
        self.reset();
        spare::put(std::mem::take(&mut self.memory));
    }
}

/// As much of it as a small field can tell.
fn size(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Puts all of each write, or fails with [`io::ErrorKind::StorageFull`] and a [`Full`] inside.
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

/// Shows figures, never content: a buffer may hold secrets.
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

/// The bytes did not fit under a [`Buffer`]'s maximum.
///
/// ```
/// let full = kakehi_channel::Buffer::fixed(1).put(b"ab").unwrap_err();
/// assert_eq!((full.wanted, full.max), (2, 1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// The bytes that the buffer would have had to hold.
    pub wanted: usize,
    /// The most that it may hold.
    pub max: usize,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes do not fit into a buffer of at most {} bytes", self.wanted, self.max)
    }
}

impl std::error::Error for Full {}

//! How much memory a buffer may use.

/// How much memory a buffer, or one direction of a channel, may use, in bytes.
///
/// A buffer allocates memory when bytes arrive: `initial` bytes at first, then twice as many each
/// time, up to `max`. In a channel, `max` bounds a frame with its delimiter or header, and an idle
/// channel holds no memory.
///
/// ```
/// use kakehi_buffer::BufferLimits;
///
/// assert_eq!(BufferLimits::default(), BufferLimits { initial: 16_384, max: 1_048_576 });
/// assert_eq!(BufferLimits::CLIENT.max, 16 * 1_048_576);
/// let tight = BufferLimits { max: 4096, ..BufferLimits::default() };
/// # assert_eq!(tight.max, 4096);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferLimits {
    /// The size of the first allocation, at most `max`.
    pub initial: usize,
    /// The largest frame.
    pub max: usize,
}

impl BufferLimits {
    /// The limits of a client's incoming frames: 16 KiB initially, at most 16 MiB. Responses are
    /// larger than requests, and a client trusts its server more.
    pub const CLIENT: Self = Self { initial: 16 * 1024, max: 16 * 1024 * 1024 };
}

impl Default for BufferLimits {
    /// 16 KiB initially, at most 1 MiB.
    fn default() -> Self {
        Self { initial: 16 * 1024, max: 1024 * 1024 }
    }
}

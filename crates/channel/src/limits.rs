//! How much memory one direction of a channel may use.

/// How much memory one direction of a channel may use, in bytes.
///
/// The size of a frame includes its delimiter or header. A channel allocates memory when a message
/// needs it: `initial` bytes at first, then twice as many each time, up to `max`. It releases empty
/// buffers, so an idle channel holds no memory.
///
/// ```
/// use kakehi_channel::BufferLimits;
///
/// assert_eq!(BufferLimits::default(), BufferLimits { initial: 16_384, max: 1_048_576 });
/// assert_eq!(BufferLimits::default(), BufferLimits::DEFAULT);
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
    /// 16 KiB initially, at most 1 MiB.
    pub const DEFAULT: Self = Self { initial: 16 * 1024, max: 1024 * 1024 };

    /// The limits of a client's incoming frames: 16 KiB initially, at most 16 MiB. Responses are
    /// larger than requests, and a client trusts its server more.
    pub const CLIENT: Self = Self { max: 16 * 1024 * 1024, ..Self::DEFAULT };
}

impl Default for BufferLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

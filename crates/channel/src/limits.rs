//! How much memory one direction of a channel may take.

/// The memory of one direction of a channel, in bytes.
///
/// A frame is counted as it stands on the wire, delimiter or header included. Memory is taken
/// when a message needs it, `initial` first, then doubled up to `max`, and given back once it is
/// drained: an idle channel holds none.
///
/// ```
/// use kakehi_channel::Limits;
///
/// assert_eq!(Limits::default(), Limits { initial: 16_384, max: 1_048_576 });
/// assert_eq!(Limits::CLIENT.max, 16 * 1_048_576);
/// let tight = Limits { max: 4096, ..Limits::default() };
/// # assert_eq!(tight.max, 4096);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What is taken first. Over `max`, it counts as `max`.
    pub initial: usize,
    /// The largest frame.
    pub max: usize,
}

impl Limits {
    /// 16 KiB at first, 1 MiB at most.
    ///
    /// ```
    /// assert_eq!(kakehi_channel::Limits::DEFAULT.max, 1_048_576);
    /// ```
    pub const DEFAULT: Self = Self { initial: 16 * 1024, max: 1024 * 1024 };

    /// What a client receives: 16 KiB at first, 16 MiB at most. A server is trusted with more,
    /// and its answers are larger than the requests for them.
    pub const CLIENT: Self = Self { max: 16 * 1024 * 1024, ..Self::DEFAULT };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

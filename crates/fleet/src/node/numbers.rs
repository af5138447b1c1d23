//! The numbers of accepted requests. A number is enough to cancel its request, so each number ends
//! in 32 bits that cannot be guessed.

use std::sync::atomic::{AtomicU32, Ordering};

use sha2::{Digest, Sha256};

use crate::FleetError;

/// Gives each request of a node's process a number: the upper 32 bits are a sequence, and the lower
/// 32 bits are derived from the sequence by a secret of the process.
pub(super) struct Numbers {
    secret: String,
    /// The sequence of the last request. It wraps after 2^32 requests, and some outcomes are then
    /// forgotten early.
    last: AtomicU32,
}

impl Numbers {
    /// With a new secret.
    ///
    /// # Errors
    /// The secret cannot be made.
    pub(super) fn new() -> Result<Self, FleetError> {
        // The seed of a key: 32 bytes of a cryptographic generator, seeded by the system.
        let seed = nkeys::KeyPair::new_user().seed();
        let secret = seed.map_err(|error| FleetError::secret(&error))?;
        Ok(Self { secret, last: AtomicU32::new(0) })
    }

    /// The number of the next request.
    pub(super) fn next(&self) -> u64 {
        self.number(self.last.fetch_add(1, Ordering::Relaxed).wrapping_add(1))
    }

    /// Whether [`next`](Self::next) gave this number.
    pub(super) fn is_given(&self, number: u64) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        u32::try_from(sequence(number))
            .is_ok_and(|sequence| (1..=last).contains(&sequence) && self.number(sequence) == number)
    }

    fn number(&self, sequence: u32) -> u64 {
        let hash = Sha256::new()
            .chain_update(&self.secret)
            .chain_update(sequence.to_be_bytes())
            .finalize();
        let secret = hash.iter().take(4).fold(0, |low, byte| (low << 8) | u64::from(*byte));
        (u64::from(sequence) << 32) | secret
    }
}

/// The position of a number in the order of the requests.
pub(super) fn sequence(number: u64) -> u64 {
    number >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_cannot_be_told_from_the_one_before_or_from_another_process() {
        let (ours, others) = (Numbers::new().unwrap(), Numbers::new().unwrap());
        let mut low = std::collections::HashSet::new();
        for at in 1..=50 {
            for numbers in [&ours, &others] {
                let number = numbers.next();
                assert_eq!(sequence(number), at, "in the order of the requests");
                low.insert(number & u64::from(u32::MAX));
            }
        }
        // Two of 100 numbers of 32 bits are equal once in 800,000 runs; a constant always is.
        assert!(low.len() >= 99, "{low:?}");
    }

    #[test]
    fn a_number_that_was_not_given_is_known() {
        let numbers = Numbers::new().unwrap();
        let number = numbers.next();
        assert!(numbers.is_given(number));
        for other in [0, 1, number ^ 1, number + (1 << 32), (sequence(number) << 32) | 7] {
            // The last one is the number itself once in 2^32 runs.
            assert!(other == number || !numbers.is_given(other), "{other}");
        }
    }
}

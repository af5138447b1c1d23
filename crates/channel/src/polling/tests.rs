//! How long a turn is.

use std::time::Duration;

use super::{CROWDED, LONGEST_TURN, Poller, TURN};

#[test]
fn a_turn_is_longer_while_nobody_has_work_and_short_again_once_somebody_has() {
    let mut poller = Poller::<()>::new(Duration::from_micros(50), |(), _| Ok(0));
    let mut back_after = |time: u32| {
        poller.away_since = 7;
        let is_crowded = poller.came_back(7 + time);
        assert_eq!(poller.away_since, 0);
        (is_crowded, poller.turn)
    };
    assert_eq!(back_after(CROWDED - 1), (false, 2 * TURN));
    assert_eq!(back_after(0), (false, LONGEST_TURN));
    assert_eq!(back_after(0), (false, LONGEST_TURN));
    assert_eq!(back_after(CROWDED), (true, TURN));
    assert!(!poller.came_back(1000), "it had not given up its turn");
    assert_eq!(poller.turn, TURN);
}

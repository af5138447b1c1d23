//! The length of a turn.

use std::time::Duration;

use crate::poller::{CROWDED, LONGEST_TURN, Poller, TURN};

#[test]
fn a_turn_doubles_while_no_other_task_has_work_and_is_short_again_once_one_has() {
    let mut poller = Poller::new(Duration::from_micros(50));
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
    assert!(!poller.came_back(1000), "no turn had ended");
    assert_eq!(poller.turn, TURN);
}

//! Runs of ids.

use super::*;

#[test]
fn a_run_is_used_up_in_order() {
    let mut run = IdRun::default();
    assert_eq!(run.take(1), None);
    run.refill(1_000..1_010);
    assert_eq!(run.take(1), Some(1_000..1_001));
    assert_eq!(run.take(8), Some(1_001..1_009));
    assert_eq!(run.take(2), None, "one is left");
    assert_eq!(run.take(1), Some(1_009..1_010));
    assert_eq!(run.take(1), None);
}

#[test]
fn a_late_shorter_run_does_not_replace_a_longer_one() {
    let mut run = IdRun::default();
    run.refill(2_000..3_000);
    run.refill(1_000..1_010);
    assert_eq!(run.take(1), Some(2_000..2_001));
}

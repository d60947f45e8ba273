//! Timestamps under restarts, fail-over and clocks that jump.

use proptest::prelude::*;

use super::*;

#[test]
fn nothing_is_drawn_without_leadership() {
    let mut oracle = Oracle::default();
    assert_eq!(oracle.draw(1, 5), Draw::NotServing);
    oracle.begin(3, 0, 10, Oracle::first_bound(0, 10));
    assert!(matches!(oracle.draw(1, 10), Draw::Drawn { term: 3, .. }));
    oracle.end();
    assert_eq!(oracle.draw(1, 11), Draw::NotServing);
}

#[test]
fn the_largest_of_a_batch_is_returned_and_the_rest_lies_below_it_in_one_millisecond() {
    let mut oracle = Oracle::default();
    oracle.begin(1, 0, 100, 3_100);
    let Draw::Drawn { last, .. } = oracle.draw(64, 100) else {
        panic!("drawn");
    };
    assert_eq!((last.physical_ms, last.logical), (100, 64));
    let full = oracle.draw(BATCH_MAX, 100);
    let Draw::Drawn { last, .. } = full else {
        panic!("drawn");
    };
    assert_eq!((last.physical_ms, last.logical), (101, BATCH_MAX - 1));
}

#[test]
fn a_clock_that_goes_back_is_not_followed() {
    let mut oracle = Oracle::default();
    oracle.begin(1, 0, 500, 3_500);
    oracle.draw(1, 700);
    let Draw::Drawn { last, .. } = oracle.draw(1, 20) else {
        panic!("drawn");
    };
    assert_eq!((last.physical_ms, last.logical), (700, 2));
}

#[test]
fn the_bound_is_never_reached() {
    let mut oracle = Oracle::default();
    oracle.begin(7, 0, 100, 1_200);
    assert_eq!(oracle.wanted_bound(1_200), None, "nobody has asked");
    assert_eq!(oracle.draw(1, 1_200), Draw::BoundReached);
    assert_eq!(oracle.wanted_bound(1_200), Some((7, 4_200)));
    oracle.raise_bound(6, 9_000);
    assert_eq!(
        oracle.draw(1, 1_200),
        Draw::BoundReached,
        "of an earlier term"
    );
    oracle.raise_bound(7, 4_200);
    assert!(matches!(oracle.draw(1, 1_200), Draw::Drawn { .. }));
    assert_eq!(oracle.wanted_bound(1_200), None);
}

/// What happens to a group of oracles over one persisted bound.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Draw { count: u32, clock_ms: u64 },
    Persist { clock_ms: u64 },
    FailOver { to: usize, clock_ms: u64 },
}

fn happening() -> impl Strategy<Value = Happening> {
    let clock = 0..20_000_u64;
    prop_oneof![
        4 => (1..=BATCH_MAX, clock.clone())
            .prop_map(|(count, clock_ms)| Happening::Draw { count, clock_ms }),
        2 => clock.clone().prop_map(|clock_ms| Happening::Persist { clock_ms }),
        1 => (0..3_usize, clock)
            .prop_map(|(to, clock_ms)| Happening::FailOver { to, clock_ms }),
    ]
}

proptest! {
    /// M9: whatever the clocks say and whoever leads, each batch lies above all before it.
    #[test]
    fn timestamps_strictly_increase(happenings in prop::collection::vec(happening(), 1..200)) {
        let mut members = vec![Oracle::default(); 3];
        let mut bound_ms = 0_u64;
        let mut leader = 0_usize;
        let mut term = 0_u64;
        let mut largest = 0_u64;
        for happening in happenings {
            match happening {
                Happening::FailOver { to, clock_ms } => {
                    members[leader].end();
                    leader = to;
                    term += 1;
                    let found = bound_ms;
                    bound_ms = bound_ms.max(Oracle::first_bound(found, clock_ms));
                    members[leader].begin(term, found, clock_ms, bound_ms);
                }
                Happening::Persist { clock_ms } => {
                    if let Some((of_term, wanted)) = members[leader].wanted_bound(clock_ms) {
                        bound_ms = bound_ms.max(wanted);
                        members[leader].raise_bound(of_term, wanted);
                    }
                }
                Happening::Draw { count, clock_ms } => {
                    if let Draw::Drawn { last, term: of_term } = members[leader].draw(count, clock_ms) {
                        prop_assert_eq!(of_term, term);
                        prop_assert!(last.physical_ms < bound_ms);
                        let first = last.version() - u64::from(count - 1);
                        prop_assert_eq!(first >> LOGICAL_BITS, last.physical_ms, "one millisecond");
                        prop_assert!(first > largest, "{} after {}", first, largest);
                        largest = last.version();
                    }
                }
            }
        }
    }
}

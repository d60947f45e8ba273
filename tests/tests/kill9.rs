//! Short runs of what the `kill9` binary does at length: real processes, real kills.

use std::path::Path;
use std::time::Duration;

use tinykv_tests::cluster::scenario;

/// Any of these tests is over by then, or has failed.
const TIME_LIMIT: Duration = Duration::from_secs(180);

fn within_limit<T>(work: impl Future<Output = Result<T, String>>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let result = runtime.block_on(async { tokio::time::timeout(TIME_LIMIT, work).await });
    match result {
        Ok(Ok(value)) => value,
        Ok(Err(problem)) => panic!("{problem}"),
        Err(_) => panic!("not done within {TIME_LIMIT:?}"),
    }
}

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_role"))
}

#[test]
fn no_acknowledged_record_is_lost_while_stores_die_in_turn() {
    let report = within_limit(scenario::rolling(binary(), 6_000, 16, 4));
    assert_eq!(report.kills, 4, "{report:?}");
    assert!(report.acknowledged > 5_000, "{report:?}");
    // Every write was answered, and all but those of unknown fate were found again.
    assert_eq!(
        report.acknowledged + report.undetermined,
        report.records as u64,
        "{report:?}"
    );
}

#[test]
fn writes_go_on_after_a_leader_store_dies() {
    let times = within_limit(scenario::failover(binary(), 3, 4));
    println!("{times}");
    assert!(!times.lost_leader.is_empty(), "no leader was killed");
    // The contract's two seconds are shown by the `kill9` binary on a quiet machine; here other
    // tests share two cores with seven processes.
    assert!(times.percentile(100) < 10_000, "{times}");
}

#[test]
fn no_acknowledged_write_is_lost_when_everything_dies_at_once() {
    let report = within_limit(scenario::power(binary(), 3, 8));
    assert!(report.acknowledged > 100, "{report:?}");
}

#[test]
fn no_call_fails_and_no_read_is_stale_while_regions_split_and_move() {
    let report = within_limit(scenario::moves(binary(), 4, Duration::ZERO, 4));
    println!("{report:?}");
    assert_eq!((report.splits, report.transfers), (4, 4), "{report:?}");
    assert!(report.moves >= 3, "{report:?}");
    assert!(
        report.load.writes > 0 && report.load.reads > 0,
        "{report:?}"
    );
}

#[test]
fn nothing_repeats_and_no_call_fails_while_placement_leaders_die() {
    let report = within_limit(scenario::placement(
        binary(),
        2,
        Duration::ZERO,
        Duration::from_secs(60),
        4,
    ));
    println!("{report:?}");
    assert_eq!(report.kills, 2, "{report:?}");
    assert!(report.drawn.ids > 0 && report.load.writes > 0, "{report:?}");
}

#[test]
fn the_store_that_differs_is_named_and_nobody_else() {
    let report = within_limit(scenario::difference(binary()));
    println!("{report:?}");
    assert!(report.regions > 0 && report.planted_on > 0, "{report:?}");
    assert_eq!(report.codes, (Some(0), Some(1)), "{report:?}");
    assert_eq!(report.odd, [report.planted_on], "{report:?}");
}

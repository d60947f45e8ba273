//! A short run of what the `chaos` binary does at length: processes in network namespaces, killed
//! and cut off, and the history of their clients checked. Needs root.

use std::path::Path;
use std::time::Duration;

use tinykv_tests::chaos::{self, End, Nemesis, Options};

#[test]
fn histories_are_linearizable_while_processes_die_and_are_cut_off() {
    let options = Options {
        nemeses: vec![Nemesis::Kill, Nemesis::Leaders],
        time: Duration::from_secs(12),
        seed: 1,
        keep: None,
        recovery_limit: Duration::from_secs(60),
        patience: Duration::from_secs(2),
        limit: Duration::from_secs(180),
    };
    let survived = |report: &chaos::Report| {
        println!("{report}");
        Ok(())
    };
    match chaos::run(Path::new(env!("CARGO_BIN_EXE_role")), &options, survived) {
        Ok(End::Done(reports, skipped)) => {
            assert_eq!((reports.len(), skipped.len()), (2, 0), "{skipped:?}");
        }
        Ok(End::Skipped(reason)) => println!("SKIPPED: {reason}"),
        Ok(End::Interrupted) => panic!("interrupted"),
        Err(problem) => panic!("{problem}"),
    }
}

//! libFuzzer over everything that decodes what stands in the files of a store.
//!
//! `./run TARGET SECONDS` (in this folder) builds it and runs one target on its corpus; the ordinary
//! tests of `tinykv-wal` and `tinykv-lsm` replay the corpora. `TINYKV_FUZZ_TARGET` names the target,
//! `TINYKV_FUZZ_SEED` a file to write its seed to.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

/// A target's name, what runs it, and its seed.
type Target = (&'static str, fn(&[u8]), fn() -> Vec<u8>);

fn targets() -> Vec<Target> {
    let lsm = tinykv_lsm::fuzzing::TARGETS.iter();
    let lsm = lsm.map(|target| (target.name, target.run, target.seed));
    let wal = tinykv_wal::fuzzing::TARGETS.iter();
    lsm.chain(wal.map(|target| (target.name, target.run, target.seed)))
        .collect()
}

/// The decoder asked for.
static RUN: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let wanted = std::env::var("TINYKV_FUZZ_TARGET").unwrap_or_default();
    let Some((_, run, seed)) = targets().into_iter().find(|(name, ..)| *name == wanted) else {
        let names: Vec<&str> = targets().into_iter().map(|(name, ..)| name).collect();
        panic!("TINYKV_FUZZ_TARGET must be one of {names:?}");
    };
    if let Some(path) = std::env::var_os("TINYKV_FUZZ_SEED") {
        std::fs::write(path, seed()).expect("the seed can be written");
    }
    run
});

fuzz_target!(init: { LazyLock::force(&RUN); }, |data: &[u8]| (*RUN)(data));

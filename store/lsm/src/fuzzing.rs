//! What decodes bytes from files, for the fuzzer in `store/fuzz` and for the ordinary tests, which
//! replay what the fuzzer kept.
//!
//! A checksum stands before each of these decoders, so what reaches them by chance is nothing; what
//! somebody means to reach them is what they must stand: no panic, no endless loop, and no memory
//! beyond a few times the bytes themselves. Checksums are made to hold, for they would keep the
//! fuzzer out.

#[path = "../../fuzz/target.rs"]
mod target;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use tinykv_env::SimEnv;

use crate::cache::BlockCache;
use crate::changes::Changes;
use crate::codec::{Reader, put_bytes};
use crate::table::fuzz;
use crate::tombstone::Fragments;
use crate::version::{
    FileContext, FileMeta, Graveyard, ManifestState, TableFile, Version, VersionEdit,
};

pub use target::Target;

/// All of this crate.
pub const TARGETS: [Target; 7] = [
    Target {
        name: "block",
        run: fuzz::block,
        seed: fuzz::block_seed,
    },
    Target {
        name: "footer",
        run: fuzz::footer,
        seed: fuzz::footer_seed,
    },
    Target {
        name: "index",
        run: fuzz::index,
        seed: fuzz::index_seed,
    },
    Target {
        name: "filter",
        run: fuzz::filter,
        seed: fuzz::filter_seed,
    },
    Target {
        name: "properties",
        run: fuzz::properties,
        seed: fuzz::properties_seed,
    },
    Target {
        name: "tombstones",
        run: tombstones,
        seed: tombstones_seed,
    },
    Target {
        name: "manifest",
        run: manifest,
        seed: manifest_seed,
    },
];

fn tombstones(data: &[u8]) {
    if let Ok(fragments) = Fragments::decode(data) {
        assert!(fragments.len() <= data.len());
        assert_eq!(
            Fragments::decode(&fragments.encode()),
            Ok(fragments.clone())
        );
        assert!(fragments.iter().all(|f| f.start < f.end));
    }
}

fn tombstones_seed() -> Vec<u8> {
    let fragments =
        Fragments::default()
            .with(&"b".into(), &"m".into(), 4)
            .with(&"d".into(), &"z".into(), 9);
    fragments.encode()
}

/// A MANIFEST whose frames verify: edits one after the other, each with its length before it.
fn manifest(data: &[u8]) {
    let mut state = ManifestState::default();
    let mut reader = Reader::new(data);
    while let Ok(bytes) = reader.bytes() {
        let Ok(edit) = VersionEdit::decode(bytes) else {
            return;
        };
        assert!(edit.added.len() + edit.removed.len() <= bytes.len());
        assert_eq!(VersionEdit::decode(&edit.encode()).as_ref(), Ok(&edit));
        if state.apply(&edit).is_err() {
            return;
        }
    }
    check_levels(&state);
}

/// A version of these tables has disjoint levels, or there is none.
fn check_levels(state: &ManifestState) {
    static NOWHERE: OnceLock<Arc<FileContext>> = OnceLock::new();
    let context = NOWHERE.get_or_init(|| {
        Arc::new(FileContext {
            env: SimEnv::new(1).shared(),
            dir: PathBuf::from("/none"),
            cache: Arc::new(BlockCache::new(0, 4096)),
            graveyard: Graveyard::default(),
            changes: Changes::default(),
        })
    });
    let tables = state.files.values();
    let tables: Vec<(usize, Arc<TableFile>)> = tables
        .map(|(level, meta)| (*level, TableFile::new(meta.clone(), context)))
        .collect();
    let Ok(version) = Version::from_files(Vec::new(), &tables) else {
        return;
    };
    for (level, tables) in version.levels().filter(|(level, _)| *level > 0) {
        let disjoint = |pair: &[Arc<TableFile>]| {
            let next = &pair[1].meta().range.start;
            pair[0].meta().range.ends_before(next)
        };
        assert!(
            tables.windows(2).all(disjoint),
            "level {level} overlaps itself"
        );
    }
}

fn manifest_seed() -> Vec<u8> {
    let properties = crate::table::Properties {
        smallest: "a".into(),
        largest: "m".into(),
        ..Default::default()
    };
    let meta = |number| FileMeta::from_parts(number, 4096, 7, &properties);
    let mut out = Vec::new();
    for number in 1..5u64 {
        let edit = VersionEdit {
            added: vec![(number as usize, meta(number))],
            removed: (1..number).filter(|n| number == 4 && *n == 2).collect(),
            last_sequence: number * 10,
            next_file: number + 1,
            ..VersionEdit::default()
        };
        put_bytes(&mut out, &edit.encode());
    }
    out
}

#[cfg(test)]
#[test]
fn whatever_the_fuzzer_kept_is_taken() {
    for target in &TARGETS {
        target::replay(target);
    }
}

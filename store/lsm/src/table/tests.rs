//! Blocks, filters, footers and whole tables, round trip and on garbage.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use tinykv_env::{Env, Prng, SimEnv};

use super::block::{Block, BlockBuilder, BlockIter};
use super::filter;
use super::format::{self, FOOTER_BYTES, Footer, Handle, Properties};
use super::{
    Fetch, Filter, Getter, Lookup, Table, TableIter, TableSettings, TableSource, TableWriter,
};
use crate::cache::BlockCache;
use crate::key::{self, Kind};
use crate::tombstone::Fragments;
use crate::{Compression, FilterKind, LsmError, LsmOptions, PrefixRule};

/// Internal keys in order, several versions of some.
fn keys(random: &mut Prng, count: u64) -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = (0..count)
        .map(|_| {
            let user = format!("user{:04}", random.below(count));
            let user = &user.as_bytes()[..random.between(4, 8) as usize];
            key::encode(user, random.between(1, 1000), Kind::Put)
        })
        .collect();
    keys.sort_by(|a, b| key::compare(a, b));
    keys.dedup();
    keys
}

fn block_of(keys: &[Vec<u8>], interval: usize) -> Vec<u8> {
    let mut builder = BlockBuilder::new(interval);
    for key in keys {
        builder.add(key, &key[..3]);
    }
    builder.finish()
}

#[test]
fn a_block_walks_both_ways() {
    for seed in 0..40 {
        let random = &mut Prng::new(seed);
        let count = random.between(1, 60);
        let keys = keys(random, count);
        let bytes = block_of(&keys, random.between(1, 20) as usize);
        let block = Arc::new(Block::parse(bytes.into()).expect("parse"));
        let mut iter = BlockIter::new(block, None);
        for _ in 0..60 {
            let target = key::encode_seek(
                format!("user{:04}", random.below(70)).as_bytes(),
                random.between(0, 1000),
            );
            let at = keys.partition_point(|key| key::compare(key, &target).is_lt());
            iter.seek(&target).expect("seek");
            assert_eq!(iter.valid(), at < keys.len());
            if !iter.valid() {
                iter.last().expect("last");
                assert_eq!(iter.key(), keys[keys.len() - 1]);
                continue;
            }
            assert_eq!(iter.key(), keys[at]);
            assert_eq!(iter.value_slice(), &keys[at][..3]);
            iter.prev().expect("prev");
            assert_eq!(iter.valid(), at > 0);
            if at > 0 {
                assert_eq!(iter.key(), keys[at - 1]);
                iter.next().expect("next");
                assert_eq!(iter.key(), keys[at]);
            }
        }
    }
}

/// Walks over anything that parses.
fn walk(bytes: Vec<u8>, target: &[u8], sequence: Option<u64>) {
    let Ok(block) = Block::parse(bytes.into()) else {
        return;
    };
    let block = Arc::new(block);
    let steps: [fn(&mut BlockIter, &[u8]) -> bool; 3] = [
        |iter, _| iter.first().is_ok(),
        |iter, _| iter.last().is_ok(),
        |iter, target| iter.seek(target).is_ok(),
    ];
    for step in steps {
        let mut iter = BlockIter::new(block.clone(), sequence);
        if !step(&mut iter, target) {
            continue;
        }
        let mut rest = 1000;
        while iter.valid() && rest > 0 && iter.next().is_ok() {
            rest -= 1;
        }
        if iter.last().is_ok() {
            while iter.valid() && rest > 0 && iter.prev().is_ok() {
                rest -= 1;
            }
        }
        assert!(rest > 0, "a walk that does not end");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_block_is_survived(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        restarts in 1u32..4,
        target in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        walk(bytes.clone(), &target, None);
        let mut bytes = bytes;
        bytes.extend_from_slice(&restarts.to_le_bytes());
        walk(bytes.clone(), &target, Some(9));
        walk(bytes, &target, None);
    }

    #[test]
    fn a_damaged_block_is_survived(seed: u64, at: usize, byte: u8) {
        let random = &mut Prng::new(seed);
        let mut bytes = block_of(&keys(random, 30), 4);
        let at = at % bytes.len();
        bytes[at] = byte;
        walk(bytes, &key::encode_seek(b"user0010", 500), None);
    }

    #[test]
    fn any_filter_footer_and_properties_are_survived(
        bytes in prop::collection::vec(any::<u8>(), 0..120),
        shift in 0u32..8,
        hash: u64,
    ) {
        if let Ok(filter) = Filter::parse(&bytes) {
            filter.may_contain(hash);
        }
        // A descriptor that fits, more or less.
        let segment = 1u32 << shift;
        let mut fitting = bytes.clone();
        fitting.splice(0..0, [0; 20]);
        fitting[8..12].copy_from_slice(&segment.to_le_bytes());
        fitting[12..16].copy_from_slice(&(segment - 1).to_le_bytes());
        let total = (bytes.len() as u32).saturating_sub(2 * segment);
        fitting[16..20].copy_from_slice(&total.to_le_bytes());
        if let Ok(filter) = Filter::parse(&fitting) {
            for hash in [hash, 0, u64::MAX, hash.rotate_left(32)] {
                filter.may_contain(hash);
            }
        }
        prop_assert!(Footer::decode(&bytes).is_err());
        if let Ok(properties) = Properties::decode(&bytes) {
            prop_assert_eq!(Properties::decode(&properties.encode()), Ok(properties));
        }
        prop_assert!(format::unframe(bytes.into(), 1, 2).is_err());
    }

    #[test]
    fn a_filter_never_denies_a_key(mut hashes in prop::collection::vec(any::<u64>(), 1..400)) {
        // Duplicates, as two keys with one hash would make them.
        hashes.extend_from_within(..hashes.len() / 2);
        if let Some(bytes) = filter::build(hashes.clone()) {
            let filter = Filter::parse(&bytes).expect("parse");
            for hash in hashes {
                prop_assert!(filter.may_contain(hash));
            }
        }
    }
}

#[test]
fn filters_of_all_sizes_are_built_and_skip_most() {
    let random = &mut Prng::new(3);
    for size in (1..200).chain([1000, 10_000]) {
        let hashes: Vec<u64> = (0..size).map(|_| random.next_u64()).collect();
        let bytes = filter::build(hashes.clone()).expect("distinct hashes");
        let filter = Filter::parse(&bytes).expect("parse");
        assert!(
            hashes.iter().all(|&hash| filter.may_contain(hash)),
            "{size}"
        );
        let wrong = (0..1000)
            .filter(|_| filter.may_contain(random.next_u64()))
            .count();
        assert!(wrong < 30, "{size}: {wrong} false positives in 1000");
    }
}

#[test]
fn a_footer_of_a_newer_format_says_so() {
    let footer = Footer {
        salt: 1,
        top_index: Handle { offset: 2, len: 3 },
        tombstones: Handle::default(),
        properties: Handle { offset: 4, len: 5 },
    };
    let mut bytes = footer.encode();
    assert_eq!(bytes.len(), FOOTER_BYTES);
    assert_eq!(Footer::decode(&bytes).expect("decode").0, footer);
    bytes[44..48].copy_from_slice(&9u32.to_le_bytes());
    let checksum = crc32c::crc32c(&bytes[..48]);
    bytes[48..52].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(Footer::decode(&bytes), Err(format::FooterError::Newer(9)));
}

fn settings() -> TableSettings {
    let options = LsmOptions {
        block_bytes: 100,
        index_partition_bytes: 100,
        compression: Compression::Lz4,
        ..LsmOptions::default()
    };
    TableSettings::new(&options, false)
}

fn source(path: &Path, sequence: Option<u64>) -> TableSource {
    TableSource {
        path: path.to_owned(),
        number: 1,
        tag: None,
        size: None,
        sequence,
    }
}

#[test]
fn a_table_taken_in_shows_its_sequence() {
    let env: Arc<dyn Env> = SimEnv::new(1).shared();
    env.create_dir_all(Path::new("/t")).expect("create_dir_all");
    let path = Path::new("/t/1.sst");
    let mut writer = TableWriter::create(&env, path, settings(), true).expect("create");
    // Keys that look like the trailer of the one before.
    let users: Vec<Vec<u8>> = (0..20u8)
        .flat_map(|n| [vec![n], vec![n, 0xff, 0xff, 0xff]])
        .collect();
    for user in &users {
        writer
            .add(&key::encode(user, 0, Kind::Put), user)
            .expect("add");
    }
    writer.finish(&Fragments::default()).expect("finish");
    let cache = Arc::new(BlockCache::new(1 << 20, 4096));
    let table = Table::open(&env, source(path, Some(50)), &cache).expect("open");
    let table = Arc::new(table);
    assert!(table.partitions().len() > 1);
    table.verify().expect("verify");
    for user in &users {
        for (sequence, visible) in [(49, false), (50, true), (51, true)] {
            let seek = key::encode_seek(user, sequence);
            let found = Getter::new(table.clone(), Fetch::Read)
                .get(user, &seek)
                .expect("get");
            match found {
                Lookup::Found(found) => assert!(visible && found.sequence == 50),
                other => assert!(!visible && other == Lookup::Missing),
            }
        }
    }
    let mut iter = TableIter::new(table, Fetch::Read);
    iter.last().expect("last");
    for user in users.iter().rev() {
        assert_eq!(iter.key(), key::encode(user, 50, Kind::Put));
        assert_eq!(iter.value(), Bytes::copy_from_slice(user));
        iter.prev().expect("prev");
    }
    assert!(!iter.valid());
}

/// Versions of a key in descending order of time, as versioned keys stand.
fn version(name: &str, time: u64) -> Vec<u8> {
    let mut user = name.as_bytes().to_vec();
    user.extend_from_slice(&(!time).to_be_bytes());
    user
}

#[test]
fn a_filter_over_prefixes_knows_all_versions() {
    let env: Arc<dyn Env> = SimEnv::new(1).shared();
    env.create_dir_all(Path::new("/t")).expect("create_dir_all");
    let path = Path::new("/t/1.sst");
    let settings = TableSettings {
        filter: FilterKind::Prefix(PrefixRule::new(8, b"v")),
        ..settings()
    };
    let mut writer = TableWriter::create(&env, path, settings, false).expect("create");
    let mut users = Vec::new();
    for number in 0..100 {
        // Some have so many versions that they fill several partitions.
        let versions = if number % 20 == 0 { 300 } else { 2 };
        let times = (0..versions).rev();
        users.extend(times.map(|time| version(&format!("v{number:03}"), time)));
    }
    for user in &users {
        writer
            .add(&key::encode(user, 7, Kind::Put), b"x")
            .expect("add");
    }
    writer.finish(&Fragments::default()).expect("finish");
    let cache = Arc::new(BlockCache::new(1 << 20, 4096));
    let table = Table::open(&env, source(path, None), &cache).expect("open");
    let table = Arc::new(table);
    for user in &users {
        let seek = key::encode_seek(user, key::SEQUENCE_MAX);
        let found = Getter::new(table.clone(), Fetch::Read)
            .get(user, &seek)
            .expect("get");
        assert!(matches!(found, Lookup::Found(_)), "{user:?}");
    }
    for number in 0..100 {
        let name = format!("v{number:03}");
        assert!(table.may_contain_versions(name.as_bytes(), 8), "{name}");
    }
    let absent = (0..1000).map(|number| format!("v{number:03}-"));
    let skipped = absent.filter(|name| !table.may_contain_versions(name.as_bytes(), 8));
    assert!(skipped.count() > 950);
    // Of these the filter knows nothing.
    assert!(table.may_contain_versions(b"v000-", 7));
    assert!(table.may_contain_versions(b"w000-", 8));
}

/// A walk forward reads far less often than there are blocks; jumps and walks backward read what
/// they need. All see the same.
#[test]
fn a_walk_forward_reads_ahead() {
    let env: Arc<dyn Env> = SimEnv::new(1).shared();
    env.create_dir_all(Path::new("/t")).expect("create_dir_all");
    let path = Path::new("/t/1.sst");
    let settings = TableSettings {
        index_partition_bytes: 4 << 10,
        compression: Compression::None,
        ..settings()
    };
    let mut writer = TableWriter::create(&env, path, settings, false).expect("create");
    let users: Vec<String> = (0..20_000).map(|n| format!("user{n:06}")).collect();
    for user in &users {
        let internal = key::encode(user.as_bytes(), 7, Kind::Put);
        writer.add(&internal, user.as_bytes()).expect("add");
    }
    let blocks = writer.finish(&Fragments::default()).expect("finish");
    let blocks = blocks.properties.data_blocks as usize;
    let open = |cache_bytes| {
        let cache = Arc::new(BlockCache::new(cache_bytes, 4096));
        let table = Table::open(&env, source(path, None), &cache).expect("open");
        Arc::new(table)
    };
    let forward = |table: &Arc<Table>, fetch| {
        let mut iter = TableIter::new(table.clone(), fetch);
        iter.first().expect("first");
        for user in &users {
            assert_eq!(key::user(iter.key()), user.as_bytes());
            assert_eq!(iter.value(), user.as_bytes());
            iter.next().expect("next");
        }
        assert!(!iter.valid());
        iter.reads()
    };
    let table = open(0);
    for fetch in [Fetch::Read, Fetch::ReadOnce, Fetch::FileOnly] {
        let reads = forward(&table, fetch);
        assert!(reads * 100 < blocks, "{reads} reads for {blocks} blocks");
    }
    let mut iter = TableIter::new(table, Fetch::Read);
    iter.last().expect("last");
    for user in users.iter().rev() {
        assert_eq!(key::user(iter.key()), user.as_bytes());
        iter.prev().expect("prev");
    }
    assert_eq!(iter.reads(), blocks, "backward every block is read alone");
    let cached = open(64 << 20);
    forward(&cached, Fetch::Read);
    assert_eq!(forward(&cached, Fetch::Read), 0, "all is in the cache");
}

#[test]
fn any_file_is_no_table() {
    let env: Arc<dyn Env> = SimEnv::new(1).shared();
    env.create_dir_all(Path::new("/t")).expect("create_dir_all");
    let cache = Arc::new(BlockCache::new(1 << 20, 4096));
    let random = &mut Prng::new(1);
    for number in 0..50 {
        let path = Path::new("/t").join(format!("{number}.sst"));
        let mut bytes = vec![0; random.below(300) as usize];
        random.fill(&mut bytes);
        let file = env.create(&path).expect("create");
        file.write_at(&bytes, 0).expect("write");
        let error = Table::open(&env, source(&path, None), &cache).expect_err("garbage");
        assert!(matches!(error, LsmError::Corruption { .. }), "{error}");
    }
}

//! Damage in every part of every file type: never a wrong answer (D7, L7).
//!
//! Whatever is done to a file, each later answer is either the right one or an error that names
//! the file. In tables, CURRENT and the synced part of the MANIFEST every byte is covered, so a
//! changed byte must also be found.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use tinykv_env::{Env, Prng, SimEnv};
use tinykv_lsm::{Compression, Lsm, LsmError, LsmOptions};

use crate::support::{Driver, Map, Model, Step, cases, history, tiny};

const DIR: &str = "/tree";
const KEYS: u64 = 60;

fn options() -> LsmOptions {
    LsmOptions {
        compression: Compression::None,
        // Two levels get tables, level 0 keeps some.
        l0_compaction_files: 3,
        ..tiny()
    }
}

/// A closed tree with tables in several levels, range tombstones and a table taken in.
fn build(seed: u64) -> (SimEnv, Map) {
    let env = SimEnv::new(seed);
    let mut driver = Driver::open(&env.shared(), Path::new(DIR), options()).expect("open");
    let mut model = Model::default();
    let mut steps = history(seed, 120, KEYS);
    steps.push(Step::Settle);
    let drop = (Bytes::from("k010"), Bytes::from("k012"));
    let entries = Map::from([(Bytes::from("k0103"), Bytes::from("taken in"))]);
    steps.push(Step::Ingest { drop, entries });
    for step in history(seed + 1, 25, KEYS) {
        if matches!(step, Step::Write(_)) {
            steps.push(step);
        }
    }
    for step in steps {
        driver.step(&step).expect("step");
        match &step {
            Step::Write(changes) => model.write(changes),
            Step::Ingest { drop, entries } => model.ingest(drop, entries),
            _ => {}
        }
    }
    driver.release().expect("release");
    driver.lsm.flush().expect("flush");
    let levels = driver.lsm.statistics().levels;
    assert!(
        levels.iter().filter(|level| level.files > 0).count() >= 2,
        "{levels:?}"
    );
    (env, model.map)
}

fn read(env: &dyn Env, path: &Path) -> Vec<u8> {
    let file = env.open(path).expect("open");
    let mut bytes = vec![0; file.len().expect("len") as usize];
    file.read_exact_at(&mut bytes, 0).expect("read");
    bytes
}

fn replace(env: &dyn Env, path: &Path, bytes: &[u8]) {
    let file = env.open(path).expect("open");
    file.set_len(0).expect("set_len");
    file.write_at(bytes, 0).expect("write");
}

/// Files of the tree except the lock.
fn files(env: &SimEnv) -> Vec<PathBuf> {
    let entries = env.list_dir(Path::new(DIR)).expect("list");
    let names = entries.iter().filter(|entry| entry.name != "LOCK");
    names
        .map(|entry| Path::new(DIR).join(&entry.name))
        .collect()
}

/// An error of damage names one of the damaged files, and a place in it.
fn check_error(error: &LsmError, damaged: &[&Path], what: &str) {
    let LsmError::Corruption { file, offset, .. } = error else {
        panic!("{what}: {error}");
    };
    assert!(damaged.contains(&file.as_path()), "{what}: {error}");
    let sentence = error.to_string();
    let named = sentence.contains(&file.display().to_string());
    assert!(named && sentence.contains(&offset.to_string()), "{error}");
}

/// Every key by `get` and by iterators; returns how many errors came up.
fn read_everything(lsm: &Lsm, map: &Map, note: &dyn Fn(&LsmError), what: &str) -> u64 {
    let mut errors = 0;
    let mut note = |error: LsmError| {
        note(&error);
        errors += 1;
    };
    let snapshot = lsm.snapshot();
    let absent = Bytes::from("k0101");
    for key in map.keys().chain([&absent]) {
        match snapshot.get(key) {
            Ok(value) => assert_eq!(value.as_ref(), map.get(key), "{what}: {key:?}"),
            Err(error) => note(error),
        }
    }
    if let Err(error) = scan(lsm, map, what) {
        note(error);
    }
    if let Err(error) = scan_back(lsm, map, what) {
        note(error);
    }
    errors
}

/// Until its first error a scan shows exactly the keys of the map.
fn scan(lsm: &Lsm, map: &Map, what: &str) -> Result<(), LsmError> {
    let mut iter = lsm.snapshot().iter(&[], &[])?;
    let mut expected = map.iter();
    while iter.next()? {
        let next = expected.next();
        assert_eq!(
            next,
            Some((&Bytes::copy_from_slice(iter.key()), &iter.value())),
            "{what}"
        );
    }
    assert_eq!(expected.next(), None, "{what}");
    Ok(())
}

fn scan_back(lsm: &Lsm, map: &Map, what: &str) -> Result<(), LsmError> {
    let mut iter = lsm.snapshot().iter(&[], &[])?;
    let mut expected = map.iter().rev();
    while iter.prev()? {
        let next = expected.next();
        assert_eq!(
            next,
            Some((&Bytes::copy_from_slice(iter.key()), &iter.value())),
            "{what}"
        );
    }
    assert_eq!(expected.next(), None, "{what}");
    Ok(())
}

/// Opens and reads; compacts and reads again. Returns how many errors came up.
fn examine(env: &SimEnv, map: &Map, damaged: &[&Path], what: &str) -> u64 {
    let note = |error: &LsmError| check_error(error, damaged, what);
    let lsm = match Lsm::open(env.shared(), Path::new(DIR), options()) {
        Ok(lsm) => lsm,
        Err(error) => {
            note(&error);
            return 1;
        }
    };
    let found = lsm.verify();
    found.iter().for_each(note);
    let errors = read_everything(&lsm, map, &note, what) + found.len() as u64;
    if let Err(error) = lsm.settle() {
        note(&error);
    }
    errors + read_everything(&lsm, map, &note, what)
}

/// Whether every byte of the file is covered by a checksum.
fn is_covered(path: &Path) -> bool {
    !path.to_string_lossy().contains("MANIFEST")
}

#[test]
fn a_changed_byte_is_found() {
    let mut found = 0;
    for seed in 0..cases(1) {
        let (env, map) = build(seed + 3);
        assert_eq!(examine(&env.duplicate(), &map, &[], "undamaged"), 0);
        let mut random = Prng::new(seed);
        for path in files(&env) {
            let len = read(&env, &path).len() as u64;
            let manifest = !is_covered(&path);
            let mut offset = 0;
            while offset < len {
                let what = format!("seed {seed}, {}, byte {offset}", path.display());
                let env = env.duplicate();
                env.flip(&path, offset, 1 << random.below(8)).expect("flip");
                let errors = examine(&env, &map, &[&path], &what);
                assert!(errors > 0 || manifest, "{what}: not found");
                found += u64::from(errors > 0);
                offset += random.between(1, if manifest { 400 } else { 50 });
            }
        }
    }
    assert!(found > 250, "only {found} damaged trees");
}

#[test]
fn zeroed_and_truncated_files_are_found() {
    for seed in 0..cases(1) {
        let (env, map) = build(seed + 30);
        let mut random = Prng::new(seed);
        for path in files(&env) {
            let bytes = read(&env, &path);
            for round in 0..16 {
                let at = random.below(bytes.len() as u64) as usize;
                let mut damaged = bytes.clone();
                let what = format!("seed {seed}, {} from {at}, round {round}", path.display());
                if round % 2 == 0 {
                    damaged.truncate(at);
                } else {
                    let end = (at + random.between(1, 512) as usize).min(bytes.len());
                    damaged[at..end].fill(0);
                }
                if damaged == bytes {
                    continue;
                }
                let env = env.duplicate();
                replace(&env, &path, &damaged);
                let errors = examine(&env, &map, &[&path], &what);
                assert!(errors > 0 || !is_covered(&path), "{what}: not found");
            }
        }
    }
}

/// A MANIFEST that lost its last edit is not taken for one that was torn by a crash.
#[test]
fn a_shortened_manifest_is_damage() {
    let (env, map) = build(5);
    let path = files(&env)
        .into_iter()
        .find(|path| !is_covered(path))
        .expect("a MANIFEST");
    let bytes = read(&env, &path);
    for cut in (0..bytes.len()).step_by(4096) {
        let env = env.duplicate();
        replace(&env, &path, &bytes[..cut]);
        let what = format!("cut at {cut}");
        let error = Lsm::open(env.shared(), Path::new(DIR), options()).expect_err(&what);
        assert!(error.to_string().contains("MANIFEST"), "{error}");
    }
    assert_eq!(examine(&env, &map, &[], "undamaged"), 0);
}

#[test]
fn swapped_and_missing_tables_are_found() {
    let (env, map) = build(6);
    let all = files(&env);
    let tables: Vec<&PathBuf> = all
        .iter()
        .filter(|path| path.extension().is_some())
        .collect();
    for pair in tables.windows(2) {
        let env = env.duplicate();
        let (a, b) = (read(&env, pair[0]), read(&env, pair[1]));
        replace(&env, pair[0], &b);
        replace(&env, pair[1], &a);
        assert!(
            examine(&env, &map, &[pair[0], pair[1]], "swapped") > 0,
            "{pair:?}"
        );
    }
    for path in &all {
        let env = env.duplicate();
        env.remove_file(path).expect("remove");
        let before = files(&env);
        let error = Lsm::open(env.shared(), Path::new(DIR), options()).expect_err("missing");
        let LsmError::Corruption { file, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(file, path);
        assert_eq!(files(&env), before, "nothing was written");
    }
}

/// Two blocks of a table that change places verify nowhere.
#[test]
fn moved_blocks_are_found() {
    let (env, map) = build(7);
    let random = &mut Prng::new(7);
    for path in files(&env).iter().filter(|path| path.extension().is_some()) {
        let bytes = read(&env, path);
        for _ in 0..20 {
            let len = random.between(32, 200) as usize;
            if bytes.len() < 2 * len {
                continue;
            }
            let a = random.below((bytes.len() - 2 * len) as u64) as usize;
            let b = random.between((a + len) as u64, (bytes.len() - len) as u64) as usize;
            let mut damaged = bytes.clone();
            damaged[a..a + len].copy_from_slice(&bytes[b..b + len]);
            damaged[b..b + len].copy_from_slice(&bytes[a..a + len]);
            if damaged == bytes {
                continue;
            }
            let env = env.duplicate();
            replace(&env, path, &damaged);
            let what = format!("{}: {a} and {b}, {len} bytes", path.display());
            assert!(examine(&env, &map, &[path], &what) > 0, "{what}: not found");
        }
    }
}

/// Sets the format version in `bytes` and makes the checksum right behind it hold.
fn make_newer(bytes: &mut [u8], begin: usize, version_at: usize) {
    bytes[version_at..version_at + 4].copy_from_slice(&9u32.to_le_bytes());
    let checksum = crc32c::crc32c(&bytes[begin..version_at + 4]);
    bytes[version_at + 4..version_at + 8].copy_from_slice(&checksum.to_le_bytes());
}

/// A newer version's files are told from damaged ones, and left alone.
#[test]
fn a_newer_format_is_refused_by_name() {
    let (whole, map) = build(8);
    for path in files(&whole) {
        let mut bytes = read(&whole, &path);
        let is_table = path.extension().is_some();
        if is_table {
            let footer = bytes.len() - 60;
            make_newer(&mut bytes, footer, footer + 44);
        } else if !is_covered(&path) {
            make_newer(&mut bytes, 4096, 4096 + 24);
        } else {
            continue;
        }
        let env = whole.duplicate();
        replace(&env, &path, &bytes);
        let before = files(&env);
        let check = |error: &LsmError| {
            assert!(matches!(error, LsmError::NewerFormat { .. }), "{error}");
            let name = path.display().to_string();
            assert!(error.to_string().contains(&name), "{error}");
        };
        match Lsm::open(env.shared(), Path::new(DIR), options()) {
            // Tables are opened when they are read.
            Ok(lsm) => {
                assert!(is_table);
                assert!(read_everything(&lsm, &map, &check, "newer") > 0);
            }
            Err(error) => {
                check(&error);
                assert_eq!(files(&env), before, "nothing was written");
            }
        }
    }
}

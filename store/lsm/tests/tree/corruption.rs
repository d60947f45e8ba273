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

/// Every key by `get` and by iterators; returns how many errors came up.
fn read_everything(lsm: &Lsm, map: &Map, what: &str) -> u64 {
    let mut errors = 0;
    let mut note = |error: LsmError| {
        assert!(
            matches!(
                error,
                LsmError::Corruption { .. } | LsmError::NewerFormat { .. }
            ),
            "{what}: {error}"
        );
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
fn examine(env: &SimEnv, map: &Map, what: &str) -> u64 {
    let lsm = match Lsm::open(env.shared(), Path::new(DIR), options()) {
        Ok(lsm) => lsm,
        Err(LsmError::Corruption { .. } | LsmError::NewerFormat { .. }) => return 1,
        Err(error) => panic!("{what}: {error}"),
    };
    let errors = read_everything(&lsm, map, what) + lsm.verify().len() as u64;
    if let Err(error) = lsm.settle() {
        assert!(
            matches!(error, LsmError::Corruption { .. }),
            "{what}: {error}"
        );
    }
    errors + read_everything(&lsm, map, what)
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
        assert_eq!(examine(&env.duplicate(), &map, "undamaged"), 0);
        let mut random = Prng::new(seed);
        for path in files(&env) {
            let len = read(&env, &path).len() as u64;
            let manifest = !is_covered(&path);
            let mut offset = 0;
            while offset < len {
                let what = format!("seed {seed}, {}, byte {offset}", path.display());
                let env = env.duplicate();
                env.flip(&path, offset, 1 << random.below(8)).expect("flip");
                let errors = examine(&env, &map, &what);
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
                let errors = examine(&env, &map, &what);
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
    assert_eq!(examine(&env, &map, "undamaged"), 0);
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
        assert!(examine(&env, &map, "swapped") > 0, "{pair:?}");
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
            assert!(examine(&env, &map, &what) > 0, "{what}: not found");
        }
    }
}

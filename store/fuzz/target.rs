//! A decoder under test; part of each crate that has some.

/// A decoder under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Also the name of its corpus.
    pub name: &'static str,
    /// Panics if the decoder is wrong about these bytes.
    pub run: fn(&[u8]),
    /// Something that it takes, to begin with.
    pub seed: fn() -> Vec<u8>,
}

/// What the ordinary tests do with a target: everything in its corpus, and its seed with damage.
#[cfg(test)]
pub(crate) fn replay(target: &Target) {
    use std::path::Path;

    use tinykv_env::{OsEnv, Prng};

    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let corpus = corpora.join(target.name);
    let files = OsEnv::shared()
        .list_dir(&corpus)
        .expect("there is a corpus");
    assert!(!files.is_empty(), "the corpus of {} is empty", target.name);
    for entry in files {
        let file = OsEnv::shared()
            .open(&corpus.join(&entry.name))
            .expect("open");
        let mut bytes = vec![0; entry.len as usize];
        file.read_exact_at(&mut bytes, 0).expect("read");
        (target.run)(&bytes);
    }
    let seed = (target.seed)();
    (target.run)(&seed);
    let mut random = Prng::new(1);
    for _ in 0..2000 {
        let mut bytes = seed.clone();
        for _ in 0..random.between(1, 4) {
            let at = random.below(bytes.len() as u64) as usize;
            match random.below(4) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = random.next_u64() as u8,
                2 => bytes[at] = 0xff,
                _ => bytes.insert(at, random.next_u64() as u8),
            }
        }
        if random.chance(8) {
            bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
        }
        (target.run)(&bytes);
    }
}

//! What a seed draws: how bad it is, how wrong the clocks are; and what has happened.

use std::collections::BTreeMap;
use std::time::Duration;

/// How bad it is, drawn from the seed. Chances are in 1/1000 of an event.
pub struct Environment {
    /// At most so many microseconds pass between two events.
    pub pace: u64,
    pub loss: u64,
    pub duplication: u64,
    pub reordering: u64,
    pub delay: u64,
    pub faults: u64,
    pub membership: u64,
    pub persist: u64,
    pub apply: u64,
}

/// A clock that is fast or slow.
pub struct Clock {
    pub percent: u32,
    pub offset: Duration,
    pub next_tick: Duration,
}

/// What happened, so that a run that tests nothing is noticed; and a digest of everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub events: BTreeMap<&'static str, u64>,
    digest: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        for (name, count) in &other.events {
            *self.events.entry(name).or_default() += count;
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.events.iter().map(|(name, count)| (*name, *count))
    }

    pub fn record(&mut self, text: &str) {
        let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        self.digest = text.bytes().fold(self.digest, fnv);
    }
}

impl Environment {
    pub fn draw(random: &mut Random) -> Environment {
        Environment {
            pace: random.pick(&[1_000, 4_000]),
            loss: random.pick(&[0, 5, 50, 200]),
            duplication: random.pick(&[0, 10, 100]),
            reordering: random.pick(&[0, 100, 500]),
            delay: random.pick(&[0, 10, 100, 300]),
            faults: random.pick(&[0, 2, 5, 10]),
            membership: random.pick(&[0, 10, 20, 20]),
            persist: random.pick(&[30, 150, 300]),
            apply: random.pick(&[30, 150, 300]),
        }
    }
}

impl Clock {
    pub fn at(&self, real: Duration) -> Duration {
        self.offset + real * self.percent / 100
    }
}

/// SplitMix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn one_of<T: Copy>(&mut self, list: &[T]) -> Option<T> {
        let length = u64::try_from(list.len()).expect("small");
        if length == 0 {
            return None;
        }
        list.get(usize::try_from(self.below(length)).expect("small"))
            .copied()
    }

    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        self.one_of(list).expect("not empty")
    }
}

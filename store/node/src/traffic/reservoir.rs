//! An even sample of a stream of unknown length in bounded memory (Vitter 1985, algorithm R).

use bytes::Bytes;

/// Longer keys are cut for a sample: a boundary before a prefix of a key is as good as one before
/// the key, unless keys differ only behind it.
pub const KEY_BYTES_MAX: usize = 1024;

/// What a request was about: one key, or all keys from one to another. Engine keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The lowest key.
    pub first: Bytes,
    /// The highest key, inclusive; that of a single key is `first`.
    pub last: Bytes,
}

impl Span {
    /// A single key.
    pub fn key(key: &[u8]) -> Span {
        let first = cut(key);
        Span {
            last: first.clone(),
            first,
        }
    }

    /// A range of keys.
    pub fn range(first: &[u8], last: &[u8]) -> Span {
        Span {
            first: cut(first),
            last: cut(last),
        }
    }
}

/// A copy, so that no request is kept in memory by what was sampled of it.
fn cut(key: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&key[..key.len().min(KEY_BYTES_MAX)])
}

/// One request that was sampled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The how-manieth request of all that were offered it was, from 0.
    pub position: u64,
    /// What it was about.
    pub span: Span,
}

/// Keeps each of all requests so far with the same probability.
#[derive(Clone, Debug)]
pub struct Reservoir {
    capacity: usize,
    samples: Vec<Sample>,
    offered: u64,
    random: u64,
}

impl Reservoir {
    /// An empty one for at most `capacity` samples, whose choices follow from `seed`.
    pub fn new(capacity: usize, seed: u64) -> Reservoir {
        Reservoir {
            capacity,
            samples: Vec::new(),
            offered: 0,
            random: seed,
        }
    }

    /// Takes or leaves the next request.
    pub fn offer(&mut self, span: Span) {
        let sample = Sample {
            position: self.offered,
            span,
        };
        self.offered += 1;
        if self.samples.len() < self.capacity {
            self.samples.push(sample);
            return;
        }
        let place = self.next_random() % self.offered;
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        if let Some(old) = self.samples.get_mut(place) {
            *old = sample;
        }
    }

    /// What was kept, in no order.
    pub fn into_samples(self) -> Vec<Sample> {
        self.samples
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_kept_with_the_same_probability() {
        const OFFERED: u64 = 10_000;
        const CAPACITY: usize = 100;
        let mut tenths = [0_u32; 10];
        for seed in 0..200 {
            let mut reservoir = Reservoir::new(CAPACITY, seed);
            for number in 0..OFFERED {
                reservoir.offer(Span::key(&number.to_be_bytes()));
            }
            let samples = reservoir.into_samples();
            assert_eq!(samples.len(), CAPACITY);
            for sample in samples {
                assert_eq!(sample.span, Span::key(&sample.position.to_be_bytes()));
                let tenth = usize::try_from(sample.position * 10 / OFFERED).expect("small");
                tenths[tenth] += 1;
            }
        }
        // 2,000 each are expected, with a standard deviation of 42.
        for kept in tenths {
            assert!((1_800..2_200).contains(&kept), "{tenths:?}");
        }
    }

    #[test]
    fn few_requests_are_all_kept_and_long_keys_are_cut() {
        let mut reservoir = Reservoir::new(8, 1);
        reservoir.offer(Span::range(b"a", b"c"));
        reservoir.offer(Span::key(&vec![7; 2 * KEY_BYTES_MAX]));
        let samples = reservoir.into_samples();
        assert_eq!(samples.len(), 2);
        assert_eq!(samples[0].span.last, Bytes::from_static(b"c"));
        assert_eq!(samples[1].span.first.len(), KEY_BYTES_MAX);
    }
}

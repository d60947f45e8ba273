//! The randomness of election timeouts: SplitMix64 (Steele et al. 2014), from the group's seed.

/// A sequence of numbers determined by its seed.
#[derive(Debug)]
pub(crate) struct Prng(u64);

impl Prng {
    pub(crate) fn new(seed: u64) -> Prng {
        Prng(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `from..upto`; `from` if that is empty.
    pub(crate) fn between(&mut self, from: u32, upto: u32) -> u32 {
        let width = u64::from(upto.saturating_sub(from).max(1));
        from + u32::try_from(self.next() % width).expect("below a u32")
    }
}

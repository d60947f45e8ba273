//! How large a seed's cluster is.

use tinykv_env::Prng;

use super::super::setup::Profile;

/// What there is of everything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) stores: usize,
    /// Members of the placement group; 0: the world does placement's work.
    pub(super) members: u64,
    /// How many times as many keys as usual.
    pub(super) keys_times: u64,
    pub(super) first_regions: usize,
    /// Regions beyond this are not split any more.
    pub(super) regions_max: usize,
    /// Ticks without a request after which groups of stores sleep.
    pub(super) hibernate_after: Option<u32>,
    /// One read in so many does without the lease; 0: none.
    pub(super) asks_one_in: u64,
}

impl Size {
    /// Mostly small, because small clusters meet each other's faults more often; some seeds have
    /// many stores, some many regions.
    pub(super) fn draw(profile: Profile, random: &mut Prng) -> Size {
        if profile == Profile::Three {
            return Size {
                stores: 3,
                members: 0,
                keys_times: 1,
                first_regions: 1,
                regions_max: 1,
                hibernate_after: None,
                asks_one_in: 20,
            };
        }
        let stores = match random.below(10) {
            0..4 => 3,
            4..8 => 4,
            _ => random.between(5, 7) as usize,
        };
        let members = match random.below(5) {
            0 => 1,
            1 | 2 => 3,
            _ => 0,
        };
        let has_many_regions = random.chance(25);
        let (keys_times, first_regions, regions_max) = match has_many_regions {
            true => (6, random.between(10, 30) as usize, 40),
            false => (1, random.between(1, 3) as usize, 8),
        };
        let hibernate_after = *random.pick(&[None, Some(5), Some(20)]).unwrap_or(&None);
        Size {
            stores,
            members,
            keys_times,
            first_regions,
            regions_max,
            hibernate_after,
            asks_one_in: 4 * random.below(2),
        }
    }
}

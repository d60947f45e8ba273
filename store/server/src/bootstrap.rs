//! The first regions of a cluster.
//!
//! A store that finds a cluster nobody has founded plans all edge regions (see `tinykv-keys`), each
//! with one peer on itself, with ids from placement. The plan is written to the data directory
//! and synced before placement is asked to accept it, so that a crash at any moment is made good
//! at the next start: the plan is offered again, and placement says whether it is the one that
//! counts. Peers are born only once it is. A store that lost against another one forgets its plan.
//! The plan is removed when its peers' births are durable.

use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tinykv_env::Env;
use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::{Birth, Peer, Region, RegionEpoch, RegionState, StoreId};

const PLAN: &str = "BOOTSTRAP";
const PLAN_NEW: &str = "BOOTSTRAP.new";
const FORMAT: u32 = 1;

/// Far above what a plan takes; a longer file is not ours.
const PLAN_BYTES_MAX: u64 = 64 << 10;

/// The first regions, as this store would have them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    format: u32,
    regions: Vec<Planned>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Planned {
    region: u64,
    peer: u64,
    start: Vec<u8>,
    end: Vec<u8>,
}

impl Plan {
    /// How many ids a plan takes: one for each region, one for each peer.
    pub fn ids_needed() -> u32 {
        2 * u32::try_from(tinykv_keys::bootstrap_regions().len()).expect("a handful")
    }

    /// The edge regions with these ids.
    ///
    /// # Panics
    /// When there are fewer than [`Plan::ids_needed`].
    pub fn new(mut ids: RangeInclusive<u64>) -> Plan {
        let mut next = || ids.next().expect("as many ids as were asked for");
        let regions = tinykv_keys::bootstrap_regions().into_iter();
        let regions = regions.map(|bounds| Planned {
            region: next(),
            peer: next(),
            start: bounds.start,
            end: bounds.end,
        });
        Plan {
            format: FORMAT,
            regions: regions.collect(),
        }
    }

    /// The regions, each with one peer on `store`.
    pub fn regions(&self, store: StoreId) -> Vec<Region> {
        let region = |planned: &Planned| Region {
            id: GroupId(planned.region),
            start: Bytes::copy_from_slice(&planned.start),
            end: Bytes::copy_from_slice(&planned.end),
            epoch: RegionEpoch::FIRST,
            peers: vec![Peer::voter(PeerId(planned.peer), store)],
        };
        self.regions.iter().map(region).collect()
    }

    /// What is to be born on `store`. Nothing is acknowledged before the regions are open (F4).
    pub fn births(&self, store: StoreId) -> Vec<Birth> {
        let birth = |region: Region| Birth {
            peer: region.peers[0],
            state: RegionState {
                region,
                open: false,
                machine: Bytes::new(),
                ..RegionState::default()
            },
        };
        self.regions(store).into_iter().map(birth).collect()
    }

    /// The plan an earlier start left in the data directory.
    pub fn load(env: &dyn Env, dir: &Path) -> io::Result<Option<Plan>> {
        let path = dir.join(PLAN);
        if !env.exists(&path)? {
            return Ok(None);
        }
        let file = env.open(&path)?;
        let len = usize::try_from(file.len()?.min(PLAN_BYTES_MAX)).unwrap_or(0);
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0)?;
        let damaged = |problem: &dyn std::fmt::Display| {
            let sentence = format!("{} is damaged: {problem}", path.display());
            io::Error::new(io::ErrorKind::InvalidData, sentence)
        };
        let plan: Plan = serde_json::from_slice(&bytes).map_err(|error| damaged(&error))?;
        match plan.format {
            FORMAT => Ok(Some(plan)),
            other => Err(damaged(&format!("format {other} is unknown"))),
        }
    }

    /// Makes the plan durable in the data directory.
    pub fn save(&self, env: &dyn Env, dir: &Path) -> io::Result<()> {
        let new = dir.join(PLAN_NEW);
        if env.exists(&new)? {
            env.remove_file(&new)?;
        }
        let file = env.create(&new)?;
        file.write_at(&serde_json::to_vec_pretty(self)?, 0)?;
        file.sync_data()?;
        env.rename(&new, &dir.join(PLAN))?;
        env.sync_dir(dir)
    }

    /// Forgets the plan, durably.
    pub fn remove(env: &dyn Env, dir: &Path) -> io::Result<()> {
        env.remove_file(&dir.join(PLAN))?;
        env.sync_dir(dir)
    }
}

#[cfg(test)]
mod tests {
    use tinykv_env::OsEnv;

    use super::*;

    #[test]
    fn the_regions_tile_the_space_and_no_id_is_used_twice() {
        let plan = Plan::new(100..=99 + u64::from(Plan::ids_needed()));
        let regions = plan.regions(StoreId(1));
        assert!(regions[0].start.is_empty());
        assert!(regions[regions.len() - 1].end.is_empty());
        for pair in regions.windows(2) {
            assert_eq!(pair[0].end, pair[1].start);
            assert!(!pair[0].end.is_empty());
        }
        let ids = regions
            .iter()
            .flat_map(|region| [region.id.0, region.peers[0].id.0]);
        let mut ids: Vec<u64> = ids.collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 2 * regions.len());
    }

    #[test]
    fn a_plan_survives_a_restart_until_it_is_removed() {
        let temp = tempfile::tempdir().expect("temp dir");
        let (env, dir) = (OsEnv::shared(), temp.path());
        assert_eq!(Plan::load(env.as_ref(), dir).expect("none"), None);
        let plan = Plan::new(1..=64);
        plan.save(env.as_ref(), dir).expect("save");
        plan.save(env.as_ref(), dir).expect("save again");
        assert_eq!(Plan::load(env.as_ref(), dir).expect("load"), Some(plan));
        Plan::remove(env.as_ref(), dir).expect("remove");
        assert_eq!(Plan::load(env.as_ref(), dir).expect("none"), None);
    }

    #[test]
    fn a_damaged_plan_is_named() {
        let temp = tempfile::tempdir().expect("temp dir");
        std::fs::write(temp.path().join(PLAN), "{").expect("write");
        let env = OsEnv::shared();
        let error = Plan::load(env.as_ref(), temp.path()).expect_err("damaged");
        assert!(
            error.to_string().contains("BOOTSTRAP is damaged"),
            "{error}"
        );
    }
}

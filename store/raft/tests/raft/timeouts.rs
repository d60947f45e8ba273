//! Election timeouts: within their limits, different from peer to peer and from wait to wait.

use std::collections::BTreeSet;
use std::time::Duration;

use tinykv_raft::{Config, Configuration, Initial, PeerId, Raft, Role};

const TICK: Duration = Duration::from_millis(50);

fn peer(id: u64, seed: u64) -> Raft {
    let configuration = Configuration {
        voters: (1..=5).map(PeerId).collect(),
        ..Configuration::default()
    };
    let config = Config::new(PeerId(id), seed);
    Raft::new(config, Initial::new(configuration, Duration::ZERO))
}

/// Ticks until each of the next campaigns.
fn waits(raft: &mut Raft, count: usize) -> Vec<u32> {
    let mut now = Duration::ZERO;
    let mut waits = Vec::new();
    let mut ticks = 0;
    while waits.len() < count {
        now += TICK;
        ticks += 1;
        raft.tick(now);
        let asks = raft.ready(now).is_some_and(|ready| !ready.send.is_empty());
        if asks {
            assert_eq!(raft.role(), Role::PreCandidate);
            waits.push(ticks);
            ticks = 0;
        }
    }
    waits
}

#[test]
fn a_peer_campaigns_within_the_limits() {
    let config = Config::new(PeerId(1), 0);
    let limits = config.election_ticks_min..config.election_ticks_max;
    let mut seen = BTreeSet::new();
    for seed in 0..20 {
        let waits = waits(&mut peer(1, seed), 20);
        assert!(waits.iter().all(|wait| limits.contains(wait)), "{waits:?}");
        seen.extend(waits);
    }
    assert_eq!(seen, limits.collect(), "every timeout is drawn at times");
}

#[test]
fn peers_seldom_campaign_in_the_same_tick() {
    let mut conflicts = 0;
    for seed in 0..200 {
        let first: Vec<u32> = (1..=5)
            .map(|id| waits(&mut peer(id, 5 * seed + id), 1)[0])
            .collect();
        let earliest = first.iter().min();
        let count = first.iter().filter(|it| Some(*it) == earliest).count();
        conflicts += u32::from(count > 1);
    }
    assert!(
        conflicts < 100,
        "{conflicts} of 200 elections begin in conflict"
    );
}

//! What a script can wait for, expect and rule out.

use tinykv_raft::GroupId;
use tinykv_replica::{PeerRole, StoreId};

use super::super::Cluster;
use super::super::post::Pattern;
use super::{group, number};

impl Cluster {
    /// Whether something is so now. The words are in the documentation of the scripts.
    pub(super) fn is_so(&self, words: &[&str]) -> bool {
        let store = |word: &&str| &self.stores[number(word) as usize - 1];
        match words {
            ["not", rest @ ..] => !self.is_so(rest),
            [at, "has", id] => {
                let shard = store(at).shard.as_ref();
                shard.is_some_and(|shard| shard.peer(group(id)).is_some())
            }
            [at, "serves", id] => store(at).regions.contains_key(&group(id)),
            [at, "buried", id] => store(at).dead.iter().any(|dead| dead.0 == group(id)),
            [at, "is", role, "of", id] => {
                let region = self.newest(group(id));
                let peer = region.and_then(|it| it.region.peer_on(StoreId(number(at))));
                peer.is_some_and(|peer| role_name(peer.role) == *role)
            }
            [at, "sees", id, rest @ ..] => {
                let state = store(at).regions.get(&group(id));
                state.is_some_and(|(_, state)| describes(state, rest))
            }
            [at, "leads", id] => self.leader_store(group(id)) == Some(number(at)),
            [at, "has-all-of", id] => self.has_all(number(at), group(id)),
            [at, "unsynced", count] => store(at).wal.pending.len() as u64 >= number(count),
            [id, "lives"] => self.lives_anywhere(group(id)),
            [id, "led"] => self.leader_store(group(id)).is_some(),
            ["held", pattern @ ..] => self.post.waiting(&pattern_of(pattern)) > 0,
            ["frozen", count] => self.figures.frozen as u64 == number(count),
            ["thawed", count] => self.figures.thawed as u64 == number(count),
            ["merged", count] => self.figures.merged as u64 == number(count),
            [id, rest @ ..] => {
                let state = self.newest(group(id));
                state.is_some_and(|state| describes(&state, rest))
            }
            [] => panic!("a condition has words"),
        }
    }

    /// Whether a peer's log is as long as its leader's.
    fn has_all(&self, store: u64, group: GroupId) -> bool {
        let last = |store: u64| {
            let shard = self.stores[store as usize - 1].shard.as_ref()?;
            Some(shard.status(group)?.raft.last)
        };
        let leader = self.leader_store(group);
        leader.is_some_and(|leader| last(leader).is_some() && last(leader) == last(store))
    }
}

pub(super) fn pattern_of(words: &[&str]) -> Pattern {
    Pattern::parse(words)
        .unwrap_or_else(|| panic!("{words:?} is not KIND FROM -> TO of GROUP, each may be *"))
}

fn describes(state: &tinykv_replica::RegionState, words: &[&str]) -> bool {
    let region = &state.region;
    match words {
        ["over", start, end] => region.start == start.as_bytes() && region.end == end.as_bytes(),
        ["epoch", epoch] => {
            let (conf_ver, version) = epoch.split_once('/').expect("CONF_VER/VERSION");
            let is = (region.epoch.conf_ver, region.epoch.version);
            is == (number(conf_ver), number(version))
        }
        ["joint"] => region.is_joint(),
        ["is-frozen"] => state.merges.freeze().is_some(),
        ["absorbed", id] => state.merges.has_absorbed(group(id)),
        ["peers", count] => region.peers.len() as u64 == number(count),
        _ => panic!("unknown condition: {words:?}"),
    }
}

fn role_name(role: PeerRole) -> &'static str {
    match role {
        PeerRole::Voter => "voter",
        PeerRole::Learner => "learner",
        PeerRole::IncomingVoter => "incoming",
        PeerRole::LeavingVoter => "leaving",
        PeerRole::DemotingVoter => "demoting",
    }
}

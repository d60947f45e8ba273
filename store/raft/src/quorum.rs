//! Majorities, of simple and of joint configurations (Raft §4.3).

use std::collections::{BTreeMap, BTreeSet};

use tinykv_mutants::{Mutant, planted};

use crate::types::{Configuration, PeerId};

/// How an election stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Won,
    Lost,
    Open,
}

impl Configuration {
    /// Whether this peer's vote counts.
    pub fn is_voter(&self, peer: PeerId) -> bool {
        self.voters.contains(&peer) || self.voters_outgoing.contains(&peer)
    }

    /// Whether no other peer's vote counts.
    pub(crate) fn is_only_voter(&self, peer: PeerId) -> bool {
        self.is_voter(peer) && self.all_voters().len() == 1
    }

    /// Whether this peer belongs to the group.
    pub fn contains(&self, peer: PeerId) -> bool {
        self.is_voter(peer) || self.learners.contains(&peer)
    }

    /// Everybody whose vote counts.
    pub(crate) fn all_voters(&self) -> BTreeSet<PeerId> {
        self.voters.union(&self.voters_outgoing).copied().collect()
    }

    /// Everybody.
    pub(crate) fn peers(&self) -> BTreeSet<PeerId> {
        self.all_voters().union(&self.learners).copied().collect()
    }

    /// The largest value that a majority of each half has reached; `None` without voters.
    pub(crate) fn quorum_value<T: Ord + Copy>(&self, value: impl Fn(PeerId) -> T) -> Option<T> {
        let mut incoming = majority_value(&self.voters, &value)?;
        if planted(Mutant::LearnerCounted) {
            let best = |peers: &BTreeSet<PeerId>| peers.iter().map(|peer| value(*peer)).max();
            incoming = best(&self.learners)
                .min(best(&self.voters))
                .map_or(incoming, |learnt| incoming.max(learnt));
        }
        match majority_value(&self.voters_outgoing, &value) {
            Some(outgoing) if !planted(Mutant::JointHalfCounted) => Some(incoming.min(outgoing)),
            Some(_) | None => Some(incoming),
        }
    }

    /// Whether a majority of each half satisfies the predicate.
    pub(crate) fn has_quorum(&self, predicate: impl Fn(PeerId) -> bool) -> bool {
        self.quorum_value(predicate).unwrap_or(false)
    }

    /// How an election with these votes stands; votes of others than voters do not count.
    pub(crate) fn verdict(&self, votes: &BTreeMap<PeerId, bool>) -> Verdict {
        if self.has_quorum(|peer| votes.get(&peer) == Some(&true)) {
            Verdict::Won
        } else if self.has_quorum(|peer| votes.get(&peer) != Some(&false)) {
            Verdict::Open
        } else {
            Verdict::Lost
        }
    }
}

/// The largest value that a majority has reached. Quadratic, and for at most a handful of voters
/// cheaper than sorting a copy.
fn majority_value<T: Ord + Copy>(
    voters: &BTreeSet<PeerId>,
    value: impl Fn(PeerId) -> T,
) -> Option<T> {
    let majority = match planted(Mutant::HalfIsEnough) {
        true => voters.len().div_ceil(2),
        false => voters.len() / 2 + 1,
    };
    let reached = |least: T| voters.iter().filter(|peer| value(**peer) >= least).count();
    voters
        .iter()
        .map(|peer| value(*peer))
        .filter(|candidate| reached(*candidate) >= majority)
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(ids: &[u64]) -> BTreeSet<PeerId> {
        ids.iter().copied().map(PeerId).collect()
    }

    fn configuration(voters: &[u64], outgoing: &[u64]) -> Configuration {
        Configuration {
            voters: peers(voters),
            voters_outgoing: peers(outgoing),
            ..Configuration::default()
        }
    }

    #[test]
    fn a_majority_of_each_half_decides() {
        let value = |peer: PeerId| peer.0 * 10;
        assert_eq!(configuration(&[], &[]).quorum_value(value), None);
        assert_eq!(configuration(&[7], &[]).quorum_value(value), Some(70));
        assert_eq!(configuration(&[1, 2], &[]).quorum_value(value), Some(10));
        assert_eq!(configuration(&[1, 2, 3], &[]).quorum_value(value), Some(20));
        assert_eq!(
            configuration(&[1, 2, 3, 4], &[]).quorum_value(value),
            Some(20)
        );
        assert_eq!(
            configuration(&[3, 4, 5], &[1, 2, 3]).quorum_value(value),
            Some(20)
        );
        assert_eq!(
            configuration(&[1, 2, 3], &[3, 4, 5]).quorum_value(value),
            Some(20)
        );
    }

    #[test]
    fn votes_of_others_do_not_count() {
        let votes =
            |list: &[(u64, bool)]| list.iter().map(|(id, yes)| (PeerId(*id), *yes)).collect();
        let three = configuration(&[1, 2, 3], &[]);
        assert_eq!(three.verdict(&votes(&[(1, true)])), Verdict::Open);
        assert_eq!(
            three.verdict(&votes(&[(1, true), (8, true), (9, true)])),
            Verdict::Open
        );
        assert_eq!(three.verdict(&votes(&[(1, true), (2, true)])), Verdict::Won);
        assert_eq!(
            three.verdict(&votes(&[(1, true), (2, false)])),
            Verdict::Open
        );
        assert_eq!(
            three.verdict(&votes(&[(1, true), (2, false), (3, false)])),
            Verdict::Lost
        );
        let joint = configuration(&[1, 2, 3], &[1, 4, 5]);
        assert_eq!(
            joint.verdict(&votes(&[(1, true), (2, true)])),
            Verdict::Open
        );
        assert_eq!(
            joint.verdict(&votes(&[(1, true), (2, true), (4, true)])),
            Verdict::Won
        );
        assert_eq!(
            joint.verdict(&votes(&[(2, true), (4, false), (5, false)])),
            Verdict::Lost
        );
        assert_eq!(
            configuration(&[], &[]).verdict(&votes(&[(1, true)])),
            Verdict::Lost
        );
    }
}

//! The replica checker: every region reaches its replica count and keeps it.
//!
//! In this order, the first that applies: finish a learner; remove a learner nobody wants; add a
//! missing voter; remove a voter too many; replace a voter on a store that is down or leaving, or
//! that is damaged. New peers go to the store that is the farthest from the other replicas, among
//! those to the one with the fewest regions, and only to stores that are heard: one that has merely
//! joined gets nothing.
//!
//! A damaged peer never comes back under its id and is never mended in place (D6): its successor
//! is built elsewhere, or, if every other store has a peer already, it is removed first, and the
//! store gets a new peer under a new id.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use tinykv_replica::{Peer, StoreId};

use super::locations::{Closeness, Locations};
use super::reason::{Fact, Loser, Reason, Rule, Why};
use super::safety::{is_damaged, is_healthy, may_remove};
use super::scales::enough;
use super::step::Step;
use super::{Action, Decision};
use crate::state::Settings;
use crate::view::{ClusterView, Counts, RegionView, StoreState};

/// Checks every region; at most `room` decisions.
pub(super) fn check(
    view: &ClusterView,
    settings: &Settings,
    now: Duration,
    room: usize,
) -> Vec<Decision> {
    let mut checker = Checker {
        view,
        settings,
        now,
        load: load(view),
        locations: Locations::new(view, settings),
    };
    let mut decisions = Vec::new();
    for region in view.regions.values() {
        if decisions.len() == room {
            break;
        }
        let busy = view.operators.contains_key(&region.region.id);
        if busy || region.leader.is_none() || region.is_joint() {
            continue;
        }
        if view.is_left_alone(region, settings, now) {
            continue;
        }
        if let Some((action, reason)) = checker.check(region) {
            checker.note(&action);
            decisions.push(Decision {
                region: region.region.id,
                epoch: region.region.epoch,
                action,
                reason,
            });
        }
    }
    decisions
}

/// What is known of a region that nothing can be planned for, and, if it only lacks a store to go
/// to, the stores that cannot take a peer of it.
pub(super) fn why_stuck(
    view: &ClusterView,
    settings: &Settings,
    region: &RegionView,
    now: Duration,
) -> Option<Reason> {
    let checker = Checker {
        view,
        settings,
        now,
        load: load(view),
        locations: Locations::new(view, settings),
    };
    if region.is_joint() || checker.check(region).is_some() {
        return None;
    }
    let mut reason = checker.reason(region, Rule::OfflineReplica);
    if region.voters().count() != view.replicas_wanted as usize {
        return Some(reason);
    }
    let leaving = checker.leaving(region);
    let target = checker.choose_target(region, leaving, &mut reason);
    target.is_none().then_some(reason)
}

/// What a store has and what is on its way to it.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    counts: Counts,
    additions: u32,
}

/// Counts of now, and of what running operators will make of them.
fn load(view: &ClusterView) -> BTreeMap<StoreId, Load> {
    let mut load: BTreeMap<StoreId, Load> = view
        .counts()
        .into_iter()
        .map(|(store, counts)| {
            (
                store,
                Load {
                    counts,
                    additions: 0,
                },
            )
        })
        .collect();
    for (id, operator) in view.operators.iter() {
        for step in operator.remaining() {
            let Step::AddLearner { peer, store } = step else {
                continue;
            };
            let entry = load.entry(*store).or_default();
            entry.additions += 1;
            let there = view
                .regions
                .get(id)
                .is_some_and(|region| region.region.peer(*peer).is_some());
            entry.counts.regions += u32::from(!there);
        }
    }
    load
}

/// Of a voter: it is healthy, it stays, how close it is to the others, it leads, and the regions
/// on its store, as less than nothing.
type Usefulness = (bool, bool, Reverse<Closeness>, bool, i64);

struct Checker<'a> {
    view: &'a ClusterView,
    settings: &'a Settings,
    now: Duration,
    load: BTreeMap<StoreId, Load>,
    locations: Locations<'a>,
}

impl Checker<'_> {
    fn check(&self, region: &RegionView) -> Option<(Action, Reason)> {
        let wanted = self.view.replicas_wanted as usize;
        let voters = region.voters().count();
        self.check_learners(region, voters < wanted)
            .or_else(|| {
                let missing = voters < wanted && region.learners().next().is_none();
                missing
                    .then(|| self.add(region, Rule::MissingReplica))
                    .flatten()
            })
            .or_else(|| {
                (voters > wanted)
                    .then(|| self.remove_extra(region))
                    .flatten()
            })
            .or_else(|| (voters == wanted).then(|| self.replace(region)).flatten())
    }

    fn check_learners(&self, region: &RegionView, voter_missing: bool) -> Option<(Action, Reason)> {
        let learner = region.learners().next()?;
        let damaged = is_damaged(self.view, region, learner);
        let lost = matches!(
            self.state(learner.store),
            StoreState::Down | StoreState::Unknown | StoreState::Tombstone
        );
        if voter_missing && !lost && !damaged {
            let action = Action::PromoteLearner {
                peer: learner.id,
                store: learner.store,
            };
            return Some((action, self.reason(region, Rule::UnfinishedReplica)));
        }
        let action = Action::RemovePeer {
            peer: learner.id,
            from: learner.store,
            leader_to: None,
        };
        let rule = match damaged {
            true => Rule::DamagedReplica,
            false => Rule::ExtraLearner,
        };
        Some((action, self.reason(region, rule)))
    }

    fn add(&self, region: &RegionView, rule: Rule) -> Option<(Action, Reason)> {
        let mut reason = self.reason(region, rule);
        let to = self.choose_target(region, None, &mut reason)?;
        Some((Action::AddReplica { to }, reason))
    }

    /// Of several voters too many the least useful goes: first whoever is not healthy, then
    /// whoever leaves, then the closest to others, then rather a follower, then from the fullest
    /// store.
    fn remove_extra(&self, region: &RegionView) -> Option<(Action, Reason)> {
        let mut reason = self.reason(region, Rule::ExtraReplica);
        let mut ranked: Vec<(Usefulness, Peer)> = Vec::new();
        for peer in region.voters() {
            if !may_remove(self.view, region, peer.id, self.settings, self.now) {
                reason.losers.push(Loser {
                    store: peer.store,
                    why: Why::Needed,
                });
                continue;
            }
            let healthy = is_healthy(self.view, region, peer, self.settings, self.now);
            let staying = self.state(peer.store) != StoreState::Offline;
            let leads = region.leader.is_some_and(|leader| leader.id == peer.id);
            let close = Reverse(self.closeness(region, Some(peer), peer.store));
            let fewest = -self.regions_on(peer.store);
            ranked.push(((healthy, staying, close, leads, fewest), peer));
        }
        // Among equals the newest peer goes.
        ranked.sort_by_key(|(rank, peer)| (*rank, Reverse(peer.id)));
        let mut ranked = ranked.into_iter();
        let (rank, peer) = ranked.next()?;
        reason.chosen = Some((peer.store, rank.4));
        reason.losers.extend(ranked.map(|(rank, peer)| Loser {
            store: peer.store,
            why: Why::Score(rank.4),
        }));
        Some((self.removal(region, peer)?, reason))
    }

    /// A voter on a store that is down or leaving, or damaged, is replaced by one elsewhere.
    fn replace(&self, region: &RegionView) -> Option<(Action, Reason)> {
        region.voters().find_map(|peer| {
            let rule = self.why_leave(region, peer)?;
            let mut reason = self.reason(region, rule);
            let action = match self.choose_target(region, Some(peer), &mut reason) {
                Some(to) => Action::ReplaceReplica {
                    old: peer.id,
                    from: peer.store,
                    to,
                },
                None if rule == Rule::DamagedReplica => self.make_room(region, peer)?,
                None => return None,
            };
            Some((action, reason))
        })
    }

    fn why_leave(&self, region: &RegionView, peer: Peer) -> Option<Rule> {
        match self.state(peer.store) {
            StoreState::Down | StoreState::Unknown | StoreState::Tombstone => {
                Some(Rule::DownReplica)
            }
            StoreState::Offline => Some(Rule::OfflineReplica),
            _ if is_damaged(self.view, region, peer) => Some(Rule::DamagedReplica),
            StoreState::Joined | StoreState::Up | StoreState::Disconnected => None,
        }
    }

    /// The first voter that has to be replaced.
    fn leaving(&self, region: &RegionView) -> Option<Peer> {
        let mut voters = region.voters();
        voters.find(|peer| self.why_leave(region, *peer).is_some())
    }

    /// A damaged voter goes first, and its store gets another one afterwards: only where no other
    /// store could take a peer, and most of the voters wanted stay and are healthy.
    fn make_room(&self, region: &RegionView, peer: Peer) -> Option<Action> {
        let mut stores = self.view.stores.keys();
        let elsewhere = stores.any(|store| {
            self.state(*store) == StoreState::Up
                && region.region.peer_on(*store).is_none()
                && !self.is_too_close(region, Some(peer), *store)
        });
        let staying = region.voters().filter(|other| {
            other.id != peer.id && is_healthy(self.view, region, *other, self.settings, self.now)
        });
        let enough = staying.count() > self.view.replicas_wanted as usize / 2;
        if elsewhere || !enough {
            return None;
        }
        self.removal(region, peer)
    }

    fn removal(&self, region: &RegionView, peer: Peer) -> Option<Action> {
        let leads = region.leader.is_some_and(|leader| leader.id == peer.id);
        let leader_to = if leads {
            let successor = region.voters().find(|other| {
                other.id != peer.id
                    && is_healthy(self.view, region, *other, self.settings, self.now)
            })?;
            Some(successor.store)
        } else {
            None
        };
        Some(Action::RemovePeer {
            peer: peer.id,
            from: peer.store,
            leader_to,
        })
    }

    /// The store for a new peer, `leaving` apart: the farthest from the others, then the one with
    /// the fewest regions.
    fn choose_target(
        &self,
        region: &RegionView,
        leaving: Option<Peer>,
        reason: &mut Reason,
    ) -> Option<StoreId> {
        let mut best: Option<(Closeness, i64, StoreId)> = None;
        let mut candidates = Vec::new();
        for store in self.view.stores.keys() {
            match self.reject(region, leaving, *store) {
                Some(why) => reason.losers.push(Loser { store: *store, why }),
                None => {
                    let close = self.closeness(region, leaving, *store);
                    let candidate = (close, self.regions_on(*store), *store);
                    candidates.push(candidate);
                    if best.is_none_or(|best| candidate < best) {
                        best = Some(candidate);
                    }
                }
            }
        }
        let (closest, score, chosen) = best?;
        reason.chosen = Some((chosen, score));
        let others = candidates.into_iter().filter(|other| other.2 != chosen);
        reason
            .losers
            .extend(others.map(|(close, score, store)| Loser {
                store,
                why: match close == closest {
                    true => Why::Score(score),
                    false => Why::Isolation,
                },
            }));
        Some(chosen)
    }

    /// How close a peer on the store would be to the others, but for the one that leaves.
    fn closeness(&self, region: &RegionView, leaving: Option<Peer>, store: StoreId) -> Closeness {
        self.locations.closeness(store, staying(region, leaving))
    }

    fn is_too_close(&self, region: &RegionView, leaving: Option<Peer>, store: StoreId) -> bool {
        self.locations.is_too_close(store, staying(region, leaving))
    }

    fn reject(&self, region: &RegionView, leaving: Option<Peer>, store: StoreId) -> Option<Why> {
        let known = self.view.stores.get(&store)?;
        let additions = self.load.get(&store).map_or(0, |load| load.additions);
        if region.region.peer_on(store).is_some() {
            Some(Why::HasPeer)
        } else if self.state(store) != StoreState::Up {
            Some(Why::NotUp)
        } else if known.stats.is_busy || known.stats.is_stopping {
            Some(Why::Busy)
        } else if let Some(why) = enough(self.view, store, additions, self.settings) {
            Some(why)
        } else if self.is_too_close(region, leaving, store) {
            Some(Why::Isolation)
        } else {
            None
        }
    }

    /// Counts a decision of this plan, so that the next ones see its effect.
    fn note(&mut self, action: &Action) {
        if let Action::AddReplica { to } | Action::ReplaceReplica { to, .. } = action {
            let load = self.load.entry(*to).or_default();
            load.additions += 1;
            load.counts.regions += 1;
        }
    }

    fn reason(&self, region: &RegionView, rule: Rule) -> Reason {
        let healthy = region
            .voters()
            .filter(|peer| is_healthy(self.view, region, *peer, self.settings, self.now))
            .count();
        let facts = [
            ("wanted", self.view.replicas_wanted as usize),
            ("voters", region.voters().count()),
            ("learners", region.learners().count()),
            ("healthy", healthy),
        ];
        Reason {
            rule,
            facts: Fact::list(facts.map(|(name, value)| (name, value as u64))),
            chosen: None,
            losers: Vec::new(),
            neighbours: Vec::new(),
        }
    }

    fn state(&self, store: StoreId) -> StoreState {
        self.view.store_state(store, self.settings, self.now)
    }

    fn regions_on(&self, store: StoreId) -> i64 {
        self.load
            .get(&store)
            .map_or(0, |load| i64::from(load.counts.regions))
    }
}

/// All peers but the one that leaves.
fn staying(region: &RegionView, leaving: Option<Peer>) -> impl Iterator<Item = Peer> {
    let peers = region.region.peers.iter().copied();
    peers.filter(move |peer| leaving.is_none_or(|leaving| leaving.id != peer.id))
}

//! What every request must get right before it is served: store, peer, term, epoch, range.
//!
//! The checks run on the store's own view of the region ([`Here`]) and say nothing about
//! leadership in the sense of safety: a lease, a ReadIndex or a proposal does that. They exist to
//! send an asker whose view is outdated to the right place at once, with all it needs to go on.
//! The same epoch and range are checked again after the snapshot of a read and when a command is
//! applied.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tinykv_raft::{GroupId, PeerId, Term};
use tinykv_replica::{Peer, Region, RegionEpoch, RegionState, StoreId};

/// What a request says about where it is meant to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The region.
    pub region: GroupId,
    /// The asker's epoch of it; only the version (the range) is compared.
    pub epoch: RegionEpoch,
    /// The peer it takes for the leader.
    pub peer: PeerId,
    /// The store of that peer.
    pub store: StoreId,
    /// The term it saw there; 0: it does not know.
    pub term: Term,
}

/// A region as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Here {
    /// Range, epoch, peers.
    pub state: Arc<RegionState>,
    /// The peer that lives on this store.
    pub peer: PeerId,
    /// Who leads, if known.
    pub leader: Option<PeerId>,
    /// The term that is about.
    pub term: Term,
}

/// Why a request cannot be served here and now. Nothing was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegionError {
    /// The request was meant for another store; this address has changed hands.
    StoreNotMatch {
        /// Whom the request was meant for.
        asked: StoreId,
        /// Who answers.
        here: StoreId,
    },
    /// No peer of the region lives here.
    RegionNotFound {
        /// The region asked for.
        region: GroupId,
    },
    /// Another peer of the region lives here than the one the request was meant for.
    PeerMismatch {
        /// Whom the request was meant for.
        asked: PeerId,
        /// Who lives here.
        here: PeerId,
    },
    /// Leadership has moved on by more than one term since the asker looked.
    StaleCommand,
    /// Somebody else leads, or nobody.
    NotLeader {
        /// The region.
        region: GroupId,
        /// The leader, only if it is certain as far as this peer can know.
        leader: Option<Peer>,
    },
    /// The region was split or merged since the asker looked.
    EpochNotMatch {
        /// The regions that now stand where the asker's was, as far as known here.
        regions: Vec<Arc<Region>>,
    },
    /// The key lies outside the region.
    KeyNotInRegion {
        /// The key as the asker sent it.
        key: Bytes,
        /// The region.
        region: Arc<Region>,
    },
    /// The region has not yet reached its replica count and acknowledges nothing (F4).
    NotOpen {
        /// The region.
        region: GroupId,
    },
    /// Not now.
    Busy {
        /// What is short.
        reason: &'static str,
        /// When it may be worth trying again.
        wait: Duration,
    },
    /// The disk is full: nothing is written until there is space again.
    DiskFull {
        /// This store.
        store: StoreId,
    },
    /// Refused before it was proposed, and not worth trying again as it is.
    Refused {
        /// One sentence.
        reason: &'static str,
    },
    /// Whether the command was or will be applied is not known.
    Undetermined {
        /// One sentence.
        reason: &'static str,
    },
}

/// Whether a request that only the leader may serve is at the right place.
///
/// The order matters: the first thing that is wrong is the one that tells the asker most.
pub fn check_leader(
    target: &Target,
    store: StoreId,
    here: Option<&Here>,
) -> Result<(), RegionError> {
    if target.store != store {
        return Err(RegionError::StoreNotMatch {
            asked: target.store,
            here: store,
        });
    }
    let here = here.ok_or(RegionError::RegionNotFound {
        region: target.region,
    })?;
    let region = &here.state.region;
    if target.peer != here.peer {
        return Err(RegionError::PeerMismatch {
            asked: target.peer,
            here: here.peer,
        });
    }
    if here.leader != Some(here.peer) {
        return Err(RegionError::NotLeader {
            region: target.region,
            leader: here.leader.and_then(|leader| region.peer(leader)),
        });
    }
    if target.term != Term(0) && here.term.0 > target.term.0.saturating_add(1) {
        return Err(RegionError::StaleCommand);
    }
    if target.epoch.version != region.epoch.version {
        return Err(RegionError::EpochNotMatch {
            regions: vec![Arc::new(region.clone())],
        });
    }
    Ok(())
}

/// The same error, but names a leader only where its store is connected: clients turn to a leader
/// that is named at once, and a dead one costs them one of their few tries.
pub fn without_dead_leader(
    error: RegionError,
    is_connected: impl FnOnce(StoreId) -> bool,
) -> RegionError {
    match error {
        RegionError::NotLeader { region, leader } => RegionError::NotLeader {
            region,
            leader: leader.filter(|leader| is_connected(leader.store)),
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId(1);

    fn region() -> Region {
        Region {
            id: GroupId(7),
            start: Bytes::from_static(b"b"),
            end: Bytes::from_static(b"d"),
            epoch: RegionEpoch {
                conf_ver: 4,
                version: 3,
            },
            peers: vec![
                Peer::voter(PeerId(11), STORE),
                Peer::voter(PeerId(12), StoreId(2)),
            ],
        }
    }

    fn here() -> Here {
        Here {
            state: Arc::new(RegionState {
                region: region(),
                open: true,
                machine: Bytes::new(),
                ..RegionState::default()
            }),
            peer: PeerId(11),
            leader: Some(PeerId(11)),
            term: Term(6),
        }
    }

    fn target() -> Target {
        Target {
            region: GroupId(7),
            epoch: RegionEpoch {
                conf_ver: 4,
                version: 3,
            },
            peer: PeerId(11),
            store: STORE,
            term: Term(0),
        }
    }

    /// Each row: what differs from a request that is right, and the answer.
    #[test]
    fn the_first_thing_that_is_wrong_is_told() {
        type Row = (
            &'static str,
            fn(&mut Target, &mut Here),
            Result<(), RegionError>,
        );
        let rows: Vec<Row> = vec![
            ("all is right", |_, _| {}, Ok(())),
            (
                "another store",
                |target, _| {
                    target.store = StoreId(9);
                    target.peer = PeerId(99);
                },
                Err(RegionError::StoreNotMatch {
                    asked: StoreId(9),
                    here: STORE,
                }),
            ),
            (
                "another peer",
                |target, here| {
                    target.peer = PeerId(10);
                    here.leader = None;
                },
                Err(RegionError::PeerMismatch {
                    asked: PeerId(10),
                    here: PeerId(11),
                }),
            ),
            (
                "a leader elsewhere",
                |target, here| {
                    here.leader = Some(PeerId(12));
                    target.epoch.version = 1;
                },
                Err(RegionError::NotLeader {
                    region: GroupId(7),
                    leader: Some(Peer::voter(PeerId(12), StoreId(2))),
                }),
            ),
            (
                "no leader",
                |_, here| here.leader = None,
                Err(RegionError::NotLeader {
                    region: GroupId(7),
                    leader: None,
                }),
            ),
            (
                "a leader that is no member any more is no hint",
                |_, here| here.leader = Some(PeerId(13)),
                Err(RegionError::NotLeader {
                    region: GroupId(7),
                    leader: None,
                }),
            ),
            ("the term before", |target, _| target.term = Term(5), Ok(())),
            ("a later term", |target, _| target.term = Term(8), Ok(())),
            (
                "two terms ago",
                |target, _| target.term = Term(4),
                Err(RegionError::StaleCommand),
            ),
            (
                "other members only",
                |target, _| target.epoch.conf_ver = 1,
                Ok(()),
            ),
            (
                "an older range",
                |target, _| target.epoch.version = 2,
                Err(RegionError::EpochNotMatch {
                    regions: vec![Arc::new(region())],
                }),
            ),
            (
                "a newer range",
                |target, _| target.epoch.version = 4,
                Err(RegionError::EpochNotMatch {
                    regions: vec![Arc::new(region())],
                }),
            ),
        ];
        for (what, change, expected) in rows {
            let (mut target, mut here) = (target(), here());
            change(&mut target, &mut here);
            assert_eq!(
                check_leader(&target, STORE, Some(&here)),
                expected,
                "{what}"
            );
        }
    }

    #[test]
    fn a_leader_that_cannot_be_reached_is_no_hint() {
        let named = RegionError::NotLeader {
            region: GroupId(7),
            leader: Some(Peer::voter(PeerId(12), StoreId(2))),
        };
        let nobody = RegionError::NotLeader {
            region: GroupId(7),
            leader: None,
        };
        let told = |up| without_dead_leader(named.clone(), |store| up && store == StoreId(2));
        assert_eq!(told(true), named);
        assert_eq!(told(false), nobody);
        let other = RegionError::StaleCommand;
        assert_eq!(without_dead_leader(other.clone(), |_| false), other);
    }

    #[test]
    fn a_region_that_is_not_here() {
        assert_eq!(
            check_leader(&target(), STORE, None),
            Err(RegionError::RegionNotFound { region: GroupId(7) })
        );
    }
}

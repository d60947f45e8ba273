//! What a refusal or doubt of the replica means to whoever asked.

use std::time::Duration;

use tinykv_raft::GroupId;
use tinykv_replica::{BusyReason, Doubt, Refusal};

use crate::checks::{RegionError, Target};

/// The error that tells an asker of `target` what to do about a refusal.
///
/// States that pass within an election (a leader that is not ready, one that hands over, a replica
/// that begins or ends) are told as "not leader, nobody known": clients back off shortly and look
/// again, while a busy server goes straight to the user of some of them.
pub fn refused(refusal: Refusal, target: &Target) -> RegionError {
    let region = target.region;
    match refusal {
        Refusal::NotLeader { leader, .. } => RegionError::NotLeader { region, leader },
        Refusal::EpochNotMatch { regions } => RegionError::EpochNotMatch { regions },
        Refusal::RegionNotFound => RegionError::RegionNotFound { region },
        Refusal::PeerMismatch { here } => RegionError::PeerMismatch {
            asked: target.peer,
            here,
        },
        Refusal::KeyNotInRegion { key, region } => RegionError::KeyNotInRegion { key, region },
        Refusal::Busy { reason, wait } => busy(reason, wait, region),
        Refusal::NotOpen => RegionError::NotOpen { region },
        Refusal::DeadlineExceeded => RegionError::Refused {
            reason: "the request's deadline passed before it was carried out",
        },
        Refusal::Superseded { .. } => RegionError::StaleCommand,
        Refusal::Malformed { problem } => RegionError::Refused { reason: problem },
        Refusal::ShuttingDown | Refusal::Damaged => RegionError::NotLeader {
            region,
            leader: None,
        },
        Refusal::Membership(_)
        | Refusal::Split(_)
        | Refusal::Merge(_)
        | Refusal::TransferFailed => RegionError::Refused {
            reason: "only a change of membership, range or leadership can be refused like this",
        },
    }
}

fn busy(reason: BusyReason, wait: Duration, region: GroupId) -> RegionError {
    let reason = match reason {
        BusyReason::Uncommitted => "too many bytes of this region wait to be committed",
        BusyReason::Waiters => "too many requests wait in this region",
        BusyReason::Inbox => "too many requests wait in this store",
        BusyReason::WriteStall => "the engine is behind with its writes",
        BusyReason::DiskFull => "no space is left on the store's disk; reads and deletes go on",
        BusyReason::Transferring
        | BusyReason::LeaderNotReady
        | BusyReason::MembershipPending
        | BusyReason::Splitting
        | BusyReason::Merging
        | BusyReason::PeerBehind
        | BusyReason::LearnerBehind
        | BusyReason::NotInService => {
            return RegionError::NotLeader {
                region,
                leader: None,
            };
        }
    };
    RegionError::Busy { reason, wait }
}

/// The error for a request whose fate is unknown.
pub fn undetermined(doubt: Doubt) -> RegionError {
    RegionError::Undetermined {
        reason: match doubt {
            Doubt::DeadlineExceeded => "the deadline passed before the write was confirmed",
            Doubt::RegionGone => "the replica was removed before the write was confirmed",
            Doubt::SnapshotInstalled => "the replica was replaced before the write was confirmed",
            Doubt::ShuttingDown => "the store went down before the write was confirmed",
            Doubt::Damaged => "the replica was found damaged before the write was confirmed",
        },
    }
}

#[cfg(test)]
mod tests {
    use tinykv_raft::{EntryId, PeerId, Term};

    use super::*;

    #[test]
    fn what_passes_within_an_election_is_no_busy_server() {
        let target = Target {
            region: GroupId(7),
            ..Target::default()
        };
        let nobody = RegionError::NotLeader {
            region: GroupId(7),
            leader: None,
        };
        let wait = Duration::from_millis(20);
        let busy = |reason| refused(Refusal::Busy { reason, wait }, &target);
        assert_eq!(busy(BusyReason::LeaderNotReady), nobody);
        assert_eq!(busy(BusyReason::Transferring), nobody);
        assert_eq!(refused(Refusal::ShuttingDown, &target), nobody);
        assert!(matches!(
            busy(BusyReason::Uncommitted),
            RegionError::Busy { .. }
        ));
        assert!(matches!(
            busy(BusyReason::Waiters),
            RegionError::Busy { .. }
        ));
    }

    #[test]
    fn refusals_that_name_something_keep_it() {
        let target = Target {
            region: GroupId(7),
            peer: PeerId(3),
            ..Target::default()
        };
        assert_eq!(
            refused(Refusal::PeerMismatch { here: PeerId(4) }, &target),
            RegionError::PeerMismatch {
                asked: PeerId(3),
                here: PeerId(4)
            }
        );
        let by = EntryId::default();
        assert_eq!(
            refused(Refusal::Superseded { by }, &target),
            RegionError::StaleCommand
        );
        let not_leader = Refusal::NotLeader {
            leader: None,
            term: Term(3),
        };
        assert_eq!(
            refused(not_leader, &target),
            RegionError::NotLeader {
                region: GroupId(7),
                leader: None
            }
        );
    }
}

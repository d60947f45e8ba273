//! What becomes of two regions, and what is remembered of it.

use bytes::Bytes;
use tinykv_raft::PeerId;

use super::*;
use crate::machine::{ApplyContext, KeyRange, NeedsKeys, ReadError, Reader};
use crate::outcome::Refusal;
use crate::region::Peer;

/// Keeps a number of its own; no boundary at "stays" goes.
struct Machine;

impl StateMachine for Machine {
    type Reply = ();

    fn ranges(_: &Region) -> Vec<KeyRange> {
        Vec::new()
    }

    fn state_key(_: GroupId) -> Bytes {
        Bytes::new()
    }

    fn check(_: &std::sync::Arc<Region>, _: &Bytes) -> Result<(), Refusal> {
        Ok(())
    }

    fn may_join(border: &[u8]) -> bool {
        border != b"stays"
    }

    fn join(target: &Bytes, source: &Bytes) -> Bytes {
        target.max(source).clone()
    }

    fn restore(&mut self, _: &RegionState, _: &dyn Reader) -> Result<(), ReadError> {
        Ok(())
    }

    fn apply(
        &mut self,
        _: &std::sync::Arc<Region>,
        _: EntryId,
        _: &Bytes,
        _: &mut ApplyContext<'_>,
    ) -> Result<(), NeedsKeys> {
        Ok(())
    }
}

fn state(id: u64, start: &'static str, end: &'static str, version: u64) -> RegionState {
    let peer = |store| Peer::voter(PeerId(10 * id + store), StoreId(store));
    let region = Region {
        id: GroupId(id),
        start: start.into(),
        end: end.into(),
        epoch: RegionEpoch {
            conf_ver: 3,
            version,
        },
        peers: [1, 2, 3].map(peer).to_vec(),
    };
    RegionState::new(region, true, Bytes::from(version.to_string()))
}

fn freeze(source: &RegionState, target: &RegionState) -> RegionState {
    let prepared = EntryId {
        term: Term(2),
        index: LogIndex(7),
    };
    frozen(source, &target.region, prepared)
}

fn absorb(target: &RegionState, source: &RegionState) -> RegionState {
    merged::<Machine>(target, &freeze(source, target))
}

#[test]
fn the_union_is_newer_than_both_and_keeps_the_later_of_what_the_machines_keep() {
    let (left, right) = (state(1, "", "m", 4), state(2, "m", "", 8));
    for (source, target) in [(&left, &right), (&right, &left)] {
        let frozen = freeze(source, target);
        assert_eq!(frozen.region.epoch.version, source.region.epoch.version + 1);
        assert_eq!(frozen.region.epoch.conf_ver, 4);
        let merged = merged::<Machine>(target, &frozen);
        assert_eq!(
            (&merged.region.start[..], &merged.region.end[..]),
            (&b""[..], &b""[..])
        );
        assert_eq!(merged.region.peers, target.region.peers);
        assert_eq!(merged.region.epoch.conf_ver, 3);
        let larger = target.region.epoch.version.max(frozen.region.epoch.version);
        assert_eq!(merged.region.epoch.version, larger + 1);
        assert_eq!(merged.machine, Bytes::from_static(b"8"));
        assert_eq!(remains(&frozen).region, frozen.region);
    }
}

#[test]
fn who_does_not_fit_is_told_why() {
    let (left, right) = (state(1, "", "m", 4), state(2, "m", "", 8));
    let check = |source: &RegionState, target: &RegionState| {
        super::check::<Machine>(&source.region, &target.region)
    };
    assert_eq!(check(&left, &right), Ok(()));
    assert_eq!(check(&right, &left), Ok(()));
    assert_eq!(check(&left, &left), Err(MergeRefusal::SameRegion));
    let far = state(3, "n", "", 1);
    assert_eq!(check(&left, &far), Err(MergeRefusal::NotNeighbours));
    // The end of the space is not its beginning.
    let (first, last) = (state(4, "", "a", 1), state(5, "z", "", 1));
    assert_eq!(check(&first, &last), Err(MergeRefusal::NotNeighbours));
    let (one, other) = (state(6, "", "stays", 1), state(7, "stays", "", 1));
    let key = Bytes::from_static(b"stays");
    assert_eq!(check(&one, &other), Err(MergeRefusal::BorderStays { key }));
    let mut moving = right.clone();
    moving.region.peers[0].role = PeerRole::IncomingVoter;
    assert_eq!(
        check(&left, &moving),
        Err(MergeRefusal::MembershipUnsettled)
    );
    assert_eq!(
        check(&moving, &left),
        Err(MergeRefusal::MembershipUnsettled)
    );
    let mut elsewhere = right.clone();
    elsewhere.region.peers[0].store = StoreId(4);
    assert_eq!(check(&left, &elsewhere), Err(MergeRefusal::OtherStores));
}

#[test]
fn a_state_beyond_the_named_epoch_tells_which_it_was() {
    let (left, right) = (state(1, "", "m", 4), state(2, "m", "", 8));
    let named = right.region.epoch;
    let fate = |it: &RegionState| super::fate(it, GroupId(1), named);
    assert_eq!(fate(&right), Fate::Open);
    let mut older = right.clone();
    older.region.epoch.version = 7;
    assert_eq!(fate(&older), Fate::Open, "it has yet to come there");
    assert_eq!(fate(&absorb(&right, &left)), Fate::Merged);
    let mut other = right.clone();
    other.region.epoch.conf_ver += 1;
    assert_eq!(fate(&other), Fate::Declined);
    other.region.epoch.version += 3;
    assert_eq!(fate(&other), Fate::Declined);
    // Behind in one respect it cannot have been there, whatever the other says.
    other.region.epoch.conf_ver = 2;
    assert_eq!(fate(&other), Fate::Open);
}

#[test]
fn an_heir_answers_for_whom_it_has_absorbed() {
    let (left, right) = (state(1, "", "m", 4), state(2, "m", "t", 8));
    let heir = state(3, "t", "", 2);
    let with_both = absorb(&heir, &absorb(&right, &left));
    assert_eq!(
        fate_by_heir(&with_both, GroupId(1), GroupId(2)),
        Fate::Merged
    );
    assert_eq!(
        fate_by_heir(&with_both, GroupId(9), GroupId(2)),
        Fate::Declined
    );
    assert_eq!(fate_by_heir(&with_both, GroupId(9), GroupId(8)), Fate::Open);
    assert_eq!(
        fate_by_heir(&absorb(&heir, &right), GroupId(1), GroupId(2)),
        Fate::Declined
    );
}

/// What cannot be known any more is never answered for certain.
#[test]
fn memory_is_bounded_and_knows_its_bounds() {
    let mut target = state(1, "", "b", 10);
    let mut versions = Vec::new();
    for id in 100..100 + 2 * ABSORBED_MAX as u64 {
        versions.push((id, target.region.epoch));
        let mut source = state(id, "b", "c", 1);
        // It comes with one that it had absorbed itself, and with one that all know.
        source.merges.remember(Absorbed {
            group: GroupId(1_000 + id),
            version: 1,
            is_inherited: false,
        });
        source.merges.remember(Absorbed {
            group: GroupId(7),
            version: 1,
            is_inherited: true,
        });
        target = absorb(&target, &source);
        target.region.end = Bytes::from_static(b"b");
        assert!(target.merges.absorbed.len() <= ABSORBED_MAX);
        let known = target.merges.absorbed.iter();
        let mut groups: Vec<GroupId> = known.map(|it| it.group).collect();
        groups.sort_unstable();
        groups.dedup();
        assert_eq!(groups.len(), target.merges.absorbed.len(), "each once");
    }
    for (id, epoch) in versions {
        // Whoever was absorbed is never called declined; whoever was not is, while it is certain.
        assert_ne!(fate(&target, GroupId(id), epoch), Fate::Declined, "{id}");
        let stranger = fate(&target, GroupId(5), epoch);
        let is_certain = epoch.version >= target.merges.forgotten;
        assert_eq!(stranger == Fate::Declined, is_certain, "{id}");
        let inherited = fate_by_heir(&target, GroupId(1_000 + id), GroupId(id));
        assert_ne!(inherited, Fate::Declined, "{id}");
    }
    let last = GroupId(99 + 2 * ABSORBED_MAX as u64);
    assert!(target.merges.has_absorbed(last));
    let encoded = target.encode();
    assert_eq!(RegionState::decode(&encoded), Ok(target));
}

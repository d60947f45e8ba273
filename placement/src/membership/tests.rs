//! Step by step to the membership that is wanted, and no step once it is there.

use tinykv_replica::RegionEpoch;

use super::*;
use crate::group::GROUP;
use crate::state::{Command, MemberRecord, Refusal, Reply};

fn record(id: u64, incarnation: u64) -> MemberRecord {
    MemberRecord {
        id: PeerId(id),
        name: format!("m{id}"),
        url: format!("http://m:{id}"),
        incarnation,
        start_number: incarnation.min(1),
    }
}

fn apply(state: &mut State, command: Command) -> Reply {
    state.apply(command, &mut Vec::new())
}

fn founded() -> (State, Region) {
    let mut state = State::default();
    for id in 1..=3 {
        apply(&mut state, Command::RegisterMember(record(id, 7)));
    }
    let voter = |id| Peer::voter(PeerId(id), StoreId(id));
    let region = Region {
        id: GROUP,
        epoch: RegionEpoch::FIRST,
        peers: (1..=3).map(voter).collect(),
        ..Region::default()
    };
    (state, region)
}

fn step(state: &State, region: &Region, own: u64) -> Option<Step> {
    next_step(state, region, PeerId(own), |_| true)
}

#[test]
fn a_member_comes_in_when_its_process_has_registered() {
    let (mut state, mut region) = founded();
    assert_eq!(step(&state, &region, 1), None);
    apply(&mut state, Command::InviteMember(record(1_000, 0)));
    assert_eq!(step(&state, &region, 1), None, "nobody is there");
    let mut again = record(1_000, 0);
    again.id = PeerId(1_001);
    assert_eq!(apply(&mut state, Command::InviteMember(again)), Reply::Done);
    assert!(!state.members().contains_key(&PeerId(1_001)), "asked twice");
    apply(&mut state, Command::RegisterMember(record(1_000, 9)));
    let learner = Peer::learner(PeerId(1_000), StoreId(1_000));
    let add = Step::Change(PeerChange::AddLearner(learner));
    assert_eq!(step(&state, &region, 1), Some(add));
    region.peers.push(learner);
    let behind = next_step(&state, &region, PeerId(1), |_| false);
    assert_eq!(behind, None, "it does not vote before it has the log");
    let promote = Step::Change(PeerChange::Promote(learner.id));
    assert_eq!(step(&state, &region, 1), Some(promote));
    region.peers[3].role = PeerRole::IncomingVoter;
    assert_eq!(step(&state, &region, 1), None, "one change at a time");
    region.peers[3].role = PeerRole::Voter;
    assert_eq!(step(&state, &region, 1), None);
}

#[test]
fn who_leads_hands_over_before_it_leaves() {
    let (mut state, mut region) = founded();
    apply(&mut state, Command::RemoveMember { member: PeerId(1) });
    assert_eq!(step(&state, &region, 1), Some(Step::HandOver));
    let remove = |id| Some(Step::Change(PeerChange::Remove(PeerId(id))));
    assert_eq!(step(&state, &region, 2), remove(1));
    // It sees to the others first.
    apply(&mut state, Command::RemoveMember { member: PeerId(3) });
    assert_eq!(step(&state, &region, 1), remove(3));
    region.peers.retain(|peer| peer.id == PeerId(2));
    assert_eq!(step(&state, &region, 2), None);
}

#[test]
fn the_only_voter_lets_its_heir_in_before_it_leaves() {
    let (mut state, mut region) = founded();
    region.peers.truncate(1);
    for id in [2, 3] {
        apply(&mut state, Command::RemoveMember { member: PeerId(id) });
    }
    apply(&mut state, Command::InviteMember(record(1_000, 0)));
    apply(&mut state, Command::RegisterMember(record(1_000, 9)));
    apply(&mut state, Command::RemoveMember { member: PeerId(1) });
    let learner = Peer::learner(PeerId(1_000), StoreId(1_000));
    let add = Step::Change(PeerChange::AddLearner(learner));
    assert_eq!(step(&state, &region, 1), Some(add));
    region.peers.push(learner);
    let promote = Step::Change(PeerChange::Promote(learner.id));
    assert_eq!(step(&state, &region, 1), Some(promote));
    region.peers[1].role = PeerRole::Voter;
    assert_eq!(step(&state, &region, 1), Some(Step::HandOver));
    let remove = Step::Change(PeerChange::Remove(PeerId(1)));
    assert_eq!(step(&state, &region, 1_000), Some(remove));
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let (mut state, _) = founded();
    let refused = |state: &mut State, command: Command| match apply(state, command) {
        Reply::Refused(refusal) => refusal.to_string(),
        other => panic!("{other:?}"),
    };
    let mut same_name = record(1_000, 0);
    same_name.name = "m2".into();
    let said = refused(&mut state, Command::InviteMember(same_name));
    assert!(said.contains("choose another name"), "{said}");
    let mut same_url = record(1_000, 0);
    same_url.url = "http://m:2".into();
    let said = refused(&mut state, Command::InviteMember(same_url));
    assert!(said.contains("choose another one"), "{said}");
    let member = PeerId(77);
    let unknown = apply(&mut state, Command::RemoveMember { member });
    assert_eq!(unknown, Reply::Refused(Refusal::UnknownMember { member }));
    for member in [PeerId(1), PeerId(2)] {
        assert_eq!(
            apply(&mut state, Command::RemoveMember { member }),
            Reply::Done
        );
        assert_eq!(
            apply(&mut state, Command::RemoveMember { member }),
            Reply::Done
        );
        let back = Command::RegisterMember(record(member.0, 7));
        let said = refused(&mut state, back);
        assert!(said.contains("was removed"), "{said}");
    }
    apply(&mut state, Command::InviteMember(record(1_000, 0)));
    let member = PeerId(3);
    let said = refused(&mut state, Command::RemoveMember { member });
    assert!(
        said.contains("the last member"),
        "invited ones do not count: {said}"
    );
    for id in 1_001..1_008 {
        apply(&mut state, Command::InviteMember(record(id, 0)));
    }
    let said = refused(&mut state, Command::InviteMember(record(1_008, 0)));
    assert!(said.contains("as many members"), "{said}");
}

#[test]
fn who_leaves_is_refused_only_when_its_peer_is_gone() {
    let (mut state, mut region) = founded();
    let check = |state: &State, region: &Region, record: &MemberRecord| {
        check_registration(state, region, None, record)
    };
    let founder = record(1, 7);
    assert_eq!(check(&state, &region, &founder), Ok(()));
    let stranger = check(&state, &region, &record(77, 7));
    assert!(matches!(stranger, Err(Objection::Later(_))), "{stranger:?}");
    let other = check_registration(&state, &region, Some(8), &founder);
    assert!(matches!(other, Err(Objection::Foreign(_))), "{other:?}");
    apply(&mut state, Command::RemoveMember { member: PeerId(1) });
    let leaving = check(&state, &region, &founder);
    assert!(matches!(leaving, Err(Objection::Later(_))), "{leaving:?}");
    assert_eq!(
        state.registered_member(PeerId(1)),
        Some(&founder),
        "it is still to be reached"
    );
    region.peers.retain(|peer| peer.id != PeerId(1));
    assert_eq!(
        check(&state, &region, &founder),
        Ok(()),
        "now the state refuses it"
    );
    let refused = apply(&mut state, Command::RegisterMember(founder));
    assert!(matches!(refused, Reply::Refused(_)), "{refused:?}");
}

#[test]
fn a_member_is_needed_while_too_few_of_the_others_answer() {
    let (_, region) = founded();
    let needed = |silent: &[(u64, u64)]| {
        let silent = silent.iter();
        let silent: Vec<_> = silent
            .map(|(id, seconds)| (PeerId(*id), Duration::from_secs(*seconds)))
            .collect();
        why_needed(&region, PeerId(1), &silent)
    };
    assert_eq!(needed(&[]), None);
    assert_eq!(needed(&[(2, 1), (1, 60)]), None);
    assert!(needed(&[(2, 4)]).is_some_and(|why| why.contains("of the 2 members")));
    let unknown = why_needed(&region, PeerId(77), &[(PeerId(2), Duration::from_secs(60))]);
    assert_eq!(unknown, None);
}

/// What is written is what is found again.
#[test]
fn invited_and_removed_members_survive_a_restart() {
    let (mut state, _) = founded();
    let mut rows = std::collections::BTreeMap::new();
    let commands = [
        Command::RegisterMember(record(2, 7)),
        Command::InviteMember(record(1_000, 0)),
        Command::RegisterMember(record(1_000, 5)),
        Command::InviteMember(record(1_001, 0)),
        Command::RemoveMember { member: PeerId(2) },
    ];
    let mut again = State::default();
    for command in [1, 3].map(|id| Command::RegisterMember(record(id, 7))) {
        let mut changes = Vec::new();
        again.apply(command, &mut changes);
        keep(changes, &mut rows);
    }
    for command in commands {
        assert_eq!(Command::decode(&command.encode()), Ok(command.clone()));
        let mut changes = Vec::new();
        state.apply(command, &mut changes);
        keep(changes, &mut rows);
    }
    let restored = State::restore(rows.into_values()).expect("readable");
    assert_eq!(restored.members(), state.members());
    assert!(restored.has_removed_member(PeerId(2)));
    let removed = restored.registered_member(PeerId(2));
    assert_eq!(removed, state.registered_member(PeerId(2)));
    assert_eq!(removed, Some(&record(2, 7)), "it may have to be told");
}

fn keep(
    changes: Vec<crate::state::RowChange>,
    rows: &mut std::collections::BTreeMap<bytes::Bytes, crate::state::Row>,
) {
    for change in changes {
        match change {
            crate::state::RowChange::Put(row) => {
                rows.insert(row.key.clone(), row);
            }
            crate::state::RowChange::Delete { key } => {
                rows.remove(&key);
            }
        }
    }
}

//! What each command does and refuses.

use super::*;

#[test]
fn the_first_cluster_id_stays() {
    let mut state = State::default();
    assert_eq!(state.cluster_id(), None);
    for proposed in [5, 6] {
        let reply = apply(
            &mut state,
            Command::Found {
                cluster_id: proposed,
            },
        );
        assert_eq!(reply, Reply::Cluster { id: 5 });
    }
}

#[test]
fn runs_of_ids_never_overlap() {
    let mut state = State::default();
    let first = apply(&mut state, Command::ReserveIds { count: 10 });
    let second = apply(&mut state, Command::ReserveIds { count: 1 });
    assert_eq!(
        first,
        Reply::Ids {
            first: FIRST_ID,
            count: 10
        }
    );
    assert_eq!(
        second,
        Reply::Ids {
            first: FIRST_ID + 10,
            count: 1
        }
    );
    for count in [0, IDS_PER_COMMAND_MAX + 1] {
        refused(&mut state, Command::ReserveIds { count });
    }
}

#[test]
fn the_timestamp_bound_never_falls() {
    let mut state = State::default();
    apply(&mut state, Command::RaiseTimestampBound { bound_ms: 9 });
    let reply = apply(&mut state, Command::RaiseTimestampBound { bound_ms: 8 });
    assert_eq!(reply, Reply::TimestampBound { bound_ms: 9 });
}

#[test]
fn only_one_store_bootstraps_and_may_ask_again() {
    let mut state = bootstrapped();
    let winner = vec![
        region(1_001, "", "m", &[1_000]),
        region(1_002, "m", "", &[1_000]),
    ];
    let again = Command::Bootstrap {
        store: store(1_000),
        regions: winner,
    };
    assert_eq!(apply(&mut state, again), Reply::Done);
    let loser = vec![region(1_011, "", "", &[1_010])];
    let late = Command::Bootstrap {
        store: store(1_010),
        regions: loser,
    };
    assert_eq!(refused(&mut state, late), Refusal::AlreadyBootstrapped);
}

#[test]
fn first_regions_that_do_not_tile_the_space_are_refused() {
    let one = |start, end| region(1_001, start, end, &[1_000]);
    let two = |start, end| region(1_002, start, end, &[1_000]);
    let cases: [(Vec<Region>, &str); 8] = [
        (vec![], "end of the key space"),
        (vec![one("", "m")], "end of the key space"),
        (vec![one("a", "")], "gap"),
        (vec![one("", "m"), two("n", "")], "gap"),
        (vec![one("", "m"), one("m", "")], "twice"),
        (
            vec![region(1_001, "", "", &[1_009])],
            "no voter on store 1000",
        ),
        (
            vec![region(1_001, "", "", &[1_000, 1_009])],
            "exactly one peer",
        ),
        (
            vec![region(9_999, "", "", &[1_000])],
            "id 9999 was not given out",
        ),
    ];
    for (regions, expected) in cases {
        let command = Command::Bootstrap {
            store: store(1_000),
            regions,
        };
        let refusal = refused(&mut with_ids(), command).to_string();
        assert!(refusal.contains(expected), "{refusal}");
    }
}

#[test]
fn a_store_joins_after_the_bootstrap_only() {
    let command = Command::PutStore(store(1_003));
    assert_eq!(
        refused(&mut with_ids(), command.clone()),
        Refusal::NotBootstrapped
    );
    let mut state = bootstrapped();
    assert_eq!(state.replicas_wanted(), 1);
    assert_eq!(apply(&mut state, command), Reply::Done);
    assert_eq!(
        apply(&mut state, Command::PutStore(store(1_004))),
        Reply::Done
    );
    assert_eq!(state.replicas_wanted(), 3);
    assert_eq!(
        apply(&mut state, Command::PutStore(store(1_005))),
        Reply::Done
    );
    assert_eq!(state.replicas_wanted(), 3, "not more than configured");
}

/// D9: wiped, swapped, foreign and restored directories.
#[test]
fn a_store_that_is_not_who_it_was_is_refused() {
    let mut state = bootstrapped();
    let change = |edit: fn(&mut StoreRecord)| {
        let mut record = store(1_000);
        record.start_number = 3;
        edit(&mut record);
        Command::PutStore(record)
    };
    assert_eq!(apply(&mut state, change(|_| ())), Reply::Done);
    assert_eq!(
        apply(&mut state, change(|_| ())),
        Reply::Done,
        "asked again"
    );
    let old_copy = refused(&mut state, change(|record| record.start_number = 2));
    assert_eq!(
        old_copy,
        Refusal::OutdatedStore {
            store: StoreId(1_000),
            known: 3,
            found: 2
        }
    );
    let foreign = refused(&mut state, change(|record| record.incarnation = 1));
    assert_eq!(
        foreign,
        Refusal::ForeignStore {
            store: StoreId(1_000),
            known: 10_000,
            found: 1
        }
    );
    let taken = refused(
        &mut state,
        change(|record| {
            record.id = StoreId(1_009);
            record.incarnation = 4;
        }),
    );
    assert_eq!(
        taken,
        Refusal::AddressTaken {
            address: "127.0.0.1:1000".into(),
            holder: StoreId(1_000)
        }
    );
    for edit in [
        (|record| record.id = StoreId(999)) as fn(&mut StoreRecord),
        |record| record.id = StoreId(5_000),
        |record| record.address.clear(),
        |record| record.incarnation = 0,
        |record| record.start_number = 0,
    ] {
        let refusal = refused(&mut state, change(edit));
        assert!(matches!(refusal, Refusal::BadStore { .. }), "{refusal}");
    }
}

/// One replica each, and stores enough.
fn with_few_replicas(state: &mut State) {
    let one = Command::ChangeSetting {
        name: "replica_count".into(),
        value: "1".into(),
    };
    assert_eq!(apply(state, one), Reply::Done);
    for id in [1_003, 1_004] {
        assert_eq!(apply(state, Command::PutStore(store(id))), Reply::Done);
    }
}

#[test]
fn a_store_that_is_needed_does_not_leave() {
    let mut state = bootstrapped();
    let leave = |id| Command::SetStoreLife {
        store: StoreId(id),
        life: StoreLife::Leaving,
    };
    let last = refused(&mut state, leave(1_000)).to_string();
    assert!(
        last.contains("0 others would stay for 1 replicas"),
        "{last}"
    );
    for id in [1_003, 1_004] {
        apply(&mut state, Command::PutStore(store(id)));
        refused(&mut state, leave(1_000));
    }
    apply(&mut state, Command::PutStore(store(1_005)));
    assert_eq!(apply(&mut state, leave(1_000)), Reply::Done);
    assert_eq!(
        apply(&mut state, leave(1_000)),
        Reply::Done,
        "it leaves already"
    );
    let second = refused(&mut state, leave(1_003)).to_string();
    assert!(
        second.contains("2 others would stay for 3 replicas"),
        "{second}"
    );
}

#[test]
fn a_store_may_move_to_another_address_and_keeps_its_life() {
    let mut state = bootstrapped();
    with_few_replicas(&mut state);
    let id = StoreId(1_000);
    let leave = Command::SetStoreLife {
        store: id,
        life: StoreLife::Leaving,
    };
    assert_eq!(apply(&mut state, leave), Reply::Done);
    let mut moved = store(1_000);
    moved.address = "127.0.0.1:7".into();
    moved.start_number = 2;
    assert_eq!(apply(&mut state, Command::PutStore(moved)), Reply::Done);
    assert_eq!(state.stores()[&id].address, "127.0.0.1:7");
    assert_eq!(state.stores()[&id].life, StoreLife::Leaving);
}

#[test]
fn a_store_ends_only_when_nothing_is_left_on_it_and_never_returns() {
    let mut state = bootstrapped();
    with_few_replicas(&mut state);
    let set = |id, life| Command::SetStoreLife {
        store: StoreId(id),
        life,
    };
    refused(&mut state, set(1_003, StoreLife::Tombstone));
    apply(&mut state, set(1_000, StoreLife::Leaving));
    refused(&mut state, set(1_000, StoreLife::Tombstone));
    refused(&mut state, set(1_007, StoreLife::Leaving));
    apply(&mut state, set(1_003, StoreLife::Leaving));
    assert_eq!(
        apply(&mut state, set(1_003, StoreLife::Tombstone)),
        Reply::Done
    );
    let refusal = refused(&mut state, Command::PutStore(store(1_003)));
    assert_eq!(
        refusal,
        Refusal::TombstoneStore {
            store: StoreId(1_003)
        }
    );
    assert!(state.has_left(StoreId(1_003)));
    // Its address is free again.
    let mut heir = store(1_008);
    heir.address = store(1_003).address;
    assert_eq!(apply(&mut state, Command::PutStore(heir)), Reply::Done);
}

#[test]
fn a_tombstone_that_is_forgotten_does_not_return_either() {
    let mut state = bootstrapped();
    with_few_replicas(&mut state);
    let id = StoreId(1_003);
    let forget = || Command::ForgetStore { store: id };
    let refusal = refused(&mut state, forget());
    assert_eq!(refusal, Refusal::NoTombstone { store: id });
    let nobody = StoreId(1_500);
    let unknown = refused(&mut state, Command::ForgetStore { store: nobody });
    assert_eq!(unknown, Refusal::UnknownStore { store: nobody });
    for life in [StoreLife::Leaving, StoreLife::Tombstone] {
        let command = Command::SetStoreLife { store: id, life };
        assert_eq!(apply(&mut state, command), Reply::Done);
    }
    // An order that was long on its way brings a peer there: it is told, and the store stays known
    // until that peer is replaced.
    let late = at(region(1_001, "", "m", &[1_000, 1_003]), 2, 1);
    let gone = at(region(1_001, "", "m", &[1_000]), 3, 1);
    let update = |region: &Region| Command::UpdateRegions {
        regions: vec![region.clone()],
    };
    let told = Reply::Routed { removed: vec![] };
    assert_eq!(apply(&mut state, update(&late)), told);
    let held = Refusal::HeldStore {
        store: id,
        region: GroupId(1_001),
    };
    assert_eq!(refused(&mut state, forget()), held);
    assert_eq!(apply(&mut state, update(&gone)), told);
    assert_eq!(apply(&mut state, forget()), Reply::Done);
    assert!(!state.stores().contains_key(&id) && state.has_left(id));
    assert_eq!(apply(&mut state, forget()), Reply::Done, "it is");
    let back = refused(&mut state, Command::PutStore(store(1_003)));
    assert_eq!(back, Refusal::TombstoneStore { store: id });
    let later = at(region(1_001, "", "m", &[1_000, 1_003]), 4, 1);
    assert_eq!(apply(&mut state, update(&later)), told, "told, too");
}

#[test]
fn all_stores_but_one_may_be_kept_from_leading() {
    let mut state = bootstrapped();
    let evict = |id| Command::EvictLeaders { store: StoreId(id) };
    let admit = |id| Command::AdmitLeaders { store: StoreId(id) };
    let last = |id| Refusal::LastLeader { store: StoreId(id) };
    assert_eq!(refused(&mut state, evict(1_000)), last(1_000));
    apply(&mut state, Command::PutStore(store(1_003)));
    assert_eq!(apply(&mut state, evict(1_000)), Reply::Done);
    assert_eq!(apply(&mut state, evict(1_000)), Reply::Done, "it is");
    assert_eq!(refused(&mut state, evict(1_003)), last(1_003));
    assert!(state.evicted().contains(&StoreId(1_000)));
    assert_eq!(apply(&mut state, admit(1_000)), Reply::Done);
    assert!(state.evicted().is_empty());
    assert_eq!(apply(&mut state, admit(1_000)), Reply::Done, "it may");
    for command in [evict(1_500), admit(1_500)] {
        let unknown = refused(&mut state, command);
        assert!(unknown.to_string().contains("does not exist"), "{unknown}");
    }
}

#[test]
fn a_member_keeps_its_identity() {
    let mut state = State::default();
    let member = MemberRecord {
        id: PeerId(2),
        name: "b".into(),
        url: "http://b:1".into(),
        incarnation: 5,
        start_number: 2,
    };
    let with = |edit: fn(&mut MemberRecord)| {
        let mut changed = member.clone();
        edit(&mut changed);
        Command::RegisterMember(changed)
    };
    assert_eq!(apply(&mut state, with(|_| ())), Reply::Done);
    refused(&mut state, with(|member| member.incarnation = 6));
    refused(&mut state, with(|member| member.start_number = 1));
    assert_eq!(
        apply(&mut state, with(|member| member.start_number = 3)),
        Reply::Done
    );
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let mut state = State::default();
    type Edit = fn(&mut Settings);
    let cases: [(Edit, &str); 5] = [
        (|s| s.replica_count = 2, "replica_count"),
        (|s| s.replica_count = 0, "replica_count"),
        (|s| s.disconnected_after_ms = 1, "disconnected_after_ms"),
        (|s| s.down_after_ms = 2_500, "down_after_ms"),
        (|s| s.transfers_max = 0, "transfers_max"),
    ];
    for (edit, name) in cases {
        let mut settings = Settings::default();
        edit(&mut settings);
        let refusal = refused(&mut state, Command::ChangeSettings(settings));
        assert!(refusal.to_string().contains(name), "{refusal}");
    }
    let five = Settings {
        replica_count: 5,
        ..Settings::default()
    };
    assert_eq!(
        apply(&mut state, Command::ChangeSettings(five)),
        Reply::Done
    );
    assert_eq!(state.settings().replica_count, 5);
}

#[test]
fn settings_are_changed_one_by_one_or_refused_in_one_sentence() {
    let mut state = State::default();
    let change = |name: &str, value: &str| Command::ChangeSetting {
        name: name.into(),
        value: value.into(),
    };
    let cases = [
        (
            "replicas",
            "3",
            "there is no setting `replicas`: it is one of replica_count, disconnected",
        ),
        (
            "replica_count",
            "4",
            "replica_count must be 1, 3, 5 or 7, not 4",
        ),
        (
            "replica_count",
            "many",
            "replica_count must be a whole number from 1 to 7, not `many`",
        ),
        (
            "transfers_max",
            "-1",
            "transfers_max must be a whole number from 1 to 10000, not `-1`",
        ),
        (
            "down_after_ms",
            "10m",
            "a whole number of milliseconds from 2000 to 86400000, not `10m`",
        ),
        (
            "transfers_max",
            "10001",
            "transfers_max must be a whole number from 1 to 10000, not 10001",
        ),
        (
            "leader_settle_ms",
            "86400001",
            "leader_settle_ms must be a whole number of milliseconds from 0 to 86400000, not 864",
        ),
        (
            "joint_changes",
            "1",
            "joint_changes must be true or false, not `1`",
        ),
        (
            "down_after_ms",
            "4000",
            "must not be below disconnected_after_ms (5000)",
        ),
    ];
    for (name, value, sentence) in cases {
        let refusal = refused(&mut state, change(name, value)).to_string();
        assert!(refusal.contains(sentence), "{refusal}");
    }
    for (name, value) in [
        ("transfers_max", "9"),
        ("joint_changes", "false"),
        ("down_after_ms", "60000"),
    ] {
        assert_eq!(apply(&mut state, change(name, value)), Reply::Done);
        assert!(state.settings().list().contains(&(name, value.into())));
    }
    let expected = Settings {
        transfers_max: 9,
        joint_changes: false,
        down_after_ms: 60_000,
        ..Settings::default()
    };
    assert_eq!(*state.settings(), expected);
}

#[test]
fn regions_name_known_stores_and_ids_only() {
    let mut state = bootstrapped();
    let update = |region| Command::UpdateRegions {
        regions: vec![region],
    };
    let unknown = at(region(1_001, "", "m", &[1_000, 1_003]), 2, 1);
    assert_eq!(
        refused(&mut state, update(unknown.clone())),
        Refusal::UnknownStore {
            store: StoreId(1_003)
        }
    );
    apply(&mut state, Command::PutStore(store(1_003)));
    let reply = apply(&mut state, update(unknown));
    assert_eq!(reply, Reply::Routed { removed: vec![] });
    let mut invented = at(region(1_001, "", "m", &[1_000]), 3, 1);
    invented.peers[0].id = PeerId(10_000);
    let refusal = refused(&mut state, update(invented));
    assert!(matches!(refusal, Refusal::BadRegion { .. }), "{refusal}");
}

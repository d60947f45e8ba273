//! The rows are the state: after any commands, and whatever the commands were.

use proptest::prelude::*;

use super::*;

fn command() -> impl Strategy<Value = Command> {
    let ids = 999..1_012_u64;
    let bounds = prop_oneof![Just(""), Just("d"), Just("m"), Just("t")];
    let some_region = (
        ids.clone(),
        bounds.clone(),
        bounds,
        prop::collection::btree_set(1_000..1_005_u64, 1..4),
        1..5_u64,
        1..5_u64,
    )
        .prop_map(|(id, start, end, stores, conf_ver, version)| {
            let stores: Vec<u64> = stores.into_iter().collect();
            at(region(id, start, end, &stores), conf_ver, version)
        });
    let some_store =
        (1_000..1_005_u64, 1..3_u64, 0..4_u64).prop_map(|(id, start, address)| StoreRecord {
            start_number: start,
            address: format!("a{address}"),
            ..store(id)
        });
    let life = prop_oneof![
        Just(StoreLife::Serving),
        Just(StoreLife::Leaving),
        Just(StoreLife::Tombstone)
    ];
    prop_oneof![
        1 => (0..3_u64).prop_map(|cluster_id| Command::Found { cluster_id }),
        2 => (0..200_u32).prop_map(|count| Command::ReserveIds { count }),
        1 => any::<u64>().prop_map(|bound_ms| Command::RaiseTimestampBound { bound_ms }),
        4 => some_store.clone().prop_map(Command::PutStore),
        2 => some_store.prop_map(|store| {
            let regions = vec![region(1_001, "", "m", &[store.id.0]), region(1_002, "m", "", &[store.id.0])];
            Command::Bootstrap { store, regions }
        }),
        1 => (1_000..1_005_u64).prop_map(|id| Command::EvictLeaders { store: StoreId(id) }),
        1 => (1_000..1_005_u64).prop_map(|id| Command::AdmitLeaders { store: StoreId(id) }),
        1 => (1_000..1_005_u64).prop_map(|id| Command::ForgetStore { store: StoreId(id) }),
        2 => (1_000..1_005_u64, life)
            .prop_map(|(id, life)| Command::SetStoreLife { store: StoreId(id), life }),
        8 => prop::collection::vec(some_region, 1..3)
            .prop_map(|regions| Command::UpdateRegions { regions }),
        1 => (0..6_u32).prop_map(|replica_count| {
            Command::ChangeSettings(Settings { replica_count, ..Settings::default() })
        }),
        1 => (0..Settings::NAMES.len(), 0..9_000_u32).prop_map(|(name, value)| {
            let value = match value {
                0 => "true".into(),
                number => number.to_string(),
            };
            Command::ChangeSetting { name: Settings::NAMES[name].into(), value }
        }),
    ]
}

/// Ids from 1000 to 1999 exist, so that most commands come through.
fn prepared() -> (State, BTreeMap<Bytes, Bytes>) {
    let mut rows = BTreeMap::new();
    let mut state = State::default();
    step(&mut state, &mut rows, Command::ReserveIds { count: 1_000 });
    (state, rows)
}

fn step(state: &mut State, rows: &mut BTreeMap<Bytes, Bytes>, command: Command) -> Reply {
    let mut changes = Vec::new();
    let reply = state.apply(command, &mut changes);
    for change in changes {
        match change {
            RowChange::Put(row) => {
                rows.insert(row.key, row.value);
            }
            RowChange::Delete { key } => {
                assert!(
                    rows.remove(&key).is_some(),
                    "a row that was not there is deleted"
                );
            }
        }
    }
    reply
}

proptest! {
    #[test]
    fn restored_rows_are_the_state_and_invariants_hold(
        commands in prop::collection::vec(command(), 1..60)
    ) {
        let (mut state, mut rows) = prepared();
        for command in commands {
            let before = state.clone();
            step(&mut state, &mut rows, command);
            let stored = rows.iter().map(|(key, value)| Row { key: key.clone(), value: value.clone() });
            prop_assert_eq!(&State::restore(stored).expect("own rows"), &state);
            // M9, D9.
            prop_assert!(state.next_id() >= before.next_id());
            prop_assert!(state.timestamp_bound_ms() >= before.timestamp_bound_ms());
            for (id, store) in before.stores() {
                let Some(now) = state.stores().get(id) else {
                    prop_assert!(before.has_left(*id) && state.has_left(*id));
                    continue;
                };
                prop_assert_eq!(now.incarnation, store.incarnation);
                prop_assert!(now.start_number >= store.start_number);
                prop_assert!(state.has_left(*id) || !before.has_left(*id));
            }
            // M1: in key order, each region ends before or where the next one starts.
            let tiles: Vec<_> = state.routes().from(b"").collect();
            prop_assert_eq!(tiles.len(), state.routes().len());
            for pair in tiles.windows(2) {
                prop_assert!(!pair[0].end.is_empty() && pair[0].end <= pair[1].start);
            }
            // M8.
            for region in before.routes().regions() {
                if let Some(now) = state.routes().region(region.id) {
                    prop_assert!(!now.epoch.is_behind(region.epoch));
                }
            }
        }
    }
}

#[test]
fn a_damaged_row_is_named() {
    let row = Row {
        key: Bytes::from_static(b"r12345678"),
        value: Bytes::from_static(&[1, b'r', 0]),
    };
    let error = State::restore([row]).expect_err("cut off");
    assert!(
        error.to_string().contains("region id is cut off"),
        "{error}"
    );
    let row = Row {
        key: Bytes::from_static(b"q"),
        value: Bytes::from_static(&[1, b'r']),
    };
    State::restore([row]).expect_err("key and value do not belong together");
}

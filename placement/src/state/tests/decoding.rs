//! Bytes from the log are read without trust.

use proptest::prelude::*;

use super::*;

fn samples() -> Vec<Command> {
    vec![
        Command::Found { cluster_id: 3 },
        Command::RegisterMember(MemberRecord {
            id: PeerId(1),
            name: "a".into(),
            url: "http://a".into(),
            incarnation: 2,
            start_number: 3,
        }),
        Command::ReserveIds { count: 7 },
        Command::RaiseTimestampBound { bound_ms: 8 },
        Command::Bootstrap {
            store: store(1_000),
            regions: vec![region(1_001, "", "", &[1_000])],
        },
        Command::PutStore(store(1_002)),
        Command::SetStoreLife {
            store: StoreId(4),
            life: StoreLife::Leaving,
        },
        Command::ForgetStore { store: StoreId(4) },
        Command::EvictLeaders { store: StoreId(4) },
        Command::AdmitLeaders { store: StoreId(4) },
        Command::SetLabels {
            store: StoreId(4),
            labels: BTreeMap::from([("zone".into(), "a".into()), ("host".into(), "".into())]),
        },
        Command::UpdateRegions {
            regions: vec![region(1_001, "a", "b", &[1, 2, 3])],
        },
        Command::ChangeSettings(Settings::default()),
        Command::ChangeSetting {
            name: "joint_changes".into(),
            value: "true".into(),
        },
    ]
}

#[test]
fn every_command_survives_its_encoding() {
    for command in samples() {
        assert_eq!(Command::decode(&command.encode()), Ok(command));
    }
}

#[test]
fn every_cut_and_every_addition_is_noticed() {
    for command in samples() {
        let bytes = command.encode();
        for length in 0..bytes.len() {
            Command::decode(&bytes[..length]).expect_err("cut off");
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert_eq!(
            Command::decode(&longer),
            Err(DecodeError::Trailing { left: 1 })
        );
    }
}

#[test]
fn a_later_format_is_refused() {
    let mut bytes = Command::Found { cluster_id: 3 }.encode().to_vec();
    bytes[0] = 2;
    let error = Command::decode(&bytes).expect_err("unknown version");
    assert_eq!(error.to_string(), "command has the unknown value 2");
}

#[test]
fn a_false_length_costs_no_memory() {
    let mut bytes = Command::UpdateRegions { regions: vec![] }.encode().to_vec();
    bytes[2..6].copy_from_slice(&u32::MAX.to_le_bytes());
    Command::decode(&bytes).expect_err("four billion regions are not there");
}

proptest! {
    #[test]
    fn any_bytes_give_a_command_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        // Either outcome is fine; only a panic is not.
        let _ = Command::decode(&bytes);
        let mut headed = vec![1, bytes.len() as u8 % 11];
        headed.extend_from_slice(&bytes);
        let _ = Command::decode(&headed);
    }
}

//! The stored form keeps what it is given and refuses what it does not know.

use proptest::prelude::*;

use super::*;

fn any_value() -> impl Strategy<Value = StoredValue> {
    let expiry = proptest::option::of(any::<u64>().prop_map(PlacementTime));
    let payload = proptest::collection::vec(any::<u8>(), 0..64).prop_map(Bytes::from);
    (expiry, payload).prop_map(|(expires_at, payload)| StoredValue {
        expires_at,
        payload,
    })
}

proptest! {
    #[test]
    fn a_value_survives_its_stored_form(value in any_value()) {
        prop_assert_eq!(StoredValue::decode(&value.encode()), Ok(value));
    }

    #[test]
    fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..32)) {
        let bytes = Bytes::from(bytes);
        if let Ok(value) = StoredValue::decode(&bytes) {
            prop_assert_eq!(value.encode(), bytes);
        }
    }
}

#[test]
fn a_plain_value_costs_one_byte() {
    assert_eq!(StoredValue::encode_plain(b"v"), Bytes::from_static(b"\0v"));
}

#[test]
fn a_value_expires_exactly_at_its_moment() {
    let value = StoredValue {
        expires_at: Some(PlacementTime(1000)),
        payload: Bytes::new(),
    };
    assert!(!value.expired_at(PlacementTime(999)));
    assert!(value.expired_at(PlacementTime(1000)));
    assert!(
        !StoredValue {
            expires_at: None,
            ..value
        }
        .expired_at(PlacementTime(u64::MAX))
    );
}

#[test]
fn unknown_flags_and_short_values_are_refused() {
    let decode = |bytes: &'static [u8]| StoredValue::decode(&Bytes::from_static(bytes));
    assert_eq!(decode(b""), Err(ValueError::CutShort(0)));
    assert_eq!(decode(b"\x01\x00\x00"), Err(ValueError::CutShort(3)));
    assert_eq!(decode(b"\x02payload!"), Err(ValueError::Flags(2)));
    assert_eq!(decode(b"\x81payload!"), Err(ValueError::Flags(0x81)));
}

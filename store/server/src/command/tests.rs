//! The codec keeps every command, shares its input and survives any input.

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::*;

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..24).prop_map(Bytes::from)
}

fn write() -> impl Strategy<Value = Write> {
    (bytes(), bytes(), any::<u64>()).prop_map(|(key, stored, ttl_ms)| Write {
        key,
        stored,
        ttl_ms,
    })
}

fn swap() -> impl Strategy<Value = Swap> {
    prop_oneof![
        Just(Swap::Delete),
        (bytes(), any::<u64>()).prop_map(|(stored, ttl_ms)| Swap::Put { stored, ttl_ms }),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        Just(Condition::Always),
        Just(Condition::IfAbsent),
        Just(Condition::IfPresent),
    ]
}

fn expiry() -> impl Strategy<Value = NewExpiry> {
    prop_oneof![
        Just(NewExpiry::Kept),
        any::<u64>().prop_map(|ttl_ms| NewExpiry::After { ttl_ms }),
    ]
}

fn update() -> impl Strategy<Value = Operation> {
    prop_oneof![
        (bytes(), any::<i64>()).prop_map(|(key, delta)| Operation::Increment { key, delta }),
        (bytes(), bytes()).prop_map(|(key, suffix)| Operation::Append { key, suffix }),
        (bytes(), bytes(), condition(), expiry()).prop_map(|(key, stored, condition, expiry)| {
            Operation::PutIf {
                key,
                stored,
                condition,
                expiry,
            }
        }),
        vec(bytes(), 0..5).prop_map(|keys| Operation::Remove { keys }),
        (bytes(), any::<u64>()).prop_map(|(key, ttl_ms)| Operation::Expire { key, ttl_ms }),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        5 => update(),
        1 => Just(Operation::AdvanceTime),
        1 => write().prop_map(Operation::Put),
        1 => bytes().prop_map(|key| Operation::Delete { key }),
        1 => vec(write(), 0..5).prop_map(Operation::BatchPut),
        1 => vec(bytes(), 0..5).prop_map(|keys| Operation::BatchDelete { keys }),
        1 => (bytes(), bytes()).prop_map(|(start, end)| Operation::DeleteRange { start, end }),
        1 => (bytes(), of(bytes()), swap()).prop_map(|(key, expected, swap)| {
            Operation::CompareAndSwap {
                key,
                expected,
                swap,
            }
        }),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    (any::<u64>(), operation()).prop_map(|(now, operation)| Command {
        now: PlacementTime(now),
        operation,
    })
}

fn encode(command: &Command) -> Bytes {
    let mut out = BytesMut::new();
    command.encode_into(&mut out);
    out.freeze()
}

proptest! {
    #[test]
    fn a_command_survives_its_encoding(command in command()) {
        let encoded = encode(&command);
        prop_assert_eq!(encoded.len(), command.encoded_len());
        prop_assert_eq!(Command::decode(&encoded), Ok(command));
    }

    #[test]
    fn every_cut_is_noticed(command in command()) {
        let encoded = encode(&command);
        for len in 0..encoded.len() {
            prop_assert_eq!(Command::decode(&encoded.slice(..len)), Err(CommandError::CutShort));
        }
    }

    #[test]
    fn any_bytes_decode_to_themselves_or_are_refused(
        tail in vec(any::<u8>(), 0..64),
        kind in 0_u8..13,
    ) {
        let input = Bytes::from([&[1, 0, 0, 0, 0, 0, 0, 0, 0, kind][..], &tail].concat());
        if let Ok(command) = Command::decode(&input) {
            prop_assert_eq!(encode(&command), input);
        }
    }
}

#[test]
fn decoding_shares_the_input() {
    let put = Command {
        now: PlacementTime(7),
        operation: Operation::Put(Write {
            key: Bytes::from_static(b"rkey"),
            stored: Bytes::from_static(b"\0value"),
            ttl_ms: 0,
        }),
    };
    let encoded = encode(&put);
    let Ok(Command {
        operation: Operation::Put(write),
        ..
    }) = Command::decode(&encoded)
    else {
        panic!("a put was encoded");
    };
    let input = encoded.as_ptr_range();
    assert!(input.contains(&write.key.as_ptr()), "the key was copied");
    assert!(
        input.contains(&write.stored.as_ptr()),
        "the value was copied"
    );
}

#[test]
fn a_newer_format_and_damage_are_named() {
    let decode = |bytes: &'static [u8]| Command::decode(&Bytes::from_static(bytes));
    let advance = b"\x01\0\0\0\0\0\0\0\0\x00";
    assert!(decode(advance).is_ok());
    assert_eq!(decode(b"\x02"), Err(CommandError::Version(2)));
    assert_eq!(
        decode(b"\x01\0\0\0\0\0\0\0\0\xEE"),
        Err(CommandError::Operation(0xEE))
    );
    assert_eq!(
        decode(b"\x01\0\0\0\0\0\0\0\0\x00!"),
        Err(CommandError::Trailing(1))
    );
    assert_eq!(
        decode(b"\x01\0\0\0\0\0\0\0\0\x06\0\0\0\0\x07"),
        Err(CommandError::Tag(7))
    );
    // A count of four thousand million writes with nothing behind it.
    assert_eq!(
        decode(b"\x01\0\0\0\0\0\0\0\0\x03\xFF\xFF\xFF\xFF"),
        Err(CommandError::CutShort)
    );
}

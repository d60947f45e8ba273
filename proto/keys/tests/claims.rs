//! Every claim about encodings, views and engine ranges, as a property of arbitrary bytes.

use proptest::collection::vec;
use proptest::prelude::*;
use tinykv_keys::engine::{self, Kind};
use tinykv_keys::{Asker, Bounds, OwnedBounds, RoutingKey, memcomparable};

/// Bytes that meet each other often: few values, those that markers and padding are made of.
fn dense_bytes() -> impl Strategy<Value = Vec<u8>> + Clone {
    let byte = prop_oneof![
        3 => Just(0x00),
        2 => Just(0xFF),
        1 => Just(0xF7),
        1 => Just(0xFE),
        1 => any::<u8>(),
    ];
    vec(byte, 0..20)
}

/// Points near encodings: the encoding of some key, one cut short, one with a byte changed or more
/// bytes behind it; or any bytes at all.
fn point() -> impl Strategy<Value = Vec<u8>> {
    let encoding = dense_bytes().prop_map(|key| memcomparable::encode(&key));
    prop_oneof![
        2 => dense_bytes(),
        2 => encoding.clone(),
        1 => (encoding.clone(), any::<prop::sample::Index>())
            .prop_map(|(bytes, cut)| bytes[..cut.index(bytes.len())].to_vec()),
        1 => (encoding.clone(), any::<prop::sample::Index>(), any::<u8>())
            .prop_map(|(mut bytes, at, byte)| {
                let at = at.index(bytes.len());
                bytes[at] = byte;
                bytes
            }),
        1 => (encoding, vec(prop_oneof![Just(0), any::<u8>()], 1..3))
            .prop_map(|(bytes, more)| [bytes, more].concat()),
    ]
}

/// Two ends in order; the start may be empty, and the end may be missing.
fn bounds() -> impl Strategy<Value = OwnedBounds> {
    (point(), prop_oneof![4 => point(), 1 => Just(Vec::new())]).prop_map(|(one, two)| {
        if two.is_empty() || one <= two {
            OwnedBounds {
                start: one,
                end: two,
            }
        } else {
            OwnedBounds {
                start: two,
                end: one,
            }
        }
    })
}

/// The same encoding, written the slow and obvious way.
fn slow_encode(key: &[u8]) -> Vec<u8> {
    let mut encoding = Vec::new();
    for group in 0..=key.len() / 8 {
        let part = &key[group * 8..key.len().min(group * 8 + 8)];
        let padding = 8 - part.len();
        encoding.extend_from_slice(part);
        encoding.extend(std::iter::repeat_n(0, padding));
        encoding.push(0xFF - padding as u8);
    }
    encoding
}

fn up(bytes: &[u8]) -> Vec<u8> {
    memcomparable::ceiling(bytes)
}

fn raw(bytes: &[u8]) -> Vec<u8> {
    if memcomparable::is_encoding(bytes) {
        [bytes, &[0]].concat()
    } else {
        bytes.to_vec()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn encoding_is_the_documented_one(key in dense_bytes()) {
        let encoding = memcomparable::encode(&key);
        prop_assert_eq!(&encoding, &slow_encode(&key));
        prop_assert_eq!(encoding.len(), memcomparable::encoded_len(key.len()));
        prop_assert_eq!(memcomparable::decode(&encoding), Some(key));
    }

    #[test]
    fn encoding_keeps_the_order(one in dense_bytes(), two in dense_bytes()) {
        let (first, second) = (memcomparable::encode(&one), memcomparable::encode(&two));
        prop_assert_eq!(one.cmp(&two), first.cmp(&second));
        prop_assert!(one == two || !second.starts_with(&first), "no encoding begins another");
    }

    #[test]
    fn only_encodings_decode(bytes in point()) {
        match memcomparable::decode(&bytes) {
            Some(key) => prop_assert_eq!(slow_encode(&key), bytes),
            None => prop_assert!(!memcomparable::is_encoding(&bytes)),
        }
    }

    #[test]
    fn up_is_an_encoding_at_or_above(bytes in point()) {
        let above = up(&bytes);
        prop_assert!(memcomparable::is_encoding(&above));
        prop_assert!(above >= bytes);
        prop_assert_eq!(memcomparable::is_encoding(&bytes), above == bytes);
    }

    #[test]
    fn up_is_the_nearest(bytes in point(), other in point()) {
        let other = up(&other);
        prop_assert!(other < bytes || other >= up(&bytes));
    }

    /// The candidates next below up(x) are tried one by one: up(x) with a smaller last group.
    #[test]
    fn nothing_between_x_and_up(bytes in point()) {
        let key = memcomparable::decode(&up(&bytes)).expect("up is an encoding");
        if let Some(shorter) = key.strip_suffix(&[0]) {
            prop_assert!(memcomparable::encode(shorter) < bytes);
        }
        if let Some((last, rest)) = key.split_last() && *last > 0 {
            // As high as one can get below the key: a smaller last byte, then many FF.
            let lower = [rest, &[last - 1], &[0xFF; 40]].concat();
            prop_assert!(memcomparable::encode(&lower) < bytes);
        }
    }

    #[test]
    fn up_keeps_the_set_of_encoded_keys(range in bounds(), key in point()) {
        let key = up(&key);
        let stored = range.as_bounds().contains(&key);
        let seen = range.as_bounds().seen_by(Asker::Encoded);
        prop_assert_eq!(stored, seen.is_some_and(|seen| seen.as_bounds().contains(&key)));
    }

    #[test]
    fn bounds_shown_to_decoders_decode(range in bounds()) {
        if let Some(seen) = range.as_bounds().seen_by(Asker::Encoded) {
            for bound in [&seen.start, &seen.end] {
                prop_assert!(bound.is_empty() || memcomparable::is_encoding(bound));
            }
        }
    }

    #[test]
    fn bounds_shown_to_raw_askers_are_no_encodings(range in bounds()) {
        if let Some(seen) = range.as_bounds().seen_by(Asker::Raw) {
            prop_assert!(!memcomparable::is_encoding(&seen.start));
            prop_assert!(!memcomparable::is_encoding(&seen.end));
        }
    }

    #[test]
    fn empty_bounds_stay_empty(range in bounds(), asker in asker()) {
        if let Some(seen) = range.as_bounds().seen_by(asker) {
            prop_assert_eq!(seen.start.is_empty(), range.start.is_empty());
            prop_assert_eq!(seen.end.is_empty(), range.end.is_empty());
        }
        let all = OwnedBounds { start: Vec::new(), end: Vec::new() };
        prop_assert_eq!(Bounds::ALL.seen_by(asker), Some(all));
    }

    #[test]
    fn raw_keys_lie_where_the_rule_says(range in bounds(), key in point()) {
        let (start, end) = (raw(&range.start), raw(&range.end));
        let expected = start <= key && (end.is_empty() || key < end);
        prop_assert_eq!(range.as_bounds().contains_raw(&key), expected);
        let seen = range.as_bounds().seen_by(Asker::Raw);
        prop_assert_eq!(seen.is_some_and(|seen| seen.as_bounds().contains(&key)), expected);
    }

    /// However the space is cut, each view of the pieces tiles it: every key is in exactly one.
    #[test]
    fn every_view_tiles_the_space(mut cuts in vec(point(), 0..6), key in point()) {
        cuts.retain(|cut| !cut.is_empty());
        cuts.sort();
        cuts.dedup();
        let starts = std::iter::once(&[][..]).chain(cuts.iter().map(Vec::as_slice));
        let ends = cuts.iter().map(Vec::as_slice).chain(std::iter::once(&[][..]));
        let regions: Vec<_> = starts.zip(ends).map(|(start, end)| Bounds::new(start, end)).collect();
        let holders = |holds: &dyn Fn(&Bounds<'_>) -> bool| regions.iter().filter(|r| holds(r)).count();
        prop_assert_eq!(holders(&|region| region.contains_raw(&key)), 1);
        prop_assert_eq!(holders(&|region| region.contains_encoded(&key)), 1);
        // The same through the bounds that askers see.
        let encoding = memcomparable::encode(&key);
        for (asker, key) in [(Asker::Raw, &key), (Asker::Encoded, &encoding)] {
            let seen = holders(&|region| {
                region.seen_by(asker).is_some_and(|seen| seen.as_bounds().contains(key))
            });
            prop_assert_eq!(seen, 1);
        }
        // And in the engine: of each kind, one region holds the key.
        for (kind, at) in [
            (Kind::Raw, engine::raw(&key)),
            (Kind::KeyspaceRaw, engine::keyspace_raw(&key)),
            (Kind::Lock, engine::lock(&key)),
            (Kind::Value, engine::value(&key, 7)),
            (Kind::Write, engine::write(&key, u64::MAX)),
        ] {
            let held = holders(&|region| {
                engine::region_range(kind, region).is_some_and(|range| range.contains(&at))
            });
            prop_assert_eq!(held, 1);
        }
    }

    /// A region's engine ranges hold exactly the keys that belong to it.
    #[test]
    fn engine_ranges_hold_the_regions_keys(range in bounds(), key in dense_bytes()) {
        let bounds = range.as_bounds();
        let ranges = engine::region_ranges(&bounds);
        let holds = |at: Vec<u8>| ranges.iter().any(|range| range.contains(&at));
        prop_assert_eq!(holds(engine::raw(&key)), bounds.contains_raw(&key));
        let encoded = bounds.contains_encoded(&key);
        prop_assert_eq!(holds(engine::keyspace_raw(&key)), encoded);
        prop_assert_eq!(holds(engine::lock(&key)), encoded);
        prop_assert_eq!(holds(engine::value(&key, 0)), encoded);
        prop_assert_eq!(holds(engine::write(&key, 1 << 40)), encoded);
        prop_assert!(!holds(engine::region_meta(1, engine::RegionMeta::Descriptor).to_vec()));
        for pair in ranges.windows(2) {
            prop_assert!(pair[0].end <= pair[1].start, "in order and disjoint");
        }
        for range in &ranges {
            prop_assert!(range.start < range.end);
        }
    }

    /// A split before a key of either kind puts exactly the keys from it on to the right.
    #[test]
    fn a_cut_separates_at_its_key(key in point(), other in point()) {
        let cut = RoutingKey::of_encoded(&key);
        let right = Bounds::new(cut.as_bytes(), &[]);
        prop_assert_eq!(right.contains_encoded(&other), other >= key);

        let cut = RoutingKey::cut_before_raw(&key);
        let right = Bounds::new(cut.as_bytes(), &[]);
        let expected = if memcomparable::is_encoding(&key) { other > key } else { other >= key };
        prop_assert_eq!(right.contains_raw(&other), expected);
    }

    #[test]
    fn a_boundary_before_an_engine_key_leaves_the_key_above(key in dense_bytes(), below in dense_bytes()) {
        prop_assume!(!key.is_empty());
        let boundary = |at: &[u8]| engine::boundary_before(at).expect("data").into_bytes();
        let raw = boundary(&engine::raw(&key));
        // The one raw key that is an encoding stays below its boundary.
        let above = Bounds::new(&raw, &[]);
        prop_assert_eq!(above.contains_raw(&key), !memcomparable::is_encoding(&key));
        prop_assert_eq!(above.contains_raw(&below), below >= raw);
        for at in [
            engine::keyspace_raw(&key),
            engine::lock(&key),
            engine::value(&key, 7),
            engine::write(&key, 8),
        ] {
            let boundary = boundary(&at);
            let above = Bounds::new(&boundary, &[]);
            prop_assert!(above.contains_encoded(&key));
            prop_assert_eq!(above.contains_encoded(&below), below >= key);
        }
    }

    #[test]
    fn versions_come_back_newest_first(key in dense_bytes(), old in any::<u64>(), new in any::<u64>()) {
        let at = engine::value(&key, old);
        prop_assert_eq!(engine::user_key_and_timestamp(&at), Some((key.clone(), old)));
        prop_assert_eq!(engine::value(&key, new).cmp(&at), old.cmp(&new));
        prop_assert_eq!(engine::user_key(&at), None);
        let raw = engine::raw(&key);
        prop_assert_eq!(engine::user_key(&raw), Some(&key[..]));
    }

    /// Decoders of engine keys take any bytes.
    #[test]
    fn foreign_engine_keys_are_told(bytes in point()) {
        if let Some((region, what)) = engine::parse_region_meta(&bytes) {
            prop_assert_eq!(&engine::region_meta(region, what)[..], &bytes[..]);
        }
        let _any = (Kind::of(&bytes), engine::user_key(&bytes), engine::user_key_and_timestamp(&bytes));
    }

    #[test]
    fn sets_of_bounds(one in bounds(), two in bounds(), key in point()) {
        let (one, two) = (one.as_bounds(), two.as_bounds());
        let both = one.contains(&key) && two.contains(&key);
        prop_assert_eq!(one.intersection(&two).contains(&key), both);
        prop_assert!(!both || one.overlaps(&two));
        prop_assert_eq!(one.overlaps(&two), two.overlaps(&one));
        prop_assert!(!(one.encloses(&two) && two.contains(&key)) || one.contains(&key));
        prop_assert!(one.encloses(&one.intersection(&two)) || !one.overlaps(&two));
    }
}

fn asker() -> impl Strategy<Value = Asker> {
    prop_oneof![Just(Asker::Stored), Just(Asker::Encoded), Just(Asker::Raw)]
}

//! Particular keys whose bytes other programs rely on.

use tinykv_keys::engine::{self, Kind, RegionMeta};
use tinykv_keys::{
    Asker, Bounds, KEY_BYTES_MAX, KeyspaceMode, LimitError, RoutingKey, VALUE_BYTES_MAX,
    bootstrap_edges, bootstrap_regions, check_key, check_value, is_bootstrap_edge, keyspace_prefix,
    memcomparable, prefixed_key,
};

#[test]
fn known_encodings() {
    assert_eq!(memcomparable::encode(b""), b"\0\0\0\0\0\0\0\0\xf7");
    assert_eq!(memcomparable::encode(b"k1"), b"k1\0\0\0\0\0\0\xf9");
    assert_eq!(
        memcomparable::encode(b"12345678"),
        b"12345678\xff\0\0\0\0\0\0\0\0\xf7"
    );
}

#[test]
fn known_ceilings() {
    let up = memcomparable::ceiling;
    assert_eq!(up(b""), memcomparable::encode(b""));
    assert_eq!(up(b"k"), memcomparable::encode(b"k"));
    assert_eq!(up(b"12345678"), memcomparable::encode(b"12345678"));
    assert_eq!(up(b"k1\0\0\0\0\0\0\xf9"), memcomparable::encode(b"k1"));
    assert_eq!(up(b"k1\0\0\0\0\0\0\xf9\0"), memcomparable::encode(b"k1\0"));
    assert_eq!(up(b"12345678\xfe"), memcomparable::encode(b"12345678"));
    assert_eq!(up(&[0xFF; 20]), memcomparable::encode(&[0xFF; 18]));
}

#[test]
fn keyspace_keys() {
    assert_eq!(
        prefixed_key(KeyspaceMode::Raw, 0, b"k1").as_deref(),
        Some(&b"r\0\0\0k1"[..])
    );
    assert_eq!(
        keyspace_prefix(KeyspaceMode::Transactional, 0x01_02_03),
        Some(*b"x\x01\x02\x03")
    );
    assert_eq!(keyspace_prefix(KeyspaceMode::Raw, 1 << 24), None);
}

#[test]
fn bootstrap_regions_tile_the_space_at_the_edges() {
    let edges = bootstrap_edges();
    assert!(edges.is_sorted());
    assert_eq!(edges[0].as_bytes(), b"r\0\0\0\0\0\0\0\xfb");
    assert_eq!(
        edges[4].as_bytes(),
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0\xf7"
    );
    let regions = bootstrap_regions();
    assert!(regions[0].start.is_empty());
    assert!(regions[5].end.is_empty());
    for (index, edge) in edges.iter().enumerate() {
        assert_eq!(regions[index].end, edge.as_bytes());
        assert_eq!(regions[index + 1].start, edge.as_bytes());
        assert!(is_bootstrap_edge(edge.as_bytes()));
    }
    assert!(!is_bootstrap_edge(b""));
    assert!(!is_bootstrap_edge(b"r\0\0\0"));
}

/// Everybody sees all six regions from the start: none is empty in any view.
#[test]
fn bootstrap_regions_are_seen_by_everybody() {
    for region in bootstrap_regions() {
        for asker in [Asker::Stored, Asker::Encoded, Asker::Raw] {
            assert!(region.as_bounds().seen_by(asker).is_some());
        }
    }
}

#[test]
fn a_region_without_any_encoding_is_empty_for_decoders() {
    let bounds = Bounds::new(b"", b"\0");
    assert_eq!(bounds.seen_by(Asker::Encoded), None);
    let between = Bounds::new(b"k1", b"k1\0");
    assert_eq!(
        between.seen_by(Asker::Encoded),
        None,
        "both are seen as the encoding of k1"
    );
    assert_eq!(engine::region_range(Kind::KeyspaceRaw, &between), None);
    assert!(engine::region_range(Kind::Raw, &between).is_some());
}

#[test]
fn a_region_between_an_encoding_and_its_successor_is_empty_for_raw_askers() {
    let start = memcomparable::encode(b"k");
    let end = [&start[..], &[0]].concat();
    assert_eq!(Bounds::new(&start, &end).seen_by(Asker::Raw), None);
}

#[test]
fn splits_lie_strictly_inside() {
    let bounds = Bounds::new(b"b", b"d");
    let at = |key: &[u8]| bounds.can_split_at(&RoutingKey::cut_before_raw(key));
    assert!(at(b"c"));
    assert!(at(b"b\0"));
    assert!(!at(b"b"));
    assert!(!at(b"d"));
    assert!(!at(b"a"));
    assert!(!Bounds::ALL.can_split_at(&RoutingKey::from_stored(b"")));
}

#[test]
fn engine_keys_of_regions_and_data() {
    assert_eq!(engine::raw(b"key"), b"rkey");
    assert_eq!(engine::keyspace_raw(b"r\0\0\0key"), b"kr\0\0\0key");
    assert_eq!(
        engine::region_meta(258, RegionMeta::Descriptor),
        *b"m\0\0\0\0\0\0\x01\x02\x01"
    );
    let meta = engine::region_meta(258, RegionMeta::ApplyState);
    assert_eq!(
        engine::parse_region_meta(&meta),
        Some((258, RegionMeta::ApplyState))
    );
    assert!(engine::region_meta_range(258).contains(&meta));
    assert!(!engine::region_meta_range(257).contains(&meta));
    let whole = engine::region_ranges(&Bounds::ALL);
    assert_eq!(whole.len(), Kind::DATA.len());
    for (range, kind) in whole.iter().zip(Kind::DATA) {
        assert_eq!((range.start[0], range.end[0]), (kind as u8, kind as u8 + 1));
    }
}

#[test]
fn limits_name_the_length() {
    assert_eq!(check_key(b""), Err(LimitError::EmptyKey));
    assert_eq!(check_key(&vec![0; KEY_BYTES_MAX]), Ok(()));
    let bytes = KEY_BYTES_MAX + 1;
    assert_eq!(
        check_key(&vec![0; bytes]),
        Err(LimitError::KeyTooLong { bytes })
    );
    assert_eq!(check_value(&vec![0; VALUE_BYTES_MAX]), Ok(()));
    let refused = check_value(&vec![0; VALUE_BYTES_MAX + 1]).expect_err("one byte too many");
    assert_eq!(
        refused.to_string(),
        "the value has 8388609 bytes, 8388608 are allowed"
    );
}

#[test]
fn bounds_print_as_ranges() {
    assert_eq!(Bounds::new(b"a\0", b"").to_string(), r"[a\x00, ∞)");
    assert_eq!(Bounds::ALL.to_string(), "[, ∞)");
}

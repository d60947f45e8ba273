//! Each error carries what its client needs, in the view of its asker.

use std::time::Duration;

use super::*;

fn region(start: Vec<u8>, end: Vec<u8>) -> Arc<Region> {
    Arc::new(Region {
        id: GroupId(7),
        start: Bytes::from(start),
        end: Bytes::from(end),
        epoch: RegionEpoch {
            conf_ver: 2,
            version: 3,
        },
        peers: vec![
            Peer::voter(PeerId(1), StoreId(1)),
            Peer::learner(PeerId(2), StoreId(2)),
        ],
    })
}

/// Every field of the error but its message, set or not.
fn fields(error: &errorpb::Error) -> Vec<&'static str> {
    let set = [
        ("not_leader", error.not_leader.is_some()),
        ("region_not_found", error.region_not_found.is_some()),
        ("key_not_in_region", error.key_not_in_region.is_some()),
        ("epoch_not_match", error.epoch_not_match.is_some()),
        ("server_is_busy", error.server_is_busy.is_some()),
        ("stale_command", error.stale_command.is_some()),
        ("store_not_match", error.store_not_match.is_some()),
        (
            "region_not_initialized",
            error.region_not_initialized.is_some(),
        ),
        ("disk_full", error.disk_full.is_some()),
        ("mismatch_peer_id", error.mismatch_peer_id.is_some()),
        ("undetermined_result", error.undetermined_result.is_some()),
    ];
    set.iter()
        .filter(|(_, set)| *set)
        .map(|(name, _)| *name)
        .collect()
}

#[test]
fn each_error_sets_its_own_field_and_a_sentence() {
    let group = GroupId(7);
    let leader = Some(Peer::voter(PeerId(1), StoreId(1)));
    let all = region(Vec::new(), Vec::new());
    let (one, two) = (StoreId(1), StoreId(2));
    let wait = Duration::from_millis(30);
    let rows: Vec<(RegionError, &[&str])> = vec![
        (
            RegionError::StoreNotMatch {
                asked: one,
                here: two,
            },
            &["store_not_match"],
        ),
        (
            RegionError::RegionNotFound { region: group },
            &["region_not_found"],
        ),
        (
            RegionError::PeerMismatch {
                asked: PeerId(1),
                here: PeerId(2),
            },
            &["mismatch_peer_id"],
        ),
        (RegionError::StaleCommand, &["stale_command"]),
        (
            RegionError::NotLeader {
                region: group,
                leader,
            },
            &["not_leader"],
        ),
        (
            RegionError::EpochNotMatch {
                regions: vec![all.clone()],
            },
            &["epoch_not_match"],
        ),
        (
            RegionError::KeyNotInRegion {
                key: Bytes::from_static(b"k"),
                region: all,
            },
            &["key_not_in_region"],
        ),
        (
            RegionError::NotOpen { region: group },
            &["region_not_initialized"],
        ),
        (
            RegionError::Busy {
                reason: "too much",
                wait,
            },
            &["server_is_busy"],
        ),
        (RegionError::DiskFull { store: one }, &["disk_full"]),
        (RegionError::Refused { reason: "no" }, &[]),
        (
            RegionError::Undetermined { reason: "gone" },
            &["undetermined_result"],
        ),
    ];
    for (error, expected) in rows {
        let told = error_to_proto(&error, Asker::Raw);
        assert_eq!(fields(&told), expected, "{error:?}");
        assert!(!told.message.is_empty(), "{error:?}");
    }
}

#[test]
fn a_busy_server_says_when_to_come_back() {
    let error = RegionError::Busy {
        reason: "too much",
        wait: Duration::from_millis(30),
    };
    let busy = error_to_proto(&error, Asker::Raw)
        .server_is_busy
        .expect("busy");
    assert_eq!((busy.reason.as_str(), busy.backoff_ms), ("too much", 30));
}

#[test]
fn bounds_are_shown_as_the_asker_reads_them() {
    let encoded = tinykv_keys::RoutingKey::of_encoded(b"r\0\0\0").into_bytes();
    let split = region(encoded.clone(), b"z".to_vec());
    let shown = |asker| {
        let error = RegionError::EpochNotMatch {
            regions: vec![Arc::clone(&split)],
        };
        let told = error_to_proto(&error, asker).epoch_not_match.expect("set");
        told.current_regions.into_iter().next().expect("one region")
    };
    let raw = shown(Asker::Raw);
    assert_eq!(raw.start_key, [encoded.as_slice(), &[0]].concat());
    assert_eq!(raw.end_key, "z");
    assert_eq!(raw.region_epoch.expect("present").version, 3);
    assert_eq!(raw.peers[1].role(), metapb::PeerRole::Learner);
    let decoding = shown(Asker::Encoded);
    assert_eq!(decoding.start_key, encoded);
    assert!(tinykv_keys::memcomparable::is_encoding(&decoding.end_key));
}

#[test]
fn a_context_left_out_is_meant_for_nobody() {
    assert_eq!(target(None), Target::default());
    assert_eq!(space(None), Ok(Space::Plain));
}

#[test]
fn api_versions_choose_the_key_space() {
    let of = |api_version| {
        space(Some(&kvrpcpb::Context {
            api_version,
            ..kvrpcpb::Context::default()
        }))
    };
    assert_eq!(of(0), Ok(Space::Plain));
    assert_eq!(of(1), Ok(Space::Plain));
    assert_eq!(of(2), Ok(Space::Keyspace));
    assert_eq!(of(9), Err(Refused::ApiVersion(9)));
}

//! The bytes that TiKV's clients send and expect: numbers and types of fields, names of services.

use bytes::Bytes;
use prost::Message;
use tinykv_proto::tikvpb::batch_commands_request::{Request, request::Cmd};
use tinykv_proto::{errorpb, kvrpcpb, metapb, pdpb, tikvpb};

#[test]
fn raw_get_in_a_batch() {
    let batch = tikvpb::BatchCommandsRequest {
        requests: vec![Request {
            cmd: Some(Cmd::RawGet(kvrpcpb::RawGetRequest {
                context: None,
                key: Bytes::from_static(b"k"),
                cf: String::new(),
            })),
        }],
        request_ids: vec![7],
    };
    assert_eq!(
        batch.encode_to_vec(),
        b"\x0a\x05\x6a\x03\x12\x01k\x12\x01\x07"
    );
}

#[test]
fn an_unserved_command_keeps_its_number_and_its_fields_are_skipped() {
    // GetRequest{context{region_id 2}, key "k", version 9} in Get = 1.
    let request = Request::decode(&b"\x0a\x09\x0a\x02\x08\x02\x12\x01k\x18\x09"[..]);
    let unserved = tikvpb::UnservedRequest {};
    assert_eq!(request.expect("decodes").cmd, Some(Cmd::Get(unserved)));
}

#[test]
fn empty_command_has_number_255() {
    let request = Request {
        cmd: Some(Cmd::Empty(tikvpb::BatchCommandsEmptyRequest::default())),
    };
    assert_eq!(request.encode_to_vec(), b"\xfa\x0f\x00");
}

#[test]
fn context_numbers() {
    let context = kvrpcpb::Context {
        region_id: 2,
        region_epoch: Some(metapb::RegionEpoch {
            conf_ver: 1,
            version: 3,
        }),
        peer: Some(metapb::Peer {
            id: 4,
            store_id: 5,
            ..Default::default()
        }),
        api_version: kvrpcpb::ApiVersion::V2 as i32,
        keyspace_id: 1,
        ..Default::default()
    };
    assert_eq!(
        context.encode_to_vec(),
        b"\x08\x02\x12\x04\x08\x01\x10\x03\x1a\x04\x08\x04\x10\x05\xa8\x01\x02\x80\x02\x01"
    );
}

#[test]
fn fields_of_other_versions_are_skipped() {
    // trace_id (36, bytes) and record_time_stat (10, varint) are unknown here.
    let context = kvrpcpb::Context::decode(&b"\x08\x02\x50\x01\xa2\x02\x02ab"[..])
        .expect("unknown fields are legal");
    assert_eq!(context.region_id, 2);
}

#[test]
fn region_error_numbers() {
    let undetermined = errorpb::Error {
        undetermined_result: Some(errorpb::UndeterminedResult {
            message: "?".to_owned(),
        }),
        ..Default::default()
    };
    assert_eq!(undetermined.encode_to_vec(), b"\xb2\x01\x03\x0a\x01?");
    let moved = errorpb::Error {
        not_leader: Some(errorpb::NotLeader {
            region_id: 9,
            leader: None,
        }),
        ..Default::default()
    };
    assert_eq!(moved.encode_to_vec(), b"\x12\x02\x08\x09");
}

#[test]
fn service_names_are_case_sensitive() {
    assert_eq!(pdpb::pd_server::SERVICE_NAME, "pdpb.PD");
    assert_eq!(tikvpb::tikv_server::SERVICE_NAME, "tikvpb.Tikv");
    assert_eq!(
        tinykv_proto::keyspacepb::keyspace_server::SERVICE_NAME,
        "keyspacepb.Keyspace"
    );
    assert_eq!(
        tinykv_proto::peer::peer_server::SERVICE_NAME,
        "tinykv.peer.Peer"
    );
    assert_eq!(
        tinykv_proto::placement::placement_server::SERVICE_NAME,
        "tinykv.placement.Placement"
    );
    assert_eq!(
        tinykv_proto::store::store_server::SERVICE_NAME,
        "tinykv.store.Store"
    );
}

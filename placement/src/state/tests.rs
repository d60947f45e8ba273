//! Commands one by one, and what holds for all of them.

mod decoding;
mod labels;
mod restoring;
mod routes;
mod rules;

use std::collections::BTreeMap;

use bytes::Bytes;
use tinykv_raft::{GroupId, PeerId};
use tinykv_replica::{Peer, Region, RegionEpoch, StoreId};

use super::*;

/// A state that has handed out ids 1000 to 1999.
fn with_ids() -> State {
    let mut state = State::default();
    apply(&mut state, Command::Found { cluster_id: 77 });
    apply(&mut state, Command::ReserveIds { count: 1_000 });
    state
}

/// Bootstrapped by store 1000 with regions 1001 ["", "m") and 1002 ["m", "").
fn bootstrapped() -> State {
    let mut state = with_ids();
    let regions = vec![
        region(1_001, "", "m", &[1_000]),
        region(1_002, "m", "", &[1_000]),
    ];
    let reply = apply(
        &mut state,
        Command::Bootstrap {
            store: store(1_000),
            regions,
        },
    );
    assert_eq!(reply, Reply::Done);
    state
}

fn apply(state: &mut State, command: Command) -> Reply {
    let again = Command::decode(&command.encode()).expect("what was encoded can be read");
    assert_eq!(again, command);
    state.apply(command, &mut Vec::new())
}

fn refused(state: &mut State, command: Command) -> Refusal {
    let before = state.clone();
    let mut changes = Vec::new();
    let Reply::Refused(refusal) = state.apply(command, &mut changes) else {
        panic!("should be refused");
    };
    assert_eq!(*state, before, "a refused command changes nothing");
    assert_eq!(changes, Vec::new());
    refusal
}

fn store(id: u64) -> StoreRecord {
    StoreRecord {
        id: StoreId(id),
        address: format!("127.0.0.1:{id}"),
        peer_address: String::new(),
        status_address: String::new(),
        version: "0.1.0".into(),
        labels: BTreeMap::from([("zone".into(), "a".into())]),
        incarnation: id * 10,
        start_number: 1,
        life: StoreLife::Serving,
    }
}

/// A region at 1.1 whose peer on store `s` has the id `s + 500`.
fn region(id: u64, start: &str, end: &str, stores: &[u64]) -> Region {
    Region {
        id: GroupId(id),
        start: Bytes::copy_from_slice(start.as_bytes()),
        end: Bytes::copy_from_slice(end.as_bytes()),
        epoch: RegionEpoch {
            conf_ver: 1,
            version: 1,
        },
        peers: stores
            .iter()
            .map(|store| Peer::voter(PeerId(store + 500), StoreId(*store)))
            .collect(),
    }
}

fn at(mut region: Region, conf_ver: u64, version: u64) -> Region {
    region.epoch = RegionEpoch { conf_ver, version };
    region
}

//! Each step of the rule, with the world changing between any two of them.

use bytes::Bytes;
use tinykv_raft::GroupId;
use tinykv_replica::RegionEpoch;

use super::*;

const END: Duration = Duration::from_millis(100);
const INSIDE: Duration = Duration::from_millis(99);

fn lease(term: u64, version: u64, end_key: &'static str) -> Lease {
    let region = Region {
        id: GroupId(1),
        end: Bytes::from_static(end_key.as_bytes()),
        epoch: RegionEpoch {
            version,
            conf_ver: 1,
        },
        ..Region::default()
    };
    Lease {
        term: Term(term),
        peer: PeerId(1),
        region: Arc::new(region),
        valid_until: END,
    }
}

/// Reads key `k`; `between` happens after the snapshot was taken, `late` after the clock was read.
fn read(
    first: Option<Lease>,
    between: impl FnOnce(&LeaseCell),
    now: Duration,
    late: impl FnOnce(&LeaseCell),
) -> Result<&'static str, NotInLease> {
    let cell = LeaseCell::new();
    cell.publish(first);
    read_in_lease(
        &cell,
        |lease| lease.region.contains(b"k"),
        || {
            between(&cell);
            "snapshot"
        },
        || {
            late(&cell);
            now
        },
    )
}

fn nothing(_: &LeaseCell) {}

#[test]
fn a_valid_lease_serves() {
    assert_eq!(
        read(Some(lease(1, 1, "z")), nothing, INSIDE, nothing),
        Ok("snapshot")
    );
}

#[test]
fn the_snapshot_is_not_even_taken_without_a_lease() {
    let cell = LeaseCell::new();
    let served = read_in_lease(
        &cell,
        |_| true,
        || panic!("no lease, no snapshot"),
        || panic!("no lease, no clock"),
    );
    assert_eq!(served, Err(NotInLease));
}

#[test]
fn the_end_is_exclusive() {
    assert_eq!(
        read(Some(lease(1, 1, "z")), nothing, END, nothing),
        Err(NotInLease)
    );
}

#[test]
fn a_key_outside_is_refused() {
    assert_eq!(
        read(Some(lease(1, 1, "b")), nothing, INSIDE, nothing),
        Err(NotInLease)
    );
}

#[test]
fn a_lease_taken_back_while_reading_is_noticed() {
    let revoke = |cell: &LeaseCell| cell.publish(None);
    assert_eq!(
        read(Some(lease(1, 1, "z")), revoke, INSIDE, nothing),
        Err(NotInLease)
    );
    assert_eq!(
        read(Some(lease(1, 1, "z")), nothing, INSIDE, revoke),
        Err(NotInLease)
    );
}

#[test]
fn another_term_or_epoch_is_another_lease() {
    let next_term = |cell: &LeaseCell| cell.publish(Some(lease(2, 1, "z")));
    assert_eq!(
        read(Some(lease(1, 1, "z")), next_term, INSIDE, nothing),
        Err(NotInLease)
    );
    let split = |cell: &LeaseCell| cell.publish(Some(lease(1, 2, "z")));
    assert_eq!(
        read(Some(lease(1, 1, "z")), nothing, INSIDE, split),
        Err(NotInLease)
    );
}

#[test]
fn a_lease_extended_while_reading_counts_as_extended() {
    let extend = |cell: &LeaseCell| {
        cell.publish(Some(Lease {
            valid_until: END * 2,
            ..lease(1, 1, "z")
        }));
    };
    assert_eq!(
        read(Some(lease(1, 1, "z")), extend, END, nothing),
        Ok("snapshot")
    );
}

#[test]
fn only_reads_that_were_served_are_noted() {
    let cell = LeaseCell::new();
    cell.publish(Some(lease(1, 1, "z")));
    let read_at = |now| read_in_lease(&cell, |_| true, || (), || now);
    assert_eq!(read_at(END), Err(NotInLease));
    assert!(!cell.take_is_read());
    assert_eq!((read_at(INSIDE), read_at(INSIDE)), (Ok(()), Ok(())));
    assert!(cell.take_is_read());
    assert!(!cell.take_is_read(), "taken");
}

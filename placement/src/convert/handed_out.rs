//! Ids and timestamps on their way out.

use std::ops::Range;

use tinykv_proto::pdpb;

use crate::timestamps::Timestamp;

/// Ids of `count` new regions with `peers` peers each, in the order they are given out.
pub fn split_ids_to_proto(mut ids: Range<u64>, count: u32, peers: usize) -> Vec<pdpb::SplitId> {
    let mut next = || ids.next().expect("as many ids as are handed on were taken");
    (0..count)
        .map(|_| pdpb::SplitId {
            new_region_id: next(),
            new_peer_ids: (0..peers).map(|_| next()).collect(),
        })
        .collect()
}

/// A timestamp; `None` if the clock is beyond what the message can say.
pub fn timestamp_to_proto(timestamp: Timestamp) -> Option<pdpb::Timestamp> {
    Some(pdpb::Timestamp {
        physical: i64::try_from(timestamp.physical_ms).ok()?,
        logical: i64::from(timestamp.logical),
        suffix_bits: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_is_handed_on_once() {
        let ids = split_ids_to_proto(100..108, 2, 3);
        let flat: Vec<u64> = ids
            .iter()
            .flat_map(|id| std::iter::once(id.new_region_id).chain(id.new_peer_ids.clone()))
            .collect();
        assert_eq!(flat, (100..108).collect::<Vec<_>>());
        assert!(ids.iter().all(|id| id.new_peer_ids.len() == 3));
    }
}

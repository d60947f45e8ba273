//! What a split makes of a region, as a pure function: asked at propose and again at apply.

use bytes::Bytes;
use tinykv_raft::{GroupId, PeerId};

use crate::outcome::SplitRefusal;
use crate::region::{Peer, Region};

/// Parts a split may cut off at once.
pub(crate) const CHILDREN_MAX: usize = 64;

/// The ids of one child of a split; drawn by placement, never used before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitIds {
    /// The child's group.
    pub region: GroupId,
    /// Its peers, in the order of the parent's (which are sorted by id): the first one lives on
    /// the store of the parent's first, with its role, and so on.
    pub peers: Vec<PeerId>,
}

/// The region after the split (the left part, under its own id), and its children from left to
/// right.
pub(crate) fn parts_of(
    region: &Region,
    keys: &[Bytes],
    ids: &[SplitIds],
) -> Result<(Region, Vec<Region>), SplitRefusal> {
    check_keys(region, keys)?;
    check_ids(region, keys.len(), ids)?;
    let mut epoch = region.epoch;
    epoch.version += keys.len() as u64;
    let ends = keys.iter().skip(1).chain([&region.end]);
    let child = |((start, end), ids): ((&Bytes, &Bytes), &SplitIds)| {
        let peers = region.peers.iter().zip(&ids.peers);
        let mut peers: Vec<Peer> = peers.map(|(peer, id)| Peer { id: *id, ..*peer }).collect();
        peers.sort_by_key(|peer| peer.id);
        Region {
            id: ids.region,
            start: start.clone(),
            end: end.clone(),
            epoch,
            peers,
        }
    };
    let children = keys.iter().zip(ends).zip(ids).map(child).collect();
    let parent = Region {
        end: keys[0].clone(),
        epoch,
        ..region.clone()
    };
    Ok((parent, children))
}

fn check_keys(region: &Region, keys: &[Bytes]) -> Result<(), SplitRefusal> {
    if keys.is_empty() || keys.len() > CHILDREN_MAX {
        return Err(SplitRefusal::TooMany {
            keys: keys.len(),
            keys_max: CHILDREN_MAX,
        });
    }
    for key in keys {
        if *key == region.start || (!region.end.is_empty() && *key == region.end) {
            return Err(SplitRefusal::KeyAtBorder { key: key.clone() });
        }
        if !region.contains(key) {
            return Err(SplitRefusal::KeyOutside { key: key.clone() });
        }
    }
    match keys.windows(2).find(|pair| pair[0] >= pair[1]) {
        Some(pair) => Err(SplitRefusal::KeysNotAscending {
            key: pair[1].clone(),
        }),
        None => Ok(()),
    }
}

fn check_ids(region: &Region, children: usize, ids: &[SplitIds]) -> Result<(), SplitRefusal> {
    let wrong = |problem| Err(SplitRefusal::WrongIds { problem });
    if ids.len() != children {
        return wrong("there must be one set of ids per split key");
    }
    let mut groups = vec![region.id];
    let mut peers: Vec<PeerId> = region.peers.iter().map(|peer| peer.id).collect();
    for ids in ids {
        if ids.peers.len() != region.peers.len() {
            return wrong("a child must get one peer id per peer of the region");
        }
        if ids.region == GroupId(0) || ids.peers.contains(&PeerId(0)) {
            return wrong("0 is no id");
        }
        groups.push(ids.region);
        peers.extend(&ids.peers);
    }
    let (all_groups, all_peers) = (groups.len(), peers.len());
    groups.sort_unstable();
    groups.dedup();
    peers.sort_unstable();
    peers.dedup();
    if groups.len() != all_groups || peers.len() != all_peers {
        return wrong("every id must be a new one");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::{RegionEpoch, StoreId};

    fn region() -> Region {
        Region {
            id: GroupId(1),
            start: Bytes::from_static(b"b"),
            end: Bytes::from_static(b"y"),
            epoch: RegionEpoch {
                conf_ver: 5,
                version: 7,
            },
            peers: vec![
                Peer::voter(PeerId(1), StoreId(3)),
                Peer::learner(PeerId(2), StoreId(1)),
            ],
        }
    }

    fn keys(keys: &[&'static str]) -> Vec<Bytes> {
        keys.iter()
            .map(|key| Bytes::from_static(key.as_bytes()))
            .collect()
    }

    fn ids(region: u64, peers: [u64; 2]) -> SplitIds {
        SplitIds {
            region: GroupId(region),
            peers: peers.map(PeerId).to_vec(),
        }
    }

    fn refused(keys_: &[&'static str], ids: &[SplitIds]) -> SplitRefusal {
        parts_of(&region(), &keys(keys_), ids).expect_err("it makes no sense")
    }

    #[test]
    fn the_parent_keeps_the_left_part_and_all_parts_get_the_same_epoch() {
        let ids = [ids(10, [12, 11]), ids(20, [21, 22])];
        let (parent, children) = parts_of(&region(), &keys(&["f", "m"]), &ids).expect("fine");
        let epoch = RegionEpoch {
            conf_ver: 5,
            version: 9,
        };
        assert_eq!((&parent.start[..], &parent.end[..]), (&b"b"[..], &b"f"[..]));
        assert_eq!((parent.id, parent.epoch), (GroupId(1), epoch));
        assert_eq!(parent.peers, region().peers);
        let [first, last] = children.try_into().expect("two keys, two children");
        assert_eq!((&first.start[..], &first.end[..]), (&b"f"[..], &b"m"[..]));
        assert_eq!((&last.start[..], &last.end[..]), (&b"m"[..], &b"y"[..]));
        assert_eq!((first.epoch, last.epoch), (epoch, epoch));
        // Sorted by id, each where the parent's is, with its role.
        let expected = [
            Peer::learner(PeerId(11), StoreId(1)),
            Peer::voter(PeerId(12), StoreId(3)),
        ];
        assert_eq!(first.peers, expected);
    }

    #[test]
    fn split_key_at_border_or_outside_is_refused() {
        let one = [ids(10, [11, 12])];
        let border = |key: &'static str| SplitRefusal::KeyAtBorder { key: key.into() };
        let outside = |key: &'static str| SplitRefusal::KeyOutside { key: key.into() };
        assert_eq!(refused(&["b"], &one), border("b"));
        assert_eq!(refused(&["y"], &one), border("y"));
        assert_eq!(refused(&["a"], &one), outside("a"));
        assert_eq!(refused(&["z"], &one), outside("z"));
        let whole = Region {
            start: Bytes::new(),
            end: Bytes::new(),
            ..region()
        };
        let refusal = parts_of(&whole, &keys(&[""]), &one).expect_err("the beginning");
        assert_eq!(refusal, border(""));
        assert!(parts_of(&whole, &keys(&["y"]), &one).is_ok());
    }

    #[test]
    fn keys_ascend_and_ids_are_new_and_complete() {
        let two = [ids(10, [11, 12]), ids(20, [21, 22])];
        for keys in [["m", "f"], ["f", "f"]] {
            let refusal = SplitRefusal::KeysNotAscending { key: "f".into() };
            assert_eq!(refused(&keys, &two), refusal);
        }
        assert!(matches!(
            refused(&[], &[]),
            SplitRefusal::TooMany { keys: 0, .. }
        ));
        let wrong = |ids: &[SplitIds]| {
            let refusal = refused(&["f", "m"], ids);
            assert!(
                matches!(refusal, SplitRefusal::WrongIds { .. }),
                "{refusal:?}"
            );
        };
        wrong(&two[..1]);
        wrong(&[ids(10, [11, 12]), ids(10, [21, 22])]);
        wrong(&[ids(10, [11, 12]), ids(1, [21, 22])]);
        wrong(&[ids(10, [11, 12]), ids(20, [21, 11])]);
        wrong(&[ids(10, [11, 12]), ids(20, [21, 2])]);
        wrong(&[ids(10, [11, 12]), ids(20, [21, 0])]);
        let short = SplitIds {
            region: GroupId(20),
            peers: vec![PeerId(21)],
        };
        wrong(&[ids(10, [11, 12]), short]);
    }
}

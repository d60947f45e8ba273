//! Which replicas differ.

use std::collections::BTreeMap;

use tinykv_node::checksum::Sum;

use super::Told;

/// What replicas told, compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// By peer id, with whether it differs from the majority of those that told; where there is no
    /// majority, from anyone.
    pub replicas: Vec<(Told, bool)>,
}

/// Compares sums.
pub fn compare(mut told: Vec<Told>) -> Compared {
    told.sort_by_key(|told| told.peer.id);
    let identity = |sum: &Sum| {
        let Sum {
            entry,
            crc32c,
            pairs,
            bytes,
        } = *sum;
        (entry.index, entry.term, crc32c, pairs, bytes)
    };
    let mut alike = BTreeMap::new();
    let sums = told.iter().filter_map(|told| told.sum.as_ref().ok());
    for sum in sums.clone() {
        *alike.entry(identity(sum)).or_insert(0_usize) += 1;
    }
    let all = sums.count();
    let common = alike
        .iter()
        .find(|(_, count)| 2 * **count > all)
        .map(|(identity, _)| *identity);
    let is_odd = |told: &Told| match &told.sum {
        Ok(sum) => Some(identity(sum)) != common,
        Err(_) => false,
    };
    let replicas = told.into_iter().map(|told| {
        let is_odd = is_odd(&told);
        (told, is_odd)
    });
    Compared {
        replicas: replicas.collect(),
    }
}

impl Compared {
    /// Whether some do not hold the same.
    pub fn differs(&self) -> bool {
        self.replicas.iter().any(|(_, is_odd)| *is_odd)
    }

    /// Whether all told.
    pub fn is_complete(&self) -> bool {
        self.replicas.iter().all(|(told, _)| told.sum.is_ok())
    }

    /// Where they were compared; 0 if nobody told.
    pub fn index(&self) -> u64 {
        let told = self
            .replicas
            .iter()
            .find_map(|(told, _)| told.sum.as_ref().ok());
        told.map_or(0, |sum| sum.entry.index.0)
    }

    /// What differs, for people.
    pub fn sentence(&self) -> String {
        let odd = self.replicas.iter().filter(|(_, is_odd)| *is_odd);
        let odd =
            odd.map(|(told, _)| format!("peer {} on store {}", told.peer.id, told.peer.store));
        let odd = odd.collect::<Vec<_>>().join(", ");
        let index = self.index();
        match self
            .replicas
            .iter()
            .any(|(told, is_odd)| !is_odd && told.sum.is_ok())
        {
            true => format!("at index {index}, unlike the majority: {odd}"),
            false => format!("at index {index}, and no majority agrees: {odd}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tinykv_raft::{EntryId, LogIndex, PeerId, Term};
    use tinykv_replica::{Peer, StoreId};

    use super::*;

    /// Peer ids with their CRCs; 0 for one that told none.
    fn compared(crcs: &[(u64, u32)]) -> Compared {
        let told = crcs.iter().map(|(id, crc32c)| Told {
            peer: Peer::voter(PeerId(*id), StoreId(id * 10)),
            sum: match crc32c {
                0 => Err("its store is down".to_owned()),
                crc32c => Ok(Sum {
                    entry: EntryId {
                        index: LogIndex(8),
                        term: Term(2),
                    },
                    crc32c: *crc32c,
                    pairs: 1,
                    bytes: 2,
                }),
            },
        });
        compare(told.collect())
    }

    fn odd(crcs: &[(u64, u32)]) -> Vec<u64> {
        let compared = compared(crcs);
        let odd = compared.replicas.iter().filter(|(_, is_odd)| *is_odd);
        odd.map(|(told, _)| told.peer.id.0).collect()
    }

    #[test]
    fn the_one_unlike_the_majority_is_named() {
        assert_eq!(odd(&[(1, 5), (2, 5), (3, 5)]), [0; 0]);
        assert_eq!(odd(&[(3, 5), (1, 5), (2, 6)]), [2]);
        assert_eq!(odd(&[(1, 5), (2, 5), (3, 6), (4, 7), (5, 5)]), [3, 4]);
        let compared = compared(&[(3, 5), (1, 5), (2, 6)]);
        assert!(compared.differs() && compared.is_complete());
        let sentence = compared.sentence();
        assert_eq!(
            sentence,
            "at index 8, unlike the majority: peer 2 on store 20"
        );
    }

    #[test]
    fn without_a_majority_all_are_suspect() {
        assert_eq!(odd(&[(1, 5), (2, 6)]), [1, 2]);
        assert_eq!(odd(&[(1, 5), (2, 6), (3, 7)]), [1, 2, 3]);
        let sentence = compared(&[(1, 5), (2, 6)]).sentence();
        assert!(sentence.contains("no majority agrees"), "{sentence}");
    }

    #[test]
    fn who_tells_nothing_is_no_difference() {
        assert_eq!(odd(&[(1, 5), (2, 5), (3, 0)]), [0; 0]);
        assert_eq!(odd(&[(1, 5), (2, 6), (3, 0)]), [1, 2]);
        let silent = compared(&[(1, 5), (2, 0), (3, 0)]);
        assert!(!silent.differs() && !silent.is_complete());
        assert_eq!((silent.index(), compared(&[(1, 0)]).index()), (8, 0));
    }
}

//! Fragments against the plain list of deletes they were made from.

use bytes::Bytes;
use proptest::prelude::*;

use super::Fragments;

fn key(number: u8) -> Bytes {
    Bytes::from(vec![b'a' + number])
}

/// Deletes of `start..end`; the n-th has sequence n + 1.
fn deletes() -> impl Strategy<Value = Vec<(u8, u8)>> {
    let range = (0u8..16, 0u8..16).prop_filter("not empty", |(start, end)| start < end);
    prop::collection::vec(range, 0..12)
}

fn build(deletes: &[(u8, u8)], first: u64) -> Fragments {
    let numbered = deletes.iter().zip(first..);
    numbered.fold(Fragments::default(), |all, (&(start, end), sequence)| {
        all.with(&key(start), &key(end), sequence)
    })
}

fn naive(deletes: &[(u8, u8)], first: u64, at: u8, sequence: u64) -> u64 {
    let numbered = deletes.iter().zip(first..);
    let covering =
        numbered.filter(|((start, end), s)| (*start..*end).contains(&at) && *s <= sequence);
    covering.map(|(_, s)| s).max().unwrap_or(0)
}

fn assert_sorted(fragments: &Fragments) {
    let list: Vec<_> = fragments.iter().collect();
    assert!(list.iter().all(|f| f.start < f.end));
    assert!(list.windows(2).all(|pair| pair[0].end <= pair[1].start));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn cover_is_the_newest_visible_delete(deletes in deletes(), sequence in 0u64..14) {
        let fragments = build(&deletes, 1);
        assert_sorted(&fragments);
        for at in 0..17 {
            prop_assert_eq!(
                fragments.cover(&key(at), sequence),
                naive(&deletes, 1, at, sequence)
            );
        }
    }

    #[test]
    fn a_merge_keeps_the_newest(a in deletes(), b in deletes(), sequence in 0u64..40) {
        let parts = [build(&a, 1), build(&b, 20)];
        let merged = Fragments::merge(&parts, sequence);
        assert_sorted(&merged);
        for at in 0..17 {
            let expected = naive(&a, 1, at, sequence).max(naive(&b, 20, at, sequence));
            prop_assert_eq!(merged.cover(&key(at), u64::MAX), expected);
        }
    }

    #[test]
    fn a_clip_keeps_what_is_inside(deletes in deletes(), from in 0u8..17, to in 0u8..17) {
        let fragments = Fragments::merge(&[build(&deletes, 1)], u64::MAX);
        let clipped = fragments.clip(Some(&key(from)), Some(&key(to)));
        assert_sorted(&clipped);
        for at in 0..17 {
            let inside = (from..to).contains(&at);
            let expected = if inside { naive(&deletes, 1, at, u64::MAX) } else { 0 };
            prop_assert_eq!(clipped.cover(&key(at), u64::MAX), expected);
        }
    }

    #[test]
    fn covers_all_means_every_key(deletes in deletes(), from in 0u8..16, to in 0u8..16, sequence in 0u64..13) {
        let fragments = Fragments::merge(&[build(&deletes, 1)], u64::MAX);
        let expected = from <= to
            && (from..=to).all(|at| naive(&deletes, 1, at, u64::MAX) > sequence);
        let covered = fragments.covers_all(&key(from), &key(to), sequence);
        prop_assert!(!covered || expected || from > to);
        prop_assert!(covered || !expected);
    }

    #[test]
    fn what_is_written_is_read(deletes in deletes()) {
        let fragments = Fragments::merge(&[build(&deletes, 1)], u64::MAX);
        prop_assert_eq!(Fragments::decode(&fragments.encode()), Ok(fragments));
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(fragments) = Fragments::decode(&bytes) {
            assert_sorted(&fragments);
        }
    }
}

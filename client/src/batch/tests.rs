use super::*;
use crate::routing::{Epoch, RegionId};

fn route(start: &'static str, end: &'static str) -> Route {
    Route {
        region: RegionId(1),
        epoch: Epoch::default(),
        start: Bytes::from(start),
        end: Bytes::from(end),
        peers: Vec::new(),
        leader: None,
    }
}

fn keys(names: &[&'static str]) -> Vec<Bytes> {
    names.iter().map(|name| Bytes::from(*name)).collect()
}

#[test]
fn a_part_ends_where_the_region_ends() {
    let items = keys(&["a", "b", "c", "d"]);
    assert_eq!(part_len(&items, &route("", "c")), 2);
    assert_eq!(part_len(&items, &route("", "")), 4);
    assert_eq!(part_len(&items, &route("a", "b")), 1);
}

#[test]
fn nothing_is_taken_for_another_region() {
    assert_eq!(part_len(&keys(&["a", "m"]), &route("m", "")), 0);
    assert_eq!(part_len::<Bytes>(&[], &route("", "")), 0);
}

#[test]
fn a_part_has_limited_bytes_but_at_least_one_item() {
    let large = Bytes::from(vec![0; PART_BYTES_MAX]);
    let items: Vec<_> = keys(&["a", "b"])
        .into_iter()
        .map(|key| (key, large.clone()))
        .collect();
    assert_eq!(part_len(&items, &route("", "")), 1);
    let half = Bytes::from(vec![0; PART_BYTES_MAX / 2 - 1]);
    let items: Vec<_> = keys(&["a", "b", "c"])
        .into_iter()
        .map(|key| (key, half.clone()))
        .collect();
    assert_eq!(part_len(&items, &route("", "")), 2);
}

#[test]
fn a_part_has_limited_keys() {
    let items: Vec<_> = (0..2 * PART_KEYS_MAX)
        .map(|it| Bytes::from(format!("{it:05}")))
        .collect();
    assert_eq!(part_len(&items, &route("", "")), PART_KEYS_MAX);
}

#[test]
fn the_last_of_equal_keys_stays() {
    let pair = |key, value| (Bytes::from_static(key), Bytes::from_static(value));
    let sorted = sort_and_deduplicate(vec![
        pair(b"b", b"1"),
        pair(b"a", b"2"),
        pair(b"b", b"3"),
        pair(b"a", b"4"),
        pair(b"b", b"5"),
    ]);
    assert_eq!(sorted, [pair(b"a", b"4"), pair(b"b", b"5")]);
}

#[test]
fn parts_follow_each_other_by_the_routes_they_are_sent_by() {
    let items = keys(&["a", "b", "c", "d"]);
    let mut parts = Parts::new(&items[..]);
    assert_eq!(parts.point(), Some(Point::At(Bytes::from("a"))));
    // The first attempt went by an outdated route, the second by a newer one.
    assert_eq!(parts.part(&route("", "d")), &items[..3]);
    assert_eq!(parts.part(&route("", "b")), &items[..1]);
    assert_eq!(parts.take(), &items[..1]);
    assert_eq!(parts.point(), Some(Point::At(Bytes::from("b"))));
    assert_eq!(parts.part(&route("b", "")), &items[1..]);
    assert_eq!(parts.take(), &items[1..]);
    assert_eq!(parts.point(), None);
}

#[test]
fn what_was_never_sent_ends_as_a_whole() {
    let items = keys(&["a", "b", "c"]);
    let mut parts = Parts::new(items);
    parts.part(&route("", "b"));
    assert_eq!(parts.take().len(), 1);
    assert_eq!(parts.take().len(), 2);
    assert_eq!(parts.point(), None);
}

//! What a request is to its region's traffic.
//!
//! A batch of keys is as many requests as it names, because a split of the region divides it. A scan
//! is one, from the lowest to the highest key it found; so are several in one call, which a split
//! between them does not make cheaper for the asker.

use bytes::Bytes;
use tinykv_node::traffic::Traffic;
use tinykv_node::traffic::reservoir::Span;

use crate::command::Operation;
use crate::raw::ranges::Range;
use crate::space::Space;

pub(super) fn on_get(traffic: &Traffic, space: Space, key: &Bytes, value: Option<&Bytes>) {
    let bytes = value.map_or(0, |value| key.len() + value.len());
    traffic.on_read(1, 1, bytes as u64);
    if traffic.is_watched() {
        traffic.sample([Span::key(&space.engine_key(key))]);
    }
}

pub(super) fn on_batch_get(
    traffic: &Traffic,
    space: Space,
    keys: &[Bytes],
    found: &[(Bytes, Bytes)],
) {
    let count = keys.len() as u64;
    traffic.on_read(count, count, bytes_of(found));
    if traffic.is_watched() {
        traffic.sample(keys.iter().map(|key| Span::key(&space.engine_key(key))));
    }
}

/// Pairs of one scan or of several, in any order. A scan that found nothing loads nobody and is not
/// sampled.
pub(super) fn on_scan(traffic: &Traffic, space: Space, found: &[(Bytes, Bytes)]) {
    traffic.on_read(1, found.len() as u64, bytes_of(found));
    if !traffic.is_watched() {
        return;
    }
    let keys = || found.iter().map(|(key, _)| key);
    if let (Some(first), Some(last)) = (keys().min(), keys().max()) {
        let span = Span::range(&space.engine_key(first), &space.engine_key(last));
        traffic.sample([span]);
    }
}

/// A call that looked at all keys of some ranges and answered a figure.
pub(super) fn on_sum(traffic: &Traffic, space: Space, ranges: &[Range], keys: u64, bytes: u64) {
    traffic.on_read(1, keys, bytes);
    if traffic.is_watched() {
        let span = |range: &Range| {
            let last = space.upper_bound(&range.upper);
            Span::range(&space.lower_bound(&range.lower), &last)
        };
        traffic.sample(ranges.iter().map(span));
    }
}

/// Keys a command writes; what it reads first does not count again.
pub(super) fn keys_written(operation: &Operation) -> u64 {
    let keys = match operation {
        Operation::AdvanceTime => 0,
        Operation::BatchPut(writes) => writes.len(),
        Operation::BatchDelete { keys } | Operation::Remove { keys } => keys.len(),
        Operation::Put(_)
        | Operation::Delete { .. }
        | Operation::DeleteRange { .. }
        | Operation::CompareAndSwap { .. }
        | Operation::Increment { .. }
        | Operation::Append { .. }
        | Operation::PutIf { .. }
        | Operation::Expire { .. } => 1,
    };
    keys as u64
}

/// The same, for a sample.
pub(super) fn spans_written(operation: &Operation) -> Vec<Span> {
    match operation {
        Operation::AdvanceTime => Vec::new(),
        Operation::BatchPut(writes) => writes.iter().map(|write| Span::key(&write.key)).collect(),
        Operation::BatchDelete { keys } | Operation::Remove { keys } => {
            keys.iter().map(|key| Span::key(key)).collect()
        }
        Operation::DeleteRange { start, end } => vec![Span::range(start, end)],
        Operation::Put(write) => vec![Span::key(&write.key)],
        Operation::Delete { key }
        | Operation::CompareAndSwap { key, .. }
        | Operation::Increment { key, .. }
        | Operation::Append { key, .. }
        | Operation::PutIf { key, .. }
        | Operation::Expire { key, .. } => vec![Span::key(key)],
    }
}

fn bytes_of(found: &[(Bytes, Bytes)]) -> u64 {
    let bytes = found.iter().map(|(key, value)| key.len() + value.len());
    bytes.sum::<usize>() as u64
}

#[cfg(test)]
mod tests {
    use tinykv_node::traffic::reservoir::{Reservoir, Sample};

    use super::*;
    use crate::command::Write;

    fn pair(key: &'static str, value: &'static str) -> (Bytes, Bytes) {
        (Bytes::from(key), Bytes::from(value))
    }

    fn spans(traffic: &Traffic) -> Vec<(String, String)> {
        let samples = traffic.unwatch().expect("watched");
        let shown = |key: &Bytes| key[1..].escape_ascii().to_string();
        let span = |Sample { span, .. }: &Sample| (shown(&span.first), shown(&span.last));
        samples.iter().map(span).collect()
    }

    #[test]
    fn reads_count_what_they_found() {
        let traffic = Traffic::default();
        let key = Bytes::from_static(b"key");
        on_get(
            &traffic,
            Space::Plain,
            &key,
            Some(&Bytes::from_static(b"value")),
        );
        on_get(&traffic, Space::Plain, &key, None);
        let flow = traffic.flow();
        assert_eq!((flow.requests, flow.keys_read, flow.bytes_read), (2, 2, 8));
        let keys = ["a", "b", "c"].map(Bytes::from);
        on_batch_get(&traffic, Space::Plain, &keys, &[pair("a", "1")]);
        on_scan(&traffic, Space::Plain, &[pair("a", "1"), pair("b", "22")]);
        let flow = traffic.flow();
        assert_eq!((flow.requests, flow.keys_read, flow.bytes_read), (6, 7, 15));
        assert_eq!((flow.keys_written, flow.bytes_written), (0, 0));
    }

    #[test]
    fn samples_tell_what_was_asked_for() {
        let traffic = Traffic::default();
        traffic.watch(Reservoir::new(16, 1));
        on_get(&traffic, Space::Plain, &Bytes::from_static(b"g"), None);
        on_scan(&traffic, Space::Plain, &[pair("d", ""), pair("b", "")]);
        on_scan(&traffic, Space::Plain, &[]);
        let write = |key: &[u8]| Write {
            key: Space::Plain.engine_key(key),
            stored: Bytes::new(),
            ttl_ms: 0,
        };
        let batch = Operation::BatchPut(vec![write(b"x"), write(b"y")]);
        assert_eq!(keys_written(&batch), 2);
        traffic.sample(spans_written(&batch));
        assert_eq!(keys_written(&Operation::AdvanceTime), 0);
        traffic.sample(spans_written(&Operation::AdvanceTime));
        let pair = |first: &str, last: &str| (first.to_owned(), last.to_owned());
        assert_eq!(
            spans(&traffic),
            [
                pair("g", "g"),
                pair("b", "d"),
                pair("x", "x"),
                pair("y", "y")
            ]
        );
    }
}

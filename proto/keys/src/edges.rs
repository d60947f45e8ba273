//! The boundaries that exist from bootstrap on and are never merged away.
//!
//! Released clients loop, or stop early, in a scan without a boundary at or above the scan's end.
//! So the edges of the keyspace DEFAULT (id 0) are boundaries, raw and transactional, and so is a
//! sentinel near the end of the space.

use crate::bounds::OwnedBounds;
use crate::routing::RoutingKey;

/// User keys at whose encodings the boundaries lie, in order.
const EDGES: [&[u8]; 5] = [
    b"r\x00\x00\x00",
    b"r\x00\x00\x01",
    b"x\x00\x00\x00",
    b"x\x00\x00\x01",
    &[0xFF; 8],
];

/// The boundaries, in order.
pub fn bootstrap_edges() -> [RoutingKey; 5] {
    EDGES.map(RoutingKey::of_encoded)
}

/// The bounds of the six regions between them, in order; they tile the whole space.
pub fn bootstrap_regions() -> [OwnedBounds; 6] {
    let [a, b, c, d, e] = bootstrap_edges().map(RoutingKey::into_bytes);
    let bounds = |start: &[u8], end: &[u8]| OwnedBounds {
        start: start.to_vec(),
        end: end.to_vec(),
    };
    [
        bounds(&[], &a),
        bounds(&a, &b),
        bounds(&b, &c),
        bounds(&c, &d),
        bounds(&d, &e),
        bounds(&e, &[]),
    ]
}

/// Whether a stored boundary is one of them.
pub fn is_bootstrap_edge(boundary: &[u8]) -> bool {
    bootstrap_edges()
        .iter()
        .any(|edge| edge.as_bytes() == boundary)
}

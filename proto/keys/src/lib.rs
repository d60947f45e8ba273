//! Keys of TinyKV: what regions partition, how keys are encoded, and where they stand in the LSM.
//!
//! Three kinds of keys are told apart, and no other crate encodes or compares their bounds.
//!
//! * A *user key* is what an asker names in a request: a raw key as it is, or a key under the
//!   prefix of its keyspace ([`prefixed_key`]), or a transactional key.
//! * A *routing key* ([`RoutingKey`]) is a point of the space that regions partition. A raw key
//!   without keyspace is its own routing key; everything else is routed by its memcomparable
//!   encoding ([`memcomparable`]). Both share one space, so a boundary may be plain or an
//!   encoding, and [`Bounds`] shows it to each kind of asker as that asker has to see it.
//! * An *engine key* is where something stands in the LSM tree of a store ([`engine`]); its first
//!   byte says what kind of thing it is.
//!
//! # The three views of a boundary
//!
//! A boundary `x` is stored as it was cut. To askers that decode bounds it is shown as *up(x)*,
//! the nearest valid encoding at or above it ([`memcomparable::ceiling`]): no encoded key changes
//! its region by that, and the bound can always be decoded. To raw askers without keyspace it is
//! shown as *raw(x)* ([`RoutingKey::cut_before_raw`]), which is `x` with a zero byte appended if
//! `x` happens to be a valid encoding: what such an asker continues from is then never mistaken
//! for an encoding. Empty bounds stay empty. A raw key `k` lies in the region from `a` to `b` if
//! and only if raw(a) ≤ k < raw(b), an encoded key `e` if and only if up(a) ≤ e < up(b). A region
//! may be empty in one of the views; it is then left out of lists for that asker.
//!
//! The crate has no dependencies and allocates only what it returns.

pub mod memcomparable;

mod routing;

mod bounds;
mod edges;
pub mod engine;
mod limits;

pub use bounds::{Asker, Bounds, OwnedBounds};
pub use edges::{bootstrap_edges, bootstrap_regions, is_bootstrap_edge};
pub use limits::{KEY_BYTES_MAX, LimitError, VALUE_BYTES_MAX, check_key, check_value};
pub use routing::{KeyspaceMode, RoutingKey, keyspace_prefix, prefixed_key};

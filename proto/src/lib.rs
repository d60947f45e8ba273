//! The messages and services on TinyKV's wire, compiled from the .proto files of this crate.
//!
//! Seven packages are TiKV's, so that the clients people already have work: [`metapb`],
//! [`errorpb`], [`eraftpb`], [`pdpb`], [`keyspacepb`], [`kvrpcpb`] and [`tikvpb`], each with only
//! the messages and fields that are served. Four are ours, for what TiKV's protocol cannot say:
//! [`peer`] (Raft messages and snapshots between processes), [`placement`] (operators ask the
//! placement driver), [`store`] (calls of our own on a store) and [`check`] (whether replicas hold the
//! same).
//!
//! Rules that keep old and new processes talking:
//!
//! * A field number is never used again for something else.
//! * A field of ours in a message of TiKV's has a number from 1000 on.
//! * A method that a server does not implement answers `UNIMPLEMENTED`.
//!
//! Every `bytes` field is a [`bytes::Bytes`], which shares the buffer the message was decoded
//! from: copy what outlives the request. These types stop at the edge modules of a crate; no core
//! knows them.

#[expect(
    clippy::allow_attributes,
    clippy::too_many_lines,
    missing_docs,
    unreachable_pub,
    reason = "generated code: it has its own attributes, and its modules carry no docs"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/packages.rs"));
}

/// Metadata key in which a client of ours tells placement how it reads keys and bounds: as
/// [`ASKER_RAW`] or [`ASKER_ENCODED`]. Other clients do not send it.
pub const ASKER_METADATA: &str = "tinykv-asker";

/// Value of [`ASKER_METADATA`]: keys and bounds are plain, as for raw keys without keyspace.
pub const ASKER_RAW: &str = "raw";

/// Value of [`ASKER_METADATA`]: keys and bounds are memcomparable encodings.
pub const ASKER_ENCODED: &str = "encoded";

pub use generated::tinykv::{check, peer, placement, store};
pub use generated::{eraftpb, errorpb, keyspacepb, kvrpcpb, metapb, pdpb, tikvpb};

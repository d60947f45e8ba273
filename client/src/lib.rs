//! The client of TinyKV: finds the region of a key, asks its leader, and tells the truth about
//! what became of a call.
//!
//! ```no_run
//! # async fn example() -> Result<(), tinykv_client::Error> {
//! use tinykv_client::{Options, RawClient};
//!
//! let placements = ["127.0.0.1:2379".to_owned()];
//! let client = RawClient::connect(&placements, Options::default()).await?;
//! client.put("name", "value").await?;
//! assert_eq!(client.get("name").await?.as_deref(), Some(&b"value"[..]));
//! # Ok(())
//! # }
//! ```
//!
//! Every call ends in one of three ways: with its result; with [`Error::DefinitelyNot`], which
//! means that nothing was changed and nothing will be; or, writes alone, with
//! [`Error::Undetermined`], which means that nobody can tell. The client repeats what can be
//! repeated (every read, and a write that was provably not applied) until the call's deadline, and
//! nothing else: a write whose fate is unknown is never sent again. Errors tell every attempt.
//!
//! The parts, from the core outwards; all but the last two do no I/O, read no clock and draw no
//! randomness, so the simulator drives them as they are:
//!
//! * [`routing`]: what is known about regions and stores.
//! * [`retry`]: the life of one call: the only retry loop of the system.
//! * [`batch`], [`walk`] and [`range`]: calls over many regions, cut into calls for one.
//! * the story of a call and the errors.
//! * [`wire`]: the messages of stores and placement, and what an answer amounts to.
//! * [`Whereabouts`]: whom to ask when placement does not answer, for a process that knows regions.
//! * the shell: connections, the stream that many calls to a store share, the link to placement,
//!   the driver of a call.
//! * [`RawClient`].

pub mod routing;

pub mod retry;

pub mod batch;
pub mod range;
pub mod walk;

mod error;
mod random;
mod story;

pub mod wire;

mod whereabouts;

mod shell;

mod raw;

pub use error::{BatchError, Conflict, Doubt, Error, FailedPart, RangeError, Reason};
pub use range::{Checksum, Scan};
pub use raw::{
    Condition, Expired, Expiry, Location, Options, PutOptions, RawClient, ScanStream, Swap,
};
pub use story::{Chapter, Story, Tried};
pub use whereabouts::Whereabouts;

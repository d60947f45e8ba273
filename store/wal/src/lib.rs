//! The write-ahead log: the durable log of all Raft groups of a process, in one file sequence.

mod codec;
mod error;
mod frame;
mod index;
mod maintain;
mod options;
mod parts;
mod position;
mod reader;
mod record;
mod recover;
mod recovered;
mod scan;
mod segment;
mod stored;
mod writer;

pub use error::{ReadError, WalError};
pub use options::WalOptions;
pub use position::Position;
pub use reader::{Extent, WalReader};
pub use record::{Batch, Record};
pub use recovered::{Damage, Recovered, RecoveredGroup};
pub use writer::{Upkeep, Wal, WalStatus};

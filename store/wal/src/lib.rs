//! The write-ahead log: the durable log of all Raft groups of a process, in one file sequence.

mod error;
mod frame;
mod options;
mod position;
mod reader;
mod record;
mod recovered;
mod writer;

pub use error::{ReadError, WalError};
pub use options::WalOptions;
pub use position::Position;
pub use reader::{Extent, WalReader};
pub use record::{Batch, Record};
pub use recovered::{Damage, Recovered, RecoveredGroup};
pub use writer::{Upkeep, Wal};

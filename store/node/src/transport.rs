//! Traffic between the peers of Raft groups.

mod codec;

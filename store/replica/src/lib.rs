//! tinykv-replica

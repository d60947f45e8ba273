//! tinykv-wal

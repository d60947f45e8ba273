//! tinykv-proto

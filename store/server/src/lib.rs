//! tinykv-store

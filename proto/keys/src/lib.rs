//! tinykv-keys

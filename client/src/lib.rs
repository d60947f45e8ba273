//! tinykv-client

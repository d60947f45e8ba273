//! tinykv-engine

//! tinykv-lsm

//! tinykv-tests

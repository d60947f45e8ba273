//! The `tinykv-placement` binary.
fn main() {}

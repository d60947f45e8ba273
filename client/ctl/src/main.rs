//! The `tinykv-ctl` binary.
fn main() {}

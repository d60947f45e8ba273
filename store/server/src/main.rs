//! The `tinykv-store` binary.
fn main() {}

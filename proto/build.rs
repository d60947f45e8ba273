//! Compiles the .proto files in pure Rust (protox), so that no protoc is needed to build.

use std::error::Error;

/// Every .proto file, relative to the crate.
const FILES: [&str; 11] = [
    "metapb.proto",
    "eraftpb.proto",
    "errorpb.proto",
    "pdpb.proto",
    "keyspacepb.proto",
    "kvrpcpb.proto",
    "tikvpb.proto",
    "tinykv/check.proto",
    "tinykv/peer.proto",
    "tinykv/placement.proto",
    "tinykv/store.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    tonic_prost_build::configure()
        .bytes(".")
        .generate_default_stubs(true)
        .include_file("packages.rs")
        .compile_fds(descriptors)?;
    Ok(())
}

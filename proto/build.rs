//! Compiles the `.proto` files, in Rust alone: no `protoc` is needed.

use std::error::Error;
use std::path::PathBuf;

const FILES: [&str; 5] =
    ["cell.proto", "borglet.proto", "client.proto", "node.proto", "replica.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=wire");
    let mut compiler = protox::Compiler::new(["wire"])?;
    compiler.open_files(FILES)?;
    // For readers of the descriptors, who need no comments.
    let descriptors = compiler.encode_file_descriptor_set();
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors)?;
    let descriptors = compiler.include_source_info(true).file_descriptor_set();
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}

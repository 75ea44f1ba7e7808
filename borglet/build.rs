//! Compiles the `.proto` file of the Container Runtime Interface, in Rust alone: no `protoc` is needed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=cri");
    let mut compiler = protox::Compiler::new(["cri"])?;
    let descriptors =
        compiler.open_file("runtime.proto")?.include_source_info(true).file_descriptor_set();
    tonic_prost_build::configure().build_server(false).btree_map(".").compile_fds(descriptors)?;
    Ok(())
}

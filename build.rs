//! Compiles `proto/` to Rust with a compiler written in Rust: no protoc is needed to build.

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto/remoteistio");
    let descriptors = protox::compile(
        ["remoteistio/v1/sync.proto", "remoteistio/v1/identity.proto"],
        ["proto"],
    )?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}

//! Compiles `proto/` to Rust with a compiler written in Rust: no protoc is needed to build.

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto/remoteistio");
    let descriptors = protox::compile(
        [
            "remoteistio/v1/sync.proto",
            "remoteistio/v1/identity.proto",
            "remoteistio/v1/mesh.proto",
        ],
        ["proto"],
    )?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // Maps in order, so that a message has one encoding and can be hashed.
    let mut configuration = tonic_prost_build::configure().btree_map(".");
    for message in EQUAL {
        configuration = configuration.type_attribute(format!("remoteistio.v1.{message}"), "#[derive(Eq)]");
    }
    configuration.compile_fds(descriptors)?;
    Ok(())
}

/// Messages that the generator does not tell to be `Eq`, for what they hold.
const EQUAL: [&str; 10] = [
    "Resources",
    "Workload",
    "NodeTerm",
    "WeightedNodeTerm",
    "PodTerm",
    "WeightedPodTerm",
    "Affinity",
    "Proxy",
    "Citadel",
    "SidecarInjector",
];

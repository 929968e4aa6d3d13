//! Compiles the vendored protos into Rust with protox, so that no `protoc` is needed.
use std::path::PathBuf;

use prost::Message as _;

/// The files whose messages and services are used. Their imports are in `proto/` too.
const ROOTS: &[&str] =
    &["tensorflow_serving/apis/prediction_service.proto", "tensorflow_serving/apis/model_service.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(ROOTS, ["proto"])?;
    let out: PathBuf = std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?.into();
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]).include_file("protos.rs");
    tonic_prost_build::configure().build_server(false).compile_fds_with_config(descriptors, config)?;
    Ok(())
}

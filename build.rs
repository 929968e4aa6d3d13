//! Compiles the vendored protos into Rust with protox, so that no `protoc` is needed, and finds out
//! which commit and features `--version` shows.
use std::path::PathBuf;

use prost::Message as _;

/// The files whose messages and services are used. Their imports are in `proto/` too.
const ROOTS: &[&str] =
    &["tensorflow_serving/apis/prediction_service.proto", "tensorflow_serving/apis/model_service.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    set_version();
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(ROOTS, ["proto"])?;
    let out: PathBuf = std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?.into();
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]).include_file("protos.rs");
    tonic_prost_build::configure().build_server(false).compile_fds_with_config(descriptors, config)?;
    Ok(())
}

/// The commit is `BUILD_COMMIT` if that is set, as where the sources are built without their
/// repository. Otherwise Git tells it, for release builds only: a debug build would be compiled
/// anew after each commit.
#[expect(clippy::disallowed_methods, reason = "Cargo passes everything in the environment")]
fn set_version() {
    println!("cargo:rerun-if-env-changed=BUILD_COMMIT");
    let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let release = var("PROFILE").as_deref() == Some("release");
    let from_git = || if release { git_commit() } else { Some("debug build".to_owned()) };
    let commit = var("BUILD_COMMIT").or_else(from_git).unwrap_or_else(|| "commit unknown".to_owned());
    let mut features = String::new();
    for feature in ["TLS", "IMAGE", "PARQUET", "DEMO"] {
        if var(&format!("CARGO_FEATURE_{feature}")).is_some() {
            features += ", ";
            features += &feature.to_lowercase();
        }
    }
    println!("cargo:rustc-env=BUILD_COMMIT={commit}");
    println!("cargo:rustc-env=BUILD_FEATURES={features}");
}

/// The short name of the commit, with `-dirty` if files that are tracked have been changed.
fn git_commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    // An archive of the sources that lies in some other repository has none of its own.
    if !git(&["rev-parse", "--show-prefix"])?.is_empty() {
        return None;
    }
    for name in ["HEAD", "index"] {
        println!("cargo:rerun-if-changed={}", git(&["rev-parse", "--git-path", name])?);
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    // Without the option, Git writes the index, and the next build would compile anew.
    let changed = git(&["--no-optional-locks", "status", "--porcelain", "--untracked-files=no"])?;
    Some(if changed.is_empty() { commit } else { commit + "-dirty" })
}

//! The `tfs-sidecar` program: the command line, and its outcome as an exit code.
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tfs_sidecar::cli::main(std::env::args_os()).into()
}

//! The flags of `doctor`.
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::args::ServerArgs;

#[derive(Debug, Args)]
pub(in crate::cli) struct DoctorArgs {
    #[command(flatten)]
    pub(in crate::cli) server: ServerArgs,
    /// The folder of an export, or the base path above it (its highest version is taken)
    #[arg(long, value_name = "DIR", env = "TFS_SIDECAR_SAVED_MODEL", hide_env_values = true)]
    pub(in crate::cli) saved_model: Option<PathBuf>,
    /// The TensorFlow that the server runs, such as 2.15. TF Serving does not say it itself
    #[arg(long, value_name = "VERSION", env = "TFS_SIDECAR_TF_VERSION", hide_env_values = true)]
    pub(in crate::cli) tf_version: Option<String>,
    /// Compare the checksum of each variable
    #[arg(long, env = "TFS_SIDECAR_DEEP", hide_env_values = true)]
    pub(in crate::cli) deep: bool,
    /// Print the findings as JSON
    #[arg(long, env = "TFS_SIDECAR_JSON", hide_env_values = true)]
    pub(in crate::cli) json: bool,
    /// The name of the model in TF Serving [default: the only model of the configuration, else the
    /// folder above the version]
    #[arg(long, value_name = "NAME", env = "TFS_SIDECAR_MODEL", hide_env_values = true)]
    pub(in crate::cli) model: Option<String>,
    /// A census of requests (`tfs-sidecar traffic`): tell which clients the export would refuse
    #[arg(
        long,
        value_name = "FILE",
        requires = "saved_model",
        env = "TFS_SIDECAR_TRAFFIC",
        hide_env_values = true
    )]
    pub(in crate::cli) traffic: Option<PathBuf>,
    /// A label of a version that clients ask for: fail if it is not assigned. Can be repeated; the
    /// labels in the census (--traffic) are looked up, too
    #[arg(long, value_name = "LABEL", env = "TFS_SIDECAR_LABEL", hide_env_values = true)]
    pub(in crate::cli) label: Vec<String>,
    /// Send TF Serving one request for each signature: a warm-up record, or one row of zeros
    #[arg(long, env = "TFS_SIDECAR_PROBE", hide_env_values = true)]
    pub(in crate::cli) probe: bool,
    /// Write the warm-up file of the export from the requests in --request
    #[arg(long, requires_all = ["request", "saved_model"], env = "TFS_SIDECAR_WRITE_WARMUP", hide_env_values = true)]
    pub(in crate::cli) write_warmup: bool,
    /// A file with a serialized PredictRequest, for --write-warmup. Can be repeated
    #[arg(
        long,
        value_name = "FILE",
        requires = "write_warmup",
        env = "TFS_SIDECAR_REQUEST",
        hide_env_values = true
    )]
    pub(in crate::cli) request: Vec<PathBuf>,
    /// How long to wait for each answer of TF Serving, and for versions that it loads
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration, env = "TFS_SIDECAR_TIMEOUT", hide_env_values = true)]
    pub(in crate::cli) timeout: Duration,
}

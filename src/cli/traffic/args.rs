//! The arguments of `traffic` and `diff`.
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::cli::args::{AdminArgs, ServerArgs};

/// Save the distinct forms of the requests that the running sidecar has seen, without values.
///
/// `traffic merge` adds those of several sidecars, and `traffic forecast` tells which clients a new
/// version of a model would refuse or repair.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(in crate::cli) struct TrafficArgs {
    #[command(subcommand)]
    pub command: Option<TrafficCommand>,
    #[command(flatten)]
    pub admin: AdminArgs,
    /// A file for the census [default: stdout]
    #[arg(long, value_name = "FILE", env = "TFS_SIDECAR_OUT", hide_env_values = true)]
    pub out: Option<PathBuf>,
    /// How long to wait for the response
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration, env = "TFS_SIDECAR_TIMEOUT", hide_env_values = true)]
    pub timeout: Duration,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum TrafficCommand {
    /// Add the censuses of several sidecars to one.
    Merge(MergeArgs),
    /// Foretell what a SavedModel would make of the requests in a census.
    ///
    /// Every form is judged by the new signatures, as the sidecar would judge it under the policy
    /// of the model in the configuration (--config). The exit code is 1 if a client would be
    /// refused that was not before.
    Forecast(ForecastArgs),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct MergeArgs {
    /// The files
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// A file for the result [default: stdout]
    #[arg(long, value_name = "FILE", env = "TFS_SIDECAR_OUT", hide_env_values = true)]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ForecastArgs {
    #[command(flatten)]
    pub server: ServerArgs,
    /// A census that `traffic` or `traffic merge` has written
    #[arg(long, value_name = "FILE", env = "TFS_SIDECAR_TRAFFIC", hide_env_values = true)]
    pub traffic: PathBuf,
    /// The directory of the new version, or of the model: then its highest version
    #[arg(long, value_name = "DIR", env = "TFS_SIDECAR_SAVED_MODEL", hide_env_values = true)]
    pub saved_model: PathBuf,
    /// The name of the model [default: the only one of the census, else that of the directory]
    #[arg(long, value_name = "NAME", env = "TFS_SIDECAR_MODEL", hide_env_values = true)]
    pub model: Option<String>,
    /// Print JSON, with every form
    #[arg(long, env = "TFS_SIDECAR_JSON", hide_env_values = true)]
    pub json: bool,
}

/// Compare two versions of a model: signatures, operations and TensorFlow.
///
/// Each is a directory or a model that is served, such as 127.0.0.1:8500/churn. The exit code is 0
/// if they are the same, 1 if they differ, and 2 if one cannot be read.
#[derive(Debug, Args)]
pub(in crate::cli) struct DiffArgs {
    #[command(flatten)]
    pub server: ServerArgs,
    /// The directory of a version or of a model, or a model that is served: host:port/model or
    /// host:port/model/version
    #[arg(value_name = "OLD")]
    pub old: String,
    /// The same for the other side
    #[arg(value_name = "NEW")]
    pub new: String,
    /// Print JSON
    #[arg(long, env = "TFS_SIDECAR_JSON", hide_env_values = true)]
    pub json: bool,
    /// How long to wait for TF Serving
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration, env = "TFS_SIDECAR_TIMEOUT", hide_env_values = true)]
    pub timeout: Duration,
}

//! The flags of `profile`.
#![allow(rustdoc::broken_intra_doc_links, reason = "help texts have shapes in brackets")]
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::cli::args::{AdminArgs, TokenArgs};
use crate::dataset::Format;
use crate::profile::By;
use crate::tensor::DataType;

#[derive(Debug, Args)]
pub(in crate::cli) struct ProfileArgs {
    #[command(subcommand)]
    pub command: ProfileCommand,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ProfileCommand {
    /// Make a profile from training data.
    ///
    /// Reads NumPy arrays (.npy, .npz), CSV with a header, JSON lines, TFRecord files of tf.Example
    /// or of TF Serving's prediction logs, such as a model's own warm-up requests, and statistics
    /// of TensorFlow Data Validation; Parquet if it is built with the feature `parquet`. Files may
    /// be compressed with gzip. Files of any size are read as a stream. The profile is written as
    /// YAML.
    ///
    /// For example: tfs-sidecar profile build train.npz --scaler scaler.json --out fraud.yaml
    ///
    /// The values must be those that the model is sent. If they are the values before
    /// preprocessing, name the files with --raw instead, and the scaler with --scaler: then the
    /// profile has both sides. With only one side and a scaler, the other is computed.
    Build(Box<BuildArgs>),
    /// Let a running sidecar make a profile of requests that are known to be good.
    ///
    /// Waits until so many requests for the model have come that conform, and writes the profile as
    /// YAML. Only numbers are kept; of strings, their lengths. --strings also keeps the most
    /// frequent strings, which may be personal data.
    ///
    /// For example: tfs-sidecar profile learn --model fraud --requests 10000 --out fraud.yaml
    #[command(verbatim_doc_comment)]
    Learn(LearnArgs),
    /// Draw a profile in the terminal.
    ///
    /// For each feature its range, distribution and deviation. Bars show which values are frequent.
    Show(ShowArgs),
    /// Compare two profiles: what moved, in words.
    ///
    /// The exit code is 0 if they are alike, 1 if they differ and 2 if one cannot be read. The
    /// population stability index (PSI) of a feature is below 0.1 if nothing worth mentioning has
    /// changed, and above 0.25 after a large change.
    Diff(DiffArgs),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct BuildArgs {
    /// Files with the values that the model is sent
    #[arg(value_name = "FILE", required_unless_present = "raw")]
    pub files: Vec<PathBuf>,
    /// A file with the same data before it was preprocessed. Can be repeated
    #[arg(long, value_name = "FILE", env = "TFS_SIDECAR_RAW", hide_env_values = true)]
    pub raw: Vec<PathBuf>,
    /// How the data was scaled: [INPUT=]FILE with a fitted scaler of scikit-learn or Keras as JSON
    /// (docs/preprocessing.md shows how to write it). Can be repeated
    #[arg(long, value_name = "FILE", env = "TFS_SIDECAR_SCALER", hide_env_values = true)]
    pub scaler: Vec<String>,
    /// The columns of a table that make up an input, in the order of its features:
    /// INPUT=COLUMN,... Can be repeated [default: each column is an input]
    #[arg(long, value_name = "COLUMNS", env = "TFS_SIDECAR_COLUMNS", hide_env_values = true)]
    pub columns: Vec<String>,
    /// The input that a .npy file, or JSON lines without keys, is for
    #[arg(long, value_name = "NAME", env = "TFS_SIDECAR_INPUT", hide_env_values = true)]
    pub input: Option<String>,
    /// The dtype in which an input is sent, if the file has another: INPUT=DTYPE. Can be repeated
    #[arg(
        long,
        value_name = "DTYPE",
        value_parser = dtype,
        env = "TFS_SIDECAR_DTYPE",
        hide_env_values = true
    )]
    pub dtype: Vec<(String, DataType)>,
    /// Which values share their statistics: INPUT=feature (each position of the last axis),
    /// channel or whole (all values, as for token ids). Can be repeated [default: channel for
    /// [N,H,W,C] with at most 4 channels, feature for other inputs with 2 axes or more]
    #[arg(
        long,
        value_name = "BY",
        value_parser = by,
        env = "TFS_SIDECAR_BY",
        hide_env_values = true
    )]
    pub by: Vec<(String, By)>,
    /// The format of all files [default: by their endings]
    #[arg(long, value_enum, value_name = "FORMAT", env = "TFS_SIDECAR_FORMAT", hide_env_values = true)]
    pub format: Option<DataFormat>,
    /// A schema of TensorFlow Metadata (schema.pbtxt): ranges and sets of values become those that
    /// its domains allow
    #[arg(long, value_name = "FILE", env = "TFS_SIDECAR_SCHEMA", hide_env_values = true)]
    pub schema: Option<PathBuf>,
    /// The model that the profile is for
    #[arg(long, value_name = "NAME", env = "TFS_SIDECAR_MODEL", hide_env_values = true)]
    pub model: Option<String>,
    /// The signature that the profile is for
    #[arg(long, value_name = "NAME", env = "TFS_SIDECAR_SIGNATURE_NAME", hide_env_values = true)]
    pub signature_name: Option<String>,
    /// Where to write the profile [default: stdout]
    #[arg(long, value_name = "FILE", env = "TFS_SIDECAR_OUT", hide_env_values = true)]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct LearnArgs {
    #[command(flatten)]
    pub admin: AdminArgs,
    #[command(flatten)]
    pub token: TokenArgs,
    /// The model
    #[arg(long, value_name = "NAME", env = "TFS_SIDECAR_MODEL", hide_env_values = true)]
    pub model: String,
    /// The signature [default: serving_default]
    #[arg(long, value_name = "NAME", env = "TFS_SIDECAR_SIGNATURE_NAME", hide_env_values = true)]
    pub signature_name: Option<String>,
    /// Requests to learn from
    #[arg(
        long,
        value_name = "N",
        default_value = "10000",
        env = "TFS_SIDECAR_REQUESTS",
        hide_env_values = true
    )]
    pub requests: u64,
    /// Keep the most frequent strings too, which may be personal data
    #[arg(long, env = "TFS_SIDECAR_STRINGS", hide_env_values = true)]
    pub strings: bool,
    /// How long to wait for so many requests. After it, the profile is of those that came
    #[arg(
        long,
        value_name = "TIME",
        default_value = "1h",
        value_parser = humantime::parse_duration,
        env = "TFS_SIDECAR_TIMEOUT",
        hide_env_values = true
    )]
    pub timeout: Duration,
    /// Where to write the profile [default: stdout]
    #[arg(long, value_name = "FILE", env = "TFS_SIDECAR_OUT", hide_env_values = true)]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ShowArgs {
    /// The profile
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Only this input or output
    #[arg(long, value_name = "NAME", env = "TFS_SIDECAR_INPUT", hide_env_values = true)]
    pub input: Option<String>,
    /// The most features of an input to draw; 0 for all
    #[arg(
        long,
        value_name = "N",
        default_value = "20",
        env = "TFS_SIDECAR_FEATURES",
        hide_env_values = true
    )]
    pub features: usize,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DiffArgs {
    /// The profile to compare with
    #[arg(value_name = "A")]
    pub before: PathBuf,
    /// The other profile
    #[arg(value_name = "B")]
    pub after: PathBuf,
    /// The most features of an input to list; 0 for all
    #[arg(
        long,
        value_name = "N",
        default_value = "20",
        env = "TFS_SIDECAR_FEATURES",
        hide_env_values = true
    )]
    pub features: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum DataFormat {
    Npy,
    Npz,
    Csv,
    Jsonl,
    Tfrecord,
    Tfdv,
    #[cfg(feature = "parquet")]
    Parquet,
}

impl From<DataFormat> for Format {
    fn from(format: DataFormat) -> Self {
        match format {
            DataFormat::Npy => Self::Npy,
            DataFormat::Npz => Self::Npz,
            DataFormat::Csv => Self::Csv,
            DataFormat::Jsonl => Self::JsonLines,
            DataFormat::Tfrecord => Self::Tfrecord,
            DataFormat::Tfdv => Self::Tfdv,
            #[cfg(feature = "parquet")]
            DataFormat::Parquet => Self::Parquet,
        }
    }
}

fn pair(text: &str) -> Result<(&str, &str), String> {
    text.split_once('=').ok_or_else(|| format!("expected `INPUT=...`, got `{text}`"))
}

fn dtype(text: &str) -> Result<(String, DataType), String> {
    let (input, dtype) = pair(text)?;
    let parsed = DataType::parse(dtype).ok_or_else(|| format!("expected a dtype, got `{dtype}`"))?;
    Ok((input.to_owned(), parsed))
}

fn by(text: &str) -> Result<(String, By), String> {
    let (input, by) = pair(text)?;
    let parsed =
        By::parse(by).ok_or_else(|| format!("expected `feature`, `channel` or `whole`, got `{by}`"))?;
    Ok((input.to_owned(), parsed))
}

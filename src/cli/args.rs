//! Every command, flag and environment variable.
#![allow(rustdoc::broken_intra_doc_links, reason = "help texts have shapes in brackets")]
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::doctor::DoctorArgs;
use super::profile::args::ProfileArgs;

/// A gRPC sidecar for TensorFlow Serving that checks, repairs and explains requests.
///
/// It runs between the clients and TF Serving, reads the models' signatures, and checks every
/// request against them. Requests with exactly one right reading are repaired and forwarded. Others
/// are refused with a list of everything that is wrong and how to fix it. Clients need no changes.
#[derive(Debug, Parser)]
#[command(name = "tfs-sidecar", version = super::version::LONG, max_term_width = 100, after_help = AFTER_HELP)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Every flag can also be set as an environment variable: TFS_SIDECAR_ and the name of the flag.
Precedence: flag > environment > file > default. A warning names variables that no flag has.

Data goes to stdout, messages go to stderr.
Exit codes: 0 success, 1 failure, 2 invalid flag, file or configuration, 70 the sidecar ended itself\nafter a bug in it (the log names the place), 130 a second signal stopped it before the end of a drain.";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the sidecar.
    ///
    /// TF Serving may start later: the sidecar waits for it, and /readyz on the admin address shows
    /// what is missing. SIGTERM and SIGINT start a drain: new requests are refused, and requests in
    /// flight are finished. A second signal stops at once. SIGHUP reads the configuration again.
    Run(ConfigArgs),
    /// Check the configuration and report all problems at once.
    ///
    /// The certificates and keys that it names are opened. With --upstream on the command line, the
    /// signatures of the declared models are read from TF Serving too, and names in the
    /// configuration that they do not have are problems.
    Check(CheckArgs),
    /// Show the inputs and outputs of a model.
    Signature(SignatureArgs),
    /// Explain what would be repaired or refused in a request, and why, without sending it.
    ///
    /// The signature comes from TF Serving (--upstream and --model) or from a file (--signature).
    /// The request comes from a file (--request, or --rest-body for JSON) or from a description of
    /// its inputs (--input), for example --input 'x:double[128]'. The policy is that of the model
    /// in the configuration. The exit code is 1 if the request would be refused.
    Explain(ExplainArgs),
    /// Measure whether batching pays for a model, and print the configuration for it.
    ///
    /// Sends requests of 1, 2, 4, ... rows to TF Serving, made by repeating the rows of one
    /// request, and measures how long they take. The request comes from a file (--request) or from
    /// a description of its inputs (--input), for example --input 'x:float[1,128]'. It is repaired
    /// first if needed.
    ///
    /// Each row of each answer must be what it is alone; otherwise the model must not be batched.
    /// Several different rows in the request make this check stronger. The exit code is 1 if the
    /// model cannot be batched or a call fails, and 0 if batching only does not pay.
    ///
    /// It puts load on TF Serving. Other load makes the result unclear.
    BatchProbe(BatchProbeArgs),
    /// Find out why an export does not load or does not predict, before it is served.
    ///
    /// Reads a SavedModel (--saved-model): its operations and attributes against the TensorFlow of
    /// the server (--tf-version), its files, its signatures and its warm-up. With --upstream, also
    /// the state of each version in TF Serving, and with --probe one request for each signature.
    ///
    /// Each finding says what is wrong, what to do, and who has to do it: exporter, platform or
    /// client. The exit code is 1 if something fails.
    Doctor(DoctorArgs),
    /// Exit with 0 if the sidecar is ready. For probes in images without a shell.
    Healthcheck(HealthcheckArgs),
    /// Show which client must change which line.
    ///
    /// Lists every mistake that the running sidecar has seen, the most frequent first, with the
    /// line to change in the client's language. With --format markdown, the text of a ticket for
    /// each client.
    Fixes(FixesArgs),
    Traffic(super::traffic::args::TrafficArgs),
    Diff(super::traffic::args::DiffArgs),
    /// Make, show and compare profiles: what the training data of a model looks like.
    ///
    /// A running sidecar compares requests with the profile of their model (the key `profile`).
    Profile(ProfileArgs),
    /// Drain the sidecar and wait until no request is in flight.
    ///
    /// New requests are refused, and clients are told to go elsewhere. `undrain` takes it back.
    Drain(DrainArgs),
    /// Take a drain back: the sidecar serves again.
    ///
    /// Not possible once the process is stopping because of a signal.
    Undrain(UndrainArgs),
    /// Print a script that completes commands and flags in a shell.
    ///
    /// For example: tfs-sidecar completions bash > /etc/bash_completion.d/tfs-sidecar
    Completions(CompletionsArgs),
    /// Print the manual page, in the format of man.
    ///
    /// For example: tfs-sidecar man > /usr/local/share/man/man1/tfs-sidecar.1
    Man(ManArgs),
}

/// The configuration file, and the flags for TF Serving that override it.
#[derive(Debug, Args)]
pub(super) struct ServerArgs {
    /// The configuration file (YAML)
    #[arg(long, value_name = "FILE", env = "TFS_SIDECAR_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// TF Serving's gRPC address: host:port, https://host:port or unix:///path [default:
    /// 127.0.0.1:8500]
    #[arg(long, value_name = "ADDR", env = "TFS_SIDECAR_UPSTREAM", hide_env_values = true)]
    upstream: Option<String>,
    /// The certificate authorities to trust for an https:// upstream (PEM) [default: those of the
    /// system]
    #[arg(long, value_name = "FILE", env = "TFS_SIDECAR_UPSTREAM_CA", hide_env_values = true)]
    upstream_ca: Option<String>,
    /// The certificate to present to TF Serving (PEM), set together with --upstream-key
    #[arg(long, value_name = "FILE", env = "TFS_SIDECAR_UPSTREAM_CERT", hide_env_values = true)]
    upstream_cert: Option<String>,
    /// The private key of --upstream-cert (PEM)
    #[arg(long, value_name = "FILE", env = "TFS_SIDECAR_UPSTREAM_KEY", hide_env_values = true)]
    upstream_key: Option<String>,
    /// The name in TF Serving's certificate [default: the host of --upstream]
    #[arg(long, value_name = "NAME", env = "TFS_SIDECAR_UPSTREAM_DOMAIN", hide_env_values = true)]
    upstream_domain: Option<String>,
}

/// The flags of `run` and `check`, which override the configuration file.
#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    #[command(flatten)]
    pub server: ServerArgs,
    /// Where clients connect with gRPC: ip:port or unix:///path. Port 0 picks a free port [default:
    /// 0.0.0.0:8600]
    #[arg(long, value_name = "ADDR", env = "TFS_SIDECAR_LISTEN", hide_env_values = true)]
    listen: Option<String>,
    /// Where clients use TF Serving's REST API: ip:port or unix:///path, by convention 0.0.0.0:8601
    /// [default: off]
    #[arg(long, value_name = "ADDR", env = "TFS_SIDECAR_REST_LISTEN", hide_env_values = true)]
    rest_listen: Option<String>,
    /// Where metrics, health checks, drain and the status page are served [default: 127.0.0.1:8602]
    #[arg(long, value_name = "ADDR", env = "TFS_SIDECAR_ADMIN_LISTEN", hide_env_values = true)]
    admin_listen: Option<String>,
    /// A file with the token that lets other machines drain and undrain over the admin address
    #[arg(long, value_name = "FILE", env = "TFS_SIDECAR_ADMIN_TOKEN_FILE", hide_env_values = true)]
    admin_token_file: Option<String>,
    /// An address on which only GET /drain is accepted, for the preStop hook of Kubernetes
    #[arg(long, value_name = "ADDR", env = "TFS_SIDECAR_DRAIN_LISTEN", hide_env_values = true)]
    drain_listen: Option<String>,
    /// A model that must be available for readiness. Can be repeated, or a list separated by commas
    /// [default: $MODEL_NAME]
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        env = "TFS_SIDECAR_MODEL",
        hide_env_values = true
    )]
    model: Vec<String>,
    /// off, observe, repair or strict. Overrides every mode in the file [default: repair]
    #[arg(long, value_name = "MODE", env = "TFS_SIDECAR_MODE", hide_env_values = true)]
    mode: Option<String>,
    /// Worker threads [default: one per CPU]
    #[arg(long, value_name = "N", env = "TFS_SIDECAR_WORKERS", hide_env_values = true)]
    workers: Option<String>,
    /// Format of log lines: text or json [default: text]
    #[arg(long, value_name = "FORMAT", env = "TFS_SIDECAR_LOG_FORMAT", hide_env_values = true)]
    log_format: Option<String>,
    /// Which log lines: off, error, warn, info, debug, trace, or target=level,... [default: info]
    #[arg(
        long,
        value_name = "FILTER",
        visible_alias = "log-level",
        env = "TFS_SIDECAR_LOG",
        hide_env_values = true
    )]
    log: Option<String>,
    /// An OpenTelemetry collector that takes traces as OTLP over gRPC [default:
    /// $OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, $OTEL_EXPORTER_OTLP_ENDPOINT or off]
    #[arg(long, value_name = "ADDR", env = "TFS_SIDECAR_OTLP_ENDPOINT", hide_env_values = true)]
    otlp_endpoint: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print the resulting configuration as YAML, including defaults
    #[arg(long, env = "TFS_SIDECAR_PRINT", hide_env_values = true)]
    pub print: bool,
    /// How long to wait for TF Serving
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration, env = "TFS_SIDECAR_TIMEOUT", hide_env_values = true)]
    pub timeout: Duration,
}

/// The model that a signature comes from.
#[derive(Debug, Args)]
pub(super) struct ModelArgs {
    #[command(flatten)]
    pub server: ServerArgs,
    /// The name of the model [default: the only model of the configuration, else $MODEL_NAME]
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        env = "TFS_SIDECAR_MODEL",
        hide_env_values = true
    )]
    pub model: Vec<String>,
    /// How long to wait for TF Serving
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration, env = "TFS_SIDECAR_TIMEOUT", hide_env_values = true)]
    pub timeout: Duration,
}

#[derive(Debug, Args)]
pub(super) struct SignatureArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Add an example call of the sidecar with grpcurl
    #[arg(long, env = "TFS_SIDECAR_EXAMPLE", hide_env_values = true)]
    pub example: bool,
    /// Make the example a call of the REST listener with curl
    #[arg(long, requires = "example", env = "TFS_SIDECAR_REST", hide_env_values = true)]
    pub rest: bool,
    /// The signature of the example [default: serving_default, else the first one]
    #[arg(long, value_name = "NAME", env = "TFS_SIDECAR_SIGNATURE_NAME", hide_env_values = true)]
    pub signature_name: Option<String>,
    /// Where the sidecar listens, for the example [default: 0.0.0.0:8600]
    #[arg(long, value_name = "ADDR", env = "TFS_SIDECAR_LISTEN", hide_env_values = true)]
    listen: Option<String>,
    /// Where the sidecar listens for REST, for the example with --rest [default: 0.0.0.0:8601]
    #[arg(long, value_name = "ADDR", env = "TFS_SIDECAR_REST_LISTEN", hide_env_values = true)]
    rest_listen: Option<String>,
}

#[derive(Debug, Args)]
#[command(mut_arg("request", |request| request.required_unless_present("rest_body")))]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// A file with the JSON body of a REST request to :predict
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["request", "input"],
        env = "TFS_SIDECAR_REST_BODY",
        hide_env_values = true
    )]
    pub rest_body: Option<PathBuf>,
    /// A file with a serialized GetModelMetadataResponse, instead of TF Serving
    #[arg(long, value_name = "FILE", env = "TFS_SIDECAR_SIGNATURE", hide_env_values = true)]
    pub signature: Option<PathBuf>,
    #[command(flatten)]
    pub sample: RequestArgs,
    /// Overrides the mode in the configuration file
    #[arg(long, value_name = "MODE", env = "TFS_SIDECAR_MODE", hide_env_values = true)]
    mode: Option<String>,
}

/// A request to look at.
#[derive(Debug, Args)]
pub(super) struct RequestArgs {
    /// A file with a serialized PredictRequest
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "input",
        conflicts_with = "input",
        env = "TFS_SIDECAR_REQUEST",
        hide_env_values = true
    )]
    pub request: Option<PathBuf>,
    /// An input as name:dtype[shape]. Can be repeated
    #[arg(long, value_name = "INPUT", env = "TFS_SIDECAR_INPUT", hide_env_values = true)]
    pub input: Vec<String>,
    /// The signature that --input is for
    #[arg(
        long,
        value_name = "NAME",
        default_value = "serving_default",
        env = "TFS_SIDECAR_SIGNATURE_NAME",
        hide_env_values = true
    )]
    pub signature_name: String,
}

#[derive(Debug, Args)]
pub(super) struct BatchProbeArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub sample: RequestArgs,
    /// The most rows of a run to measure
    #[arg(
        long,
        value_name = "N",
        default_value = "64",
        value_parser = clap::value_parser!(u64).range(2..=65536),
        env = "TFS_SIDECAR_MAX_ROWS",
        hide_env_values = true
    )]
    pub max_rows: u64,
    /// How long to measure, after a warm-up. Each size is measured at least 5 times
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration, env = "TFS_SIDECAR_DURATION", hide_env_values = true)]
    pub duration: Duration,
}

/// The running sidecar.
#[derive(Debug, Args)]
pub(super) struct AdminArgs {
    /// The admin address of the sidecar [default: admin_listen of this environment, else
    /// 127.0.0.1:8602]
    #[arg(long, value_name = "ADDR", env = "TFS_SIDECAR_ADMIN", hide_env_values = true)]
    pub admin: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct HealthcheckArgs {
    #[command(flatten)]
    pub admin: AdminArgs,
    /// How long to wait for the response
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration, env = "TFS_SIDECAR_TIMEOUT", hide_env_values = true)]
    pub timeout: Duration,
}

#[derive(Debug, Args)]
pub(super) struct FixesArgs {
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Only the mistakes of this client
    #[arg(long, value_name = "NAME", env = "TFS_SIDECAR_CLIENT", hide_env_values = true)]
    pub client: Option<String>,
    /// Only the mistakes in requests for this model
    #[arg(long, value_name = "NAME", env = "TFS_SIDECAR_MODEL", hide_env_values = true)]
    pub model: Option<String>,
    /// A table, the text of a ticket for each client, or what the sidecar answers
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "table",
        env = "TFS_SIDECAR_FORMAT",
        hide_env_values = true
    )]
    pub format: FixesFormat,
    /// How long to wait for the response
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration, env = "TFS_SIDECAR_TIMEOUT", hide_env_values = true)]
    pub timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum FixesFormat {
    Table,
    Markdown,
    Json,
}

/// What the sidecar demands of programs on other machines.
#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    /// The file of the sidecar's token, to call it from another machine
    #[arg(long, value_name = "FILE", env = "TFS_SIDECAR_TOKEN_FILE", hide_env_values = true)]
    pub token_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct UndrainArgs {
    #[command(flatten)]
    pub admin: AdminArgs,
    #[command(flatten)]
    pub token: TokenArgs,
    /// How long to wait for the response
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration, env = "TFS_SIDECAR_TIMEOUT", hide_env_values = true)]
    pub timeout: Duration,
}

#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    #[command(flatten)]
    pub admin: AdminArgs,
    #[command(flatten)]
    pub token: TokenArgs,
    /// How long to wait. The sidecar itself waits at most its drain_timeout
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration, env = "TFS_SIDECAR_TIMEOUT", hide_env_values = true)]
    pub timeout: Duration,
}

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The page of a command instead of the program's
    #[arg(value_name = "COMMAND")]
    pub command: Option<String>,
}

//! Every command, flag and environment variable, each declared once.
use std::path::PathBuf;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Parser, Subcommand};

use super::{Failure, variable};
use crate::config::load::{Setting, Settings};

/// A gRPC sidecar for TensorFlow Serving that checks, repairs and explains requests.
///
/// It stands between the clients and TF Serving, reads what each model's signatures take, and holds
/// every request to that: what has exactly one right reading is repaired and forwarded, the rest is
/// answered with all that is wrong and how to fix it. Clients change nothing.
#[derive(Debug, Parser)]
#[command(name = "tfs-sidecar", version, max_term_width = 100, after_help = AFTER_HELP)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Every flag can also be given as an environment variable, TFS_SIDECAR_ and the flag's name.
A flag is over its variable, that over the configuration file, that over the default.

Exit codes: 0 success, 1 failure, 2 a wrong flag or configuration.";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the sidecar.
    ///
    /// TF Serving need not be there yet: the sidecar waits for it, and says on /readyz of the admin
    /// address what is missing. SIGTERM and SIGINT drain: new requests are refused, those in flight
    /// are finished. A second SIGINT stops at once.
    Run(ConfigArgs),
    /// Check the configuration and tell all its problems at once.
    Check(CheckArgs),
    /// Show what a model takes and gives.
    Signature(SignatureArgs),
    /// Explain what would be repaired or refused in a request, and why. Runs nothing.
    ///
    /// The signature comes from TF Serving (--upstream and --model) or from a file (--signature);
    /// the request from a file (--request) or from a description (--input), for example --input
    /// 'x:double[128]'.
    Explain(ExplainArgs),
    /// Exit with 0 when the sidecar is ready: a probe for images without a shell.
    Healthcheck(HealthcheckArgs),
    /// Drain the sidecar and wait until nothing is in flight.
    Drain(DrainArgs),
}

/// What `run` and `check` take; each is a `Setting` of the configuration.
#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    /// The configuration file (YAML)
    #[arg(long, value_name = "FILE", env = "TFS_SIDECAR_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Where TF Serving's gRPC is: host:port, https://host:port or unix:///path [default:
    /// 127.0.0.1:8500]
    #[arg(long, value_name = "ADDR", env = "TFS_SIDECAR_UPSTREAM", hide_env_values = true)]
    pub upstream: Option<String>,
    /// Where clients reach the sidecar: ip:port or unix:///path; port 0 picks a free one [default:
    /// 0.0.0.0:8600]
    #[arg(long, value_name = "ADDR", env = "TFS_SIDECAR_LISTEN", hide_env_values = true)]
    pub listen: Option<String>,
    /// Where TF Serving's REST API is offered; only `off` until a later release [default: off]
    #[arg(long, value_name = "ADDR", env = "TFS_SIDECAR_REST_LISTEN", hide_env_values = true)]
    pub rest_listen: Option<String>,
    /// Where metrics, probes, drain and the page are [default: 127.0.0.1:8602]
    #[arg(long, value_name = "ADDR", env = "TFS_SIDECAR_ADMIN_LISTEN", hide_env_values = true)]
    pub admin_listen: Option<String>,
    /// A model to read at start and to wait for; repeat it, or separate names by commas [default:
    /// $MODEL_NAME]
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        env = "TFS_SIDECAR_MODEL",
        hide_env_values = true
    )]
    pub model: Vec<String>,
    /// How far the sidecar goes: off, observe, repair or strict; over every mode in the file
    /// [default: repair]
    #[arg(long, value_name = "MODE", env = "TFS_SIDECAR_MODE", hide_env_values = true)]
    pub mode: Option<String>,
    /// Worker threads [default: one a core]
    #[arg(long, value_name = "N", env = "TFS_SIDECAR_WORKERS", hide_env_values = true)]
    pub workers: Option<String>,
    /// How log lines are written: text or json [default: text]
    #[arg(long, value_name = "FORMAT", env = "TFS_SIDECAR_LOG_FORMAT", hide_env_values = true)]
    pub log_format: Option<String>,
    /// Which log lines: off, error, warn, info, debug, trace, or target=level,... [default: info]
    #[arg(
        long,
        value_name = "FILTER",
        visible_alias = "log-level",
        env = "TFS_SIDECAR_LOG",
        hide_env_values = true
    )]
    pub log: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print the configuration that holds, defaults included, as YAML
    #[arg(long, env = "TFS_SIDECAR_PRINT", hide_env_values = true)]
    pub print: bool,
}

/// Where a signature is asked for.
#[derive(Debug, Args)]
pub(super) struct UpstreamArgs {
    /// Where TF Serving's gRPC is
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:8500",
        env = "TFS_SIDECAR_UPSTREAM",
        hide_env_values = true
    )]
    pub upstream: String,
    /// The model [default: $MODEL_NAME]
    #[arg(long, value_name = "NAME", env = "TFS_SIDECAR_MODEL", hide_env_values = true)]
    pub model: Option<String>,
    /// How long TF Serving may take to answer
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration, env = "TFS_SIDECAR_TIMEOUT", hide_env_values = true)]
    pub timeout: Duration,
}

#[derive(Debug, Args)]
pub(super) struct SignatureArgs {
    #[command(flatten)]
    pub server: UpstreamArgs,
    /// Add a grpcurl command that the model answers
    #[arg(long, env = "TFS_SIDECAR_EXAMPLE", hide_env_values = true)]
    pub example: bool,
}

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    pub server: UpstreamArgs,
    /// A GetModelMetadataResponse, in bytes, instead of asking TF Serving
    #[arg(long, value_name = "FILE", env = "TFS_SIDECAR_SIGNATURE", hide_env_values = true)]
    pub signature: Option<PathBuf>,
    /// A PredictRequest, in bytes
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "input",
        conflicts_with = "input",
        env = "TFS_SIDECAR_REQUEST",
        hide_env_values = true
    )]
    pub request: Option<PathBuf>,
    /// An input as name:dtype[shape]; repeat it for each
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
    /// The configuration whose policies hold
    #[arg(long, value_name = "FILE", env = "TFS_SIDECAR_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// The mode that holds, over the configuration's
    #[arg(long, value_name = "MODE", env = "TFS_SIDECAR_MODE", hide_env_values = true)]
    pub mode: Option<String>,
}

/// Where a running sidecar is asked.
#[derive(Debug, Args)]
pub(super) struct AdminArgs {
    /// The admin address of the sidecar [default: what the sidecar in this environment listens on,
    /// else 127.0.0.1:8602]
    #[arg(long, value_name = "ADDR", env = "TFS_SIDECAR_ADMIN", hide_env_values = true)]
    pub admin: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct HealthcheckArgs {
    #[command(flatten)]
    pub admin: AdminArgs,
    /// How long the answer may take
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration, env = "TFS_SIDECAR_TIMEOUT", hide_env_values = true)]
    pub timeout: Duration,
}

#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    #[command(flatten)]
    pub admin: AdminArgs,
    /// How long to wait; the sidecar itself waits no longer than its drain_timeout
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration, env = "TFS_SIDECAR_TIMEOUT", hide_env_values = true)]
    pub timeout: Duration,
}

impl ConfigArgs {
    pub(super) fn settings(&self, matches: &ArgMatches) -> Settings {
        let given =
            |id: &str, value: &Option<String>| value.as_deref().and_then(|value| setting(matches, id, value));
        Settings {
            upstream: given("upstream", &self.upstream),
            listen: given("listen", &self.listen),
            rest_listen: given("rest_listen", &self.rest_listen),
            admin_listen: given("admin_listen", &self.admin_listen),
            models: self.model.iter().filter_map(|name| setting(matches, "model", name)).collect(),
            model_name: variable("MODEL_NAME"),
            mode: given("mode", &self.mode),
            workers: given("workers", &self.workers),
            log_format: given("log_format", &self.log_format),
            log: given("log", &self.log),
        }
    }
}

impl UpstreamArgs {
    /// The model of `--model`, or of the variable that TF Serving's image has.
    pub(super) fn model(&self) -> Result<String, Failure> {
        let named = self.model.clone().or_else(|| variable("MODEL_NAME").map(|setting| setting.value));
        named.ok_or_else(|| {
            Failure::usage(anyhow::anyhow!("expected a model")).hint("give its name: --model NAME")
        })
    }
}

/// An empty variable is one that a template did not fill in, and counts as absent.
fn setting(matches: &ArgMatches, id: &str, value: &str) -> Option<Setting> {
    let from_environment = matches.value_source(id) == Some(ValueSource::EnvVariable);
    let source = if from_environment { variable_of(id) } else { format!("--{}", id.replace('_', "-")) };
    (!from_environment || !value.is_empty()).then(|| Setting { value: value.to_owned(), source })
}

/// The environment variable of a flag.
fn variable_of(id: &str) -> String {
    format!("TFS_SIDECAR_{}", id.to_uppercase())
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_a_variable_of_its_name() {
        for command in Cli::command().get_subcommands() {
            for flag in
                command.get_arguments().filter(|flag| !["help", "version"].contains(&flag.get_id().as_str()))
            {
                let variable = flag.get_env().map(|name| name.to_string_lossy().into_owned());
                assert_eq!(
                    variable,
                    Some(variable_of(flag.get_id().as_str())),
                    "{} {flag}",
                    command.get_name()
                );
            }
        }
    }

    #[test]
    fn the_documentation_shows_every_help_text() {
        let mut command = Cli::command();
        let mut text = format!(
            "# Command line\n\nWritten by a test from `src/cli/args.rs`; rewrite it with `UPDATE=1 cargo test --lib`.\n\n```text\n{}```\n",
            command.render_long_help()
        );
        let names: Vec<String> =
            command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
        for name in names.iter().filter(|name| *name != "help") {
            command.build();
            let help = command.find_subcommand_mut(name).unwrap().render_long_help();
            write!(text, "\n## `tfs-sidecar {name}`\n\n```text\n{help}```\n").unwrap();
        }
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        crate::generated::assert_file("docs/cli.md", &(lines.join("\n") + "\n"));
    }
}

//! From flags and environment variables to a configuration; the one place that reads the
//! environment.
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::Failure;
use super::args::{ModelArgs, ServerArgs};
use crate::config::load::{Setting, Settings};
use crate::config::{Config, Source, UpstreamAddr};
use crate::sorting;
use crate::spelling::nearest;

/// Flags by their ids, and the keys of the configuration that they set.
const KEYS: &[(&str, &str)] = &[
    ("upstream", "upstream"),
    ("upstream_ca", "upstream_tls.ca"),
    ("upstream_cert", "upstream_tls.cert"),
    ("upstream_key", "upstream_tls.key"),
    ("upstream_domain", "upstream_tls.domain"),
    ("listen", "listen"),
    ("rest_listen", "rest_listen"),
    ("admin_listen", "admin_listen"),
    ("admin_token_file", "admin_token_file"),
    ("drain_listen", "drain_listen"),
    ("workers", "workers"),
    ("log_format", "log_format"),
    ("log", "log"),
    ("otlp_endpoint", "otlp_endpoint"),
];

const PREFIX: &str = "TFS_SIDECAR_";

/// The configuration of a command: its flags over the environment over the file over the defaults.
pub(super) fn load_config(server: &ServerArgs, matches: &ArgMatches) -> Result<Config, Failure> {
    source(server, matches).load().map_err(Failure::usage)
}

/// Where a command's configuration comes from.
pub(super) fn source(server: &ServerArgs, matches: &ArgMatches) -> Source {
    Source { settings: settings(matches), path: file(server.config.as_deref()) }
}

/// The file of the configuration; an empty name counts as none.
pub(super) fn file(path: Option<&Path>) -> Option<PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty()).map(Path::to_owned)
}

/// What the flags of a command set. A command need not have all of them.
fn settings(matches: &ArgMatches) -> Settings {
    let one = |id: &str| {
        let value = matches.try_get_one::<String>(id).ok().flatten()?;
        setting(matches, id, value)
    };
    let models = matches.try_get_many::<String>("model").ok().flatten().into_iter().flatten();
    Settings {
        keys: KEYS.iter().filter_map(|(id, key)| Some((*key, one(id)?))).collect(),
        models: models.filter_map(|name| setting(matches, "model", name)).collect(),
        model_name: variable("MODEL_NAME"),
        mode: one("mode"),
        fallbacks: opentelemetry(variable),
    }
}

/// What the variables of OpenTelemetry set. A variable that is meant for exporters of another
/// protocol, or that we cannot use, sets nothing: the pod may have it for another program.
fn opentelemetry(variable: impl Fn(&str) -> Option<Setting>) -> Vec<(&'static str, Setting)> {
    let first = |names: [&str; 2]| names.into_iter().find_map(&variable);
    let is = |setting: &Option<Setting>, value: &str| {
        setting.as_ref().is_some_and(|setting| setting.value.eq_ignore_ascii_case(value))
    };
    let protocol = first(["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"]);
    let off = is(&variable("OTEL_SDK_DISABLED"), "true") || is(&variable("OTEL_TRACES_EXPORTER"), "none");
    let endpoint = first(["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"])
        .filter(|_| !off && (protocol.is_none() || is(&protocol, "grpc")))
        .filter(|setting| setting.value.parse::<UpstreamAddr>().is_ok());
    let resource = variable("OTEL_RESOURCE_ATTRIBUTES");
    let resource = resource.filter(|setting| setting.value.split(',').all(|pair| pair.contains('=')));
    let name = variable("OTEL_SERVICE_NAME");
    let all = [("otlp_endpoint", endpoint), ("otlp_resource", resource), ("otlp_service_name", name)];
    all.into_iter().filter_map(|(key, setting)| Some((key, setting?))).collect()
}

/// An empty variable counts as not set: templates leave such variables behind.
fn setting(matches: &ArgMatches, id: &str, value: &str) -> Option<Setting> {
    let from_environment = matches.value_source(id) == Some(ValueSource::EnvVariable);
    let source = if from_environment { variable_of(id) } else { format!("--{}", id.replace('_', "-")) };
    (!from_environment || !value.is_empty()).then(|| Setting { value: value.to_owned(), source })
}

impl ModelArgs {
    /// The model of `--model`, if there is one.
    pub(super) fn named(&self) -> Result<Option<&str>, Failure> {
        let mut names = self.model.iter().map(String::as_str).filter(|name| !name.is_empty());
        match (names.next(), names.next()) {
            (Some(_), Some(_)) => Err(several(self.model.len())),
            (name, _) => Ok(name),
        }
    }

    /// The model of `--model`, or else the only one of the configuration.
    pub(super) fn name(&self, config: &Config) -> Result<String, Failure> {
        if let Some(name) = self.named()? {
            return Ok(name.to_owned());
        }
        let mut declared = config.models.keys();
        match (declared.next(), declared.next()) {
            (Some(name), None) => Ok(name.clone()),
            (None, _) => Err(Failure::usage(anyhow::anyhow!("the name of the model is missing"))
                .hint("set it with --model NAME")),
            (Some(_), Some(_)) => Err(several(config.models.len())),
        }
    }
}

fn several(count: usize) -> Failure {
    Failure::usage(anyhow::anyhow!("expected one model, got {count}")).hint("choose one with --model NAME")
}

/// The environment variable of a flag.
pub(super) fn variable_of(id: &str) -> String {
    format!("{PREFIX}{}", id.to_uppercase())
}

/// An environment variable that is not a flag of the command. An empty one counts as not set.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
pub(super) fn variable(name: &str) -> Option<Setting> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(Setting { value, source: name.to_owned() })
}

/// A warning for each variable of the environment that looks like a flag's and is not.
pub(super) fn warnings(command: &clap::Command) -> Vec<String> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let mut set: Vec<_> = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
    sorting::by(&mut set, Ord::cmp);
    unknown(command, &set)
}

fn unknown(command: &clap::Command, set: &[(String, String)]) -> Vec<String> {
    let commands =
        command.get_subcommands().flat_map(|one| std::iter::once(one).chain(one.get_subcommands()));
    let flags = commands.flat_map(clap::Command::get_arguments);
    let known: Vec<String> =
        flags.filter_map(|flag| Some(flag.get_env()?.to_string_lossy().into_owned())).collect();
    let mut warnings = Vec::new();
    for (name, value) in set {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        if known.contains(name) || is_service_link(rest, value) {
            continue;
        }
        let names = known.iter().filter_map(|known| known.strip_prefix(PREFIX));
        let hint = nearest(rest, names)
            .map_or_else(String::new, |near| format!(" (did you mean `{PREFIX}{near}`?)"));
        warnings.push(format!("unknown environment variable `{name}`{hint}"));
    }
    warnings
}

/// Kubernetes sets such variables in every pod of a namespace that has a Service called
/// `tfs-sidecar` or `tfs-sidecar-canary` (`kubelet/envvars/envvars.go`).
fn is_service_link(rest: &str, value: &str) -> bool {
    let is_address = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let words: Vec<&str> = rest.split('_').collect();
    words.windows(2).any(|pair| matches!(pair, ["SERVICE", "HOST" | "PORT"]))
        || (words.last() == Some(&"PORT") && is_address)
        || words.windows(3).any(
            |three| matches!(three, ["PORT", port, "TCP" | "UDP" | "SCTP"] if port.parse::<u16>().is_ok()),
        )
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::args::Cli;

    fn unknown_of(set: &[(&str, &str)]) -> Vec<String> {
        let set: Vec<_> = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        unknown(&Cli::command(), &set)
    }

    fn opentelemetry_of(set: &[(&str, &str)]) -> Vec<String> {
        let variable = |name: &str| {
            let (name, value) = set.iter().find(|(set, _)| *set == name)?;
            Some(Setting { value: (*value).to_owned(), source: (*name).to_owned() })
        };
        let settings = opentelemetry(variable).into_iter();
        settings.map(|(key, setting)| format!("{key}={}", setting.value)).collect()
    }

    #[test]
    fn variables_of_opentelemetry_are_used_where_they_are_meant_for_grpc() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");
        let all = [endpoint, ("OTEL_SERVICE_NAME", "s"), ("OTEL_RESOURCE_ATTRIBUTES", "a=b,c=d")];
        assert_eq!(
            opentelemetry_of(&all),
            ["otlp_endpoint=http://collector:4317", "otlp_resource=a=b,c=d", "otlp_service_name=s"]
        );
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces:4317/");
        let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        assert_eq!(opentelemetry_of(&[endpoint, traces, grpc]), ["otlp_endpoint=https://traces:4317/"]);
        for unused in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_SDK_DISABLED", "TRUE"),
            ("OTEL_TRACES_EXPORTER", "none"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4318/v1/traces"),
        ] {
            assert!(opentelemetry_of(&[endpoint, unused]).is_empty(), "{unused:?}");
        }
    }

    #[test]
    fn an_unknown_variable_is_reported_with_the_nearest_known_name() {
        insta::assert_snapshot!(unknown_of(&[
            ("PATH", "/bin"),
            ("TFS_SIDECAR_LISTEN", ":8600"),
            ("TFS_SIDECAR_LISTNE", ":8600"),
            ("TFS_SIDECAR_UPSTREAM_TLS_CA", ""),
            ("TFS_SIDECAR_REPLICAS", "3"),
        ]).join("\n"), @r"
        unknown environment variable `TFS_SIDECAR_LISTNE` (did you mean `TFS_SIDECAR_LISTEN`?)
        unknown environment variable `TFS_SIDECAR_UPSTREAM_TLS_CA` (did you mean `TFS_SIDECAR_UPSTREAM_CA`?)
        unknown environment variable `TFS_SIDECAR_REPLICAS`
        ");
    }

    #[test]
    fn the_variables_of_a_kubernetes_service_are_not_reported() {
        let links = [
            ("TFS_SIDECAR_SERVICE_HOST", "10.0.0.1"),
            ("TFS_SIDECAR_SERVICE_PORT", "8600"),
            ("TFS_SIDECAR_SERVICE_PORT_GRPC", "8600"),
            ("TFS_SIDECAR_PORT", "tcp://10.0.0.1:8600"),
            ("TFS_SIDECAR_PORT_8600_TCP", "tcp://10.0.0.1:8600"),
            ("TFS_SIDECAR_PORT_8600_TCP_PROTO", "tcp"),
            ("TFS_SIDECAR_PORT_8600_TCP_PORT", "8600"),
            ("TFS_SIDECAR_PORT_8600_TCP_ADDR", "10.0.0.1"),
            ("TFS_SIDECAR_CANARY_SERVICE_HOST", "10.0.0.2"),
            ("TFS_SIDECAR_CANARY_PORT", "tcp://10.0.0.2:8600"),
            ("TFS_SIDECAR_CANARY_PORT_8600_TCP_ADDR", "10.0.0.2"),
        ];
        assert_eq!(unknown_of(&links), Vec::<String>::new());
        let mistakes =
            [("TFS_SIDECAR_PORT", "8600"), ("TFS_SIDECAR_TCP", "1"), ("TFS_SIDECAR_PORT_X_TCP", "1")];
        assert_eq!(unknown_of(&mistakes).len(), 3);
    }
}

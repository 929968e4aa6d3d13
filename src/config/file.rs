//! The YAML file: every key of its sections with default and help in one table each, laid over the
//! defaults.
use std::cell::RefCell;

use super::problem::Problem;
use super::section::{Key, Section, above_zero, at_most, duration, key, number, path, size, switch};
use super::yaml::Node;
use super::{Config, ListenTls, LogFormat, MAX_MESSAGE_BYTES, UndeclaredModels, UpstreamConcurrency, policy};

pub(super) const ROOT: &[Key] = &[
    key(
        "upstream",
        "address",
        "127.0.0.1:8500",
        "TF Serving's gRPC: `host:port`, `https://host:port` or `unix:///path`.",
    ),
    key(
        "listen",
        "address",
        "0.0.0.0:8600",
        "gRPC for clients: `ip:port` or `unix:///path`; port 0 picks a free one.",
    ),
    key("admin_listen", "address", "127.0.0.1:8602", "Metrics, probes, drain and the page."),
    key("rest_listen", "`off`", "off", "TF Serving's REST API; comes with a later release."),
    key(
        "workers",
        "number",
        "one a core",
        "Worker threads. A request stays on the thread that its connection came to.",
    ),
    key("upstream_connections", "number", "1", "HTTP/2 connections to TF Serving of each worker."),
    key(
        "upstream_concurrency",
        "`auto`, number, `off`",
        "auto",
        "Predict, Classify, Regress and MultiInference requests that TF Serving gets at a time; more wait here, in order. `auto` learns the number from its refusals and its pace. Refusals for want of a thread are sent again, but not with `off`.",
    ),
    key("limits", "section", "", "What is refused for its size."),
    key(
        "undeclared_models",
        "`allow`, `refuse`",
        "allow",
        "Requests for models that are not named under `models`: their signatures are read at the first request, or they are refused.",
    ),
    key(
        "allow_reload",
        "`on`, `off`",
        "off",
        "Whether HandleReloadConfigRequest is forwarded. TF Serving does not ask who sends it.",
    ),
    key(
        "server_batching",
        "`on`, `off`",
        "off",
        "Say `on` when TF Serving runs with `--enable_batching`: requests of zero rows hang it, and are then refused here.",
    ),
    key("poll_interval", "time", "1s", "How often the versions of each model are asked for."),
    key("connect_timeout", "time", "5s", "How long a connection to TF Serving may take."),
    key("drain_timeout", "time", "30s", "How long a drain waits for requests in flight."),
    key("listen_tls", "section", "", "TLS for clients; without it plain HTTP/2."),
    key("upstream_tls", "section", "", "How an `https://` upstream is trusted."),
    key("log_format", "`text`, `json`", "text", "How log lines are written to stderr."),
    key("log", "filter", "info", "Which log lines: a level, or `target=level,...`."),
    key("defaults", "policy", "", "The policy of every model."),
    key(
        "models",
        "model: policy",
        "",
        "Models that are read at start and that readiness waits for, each with its policy.",
    ),
];
pub(super) const LIMITS: &[Key] = &[
    key(
        "max_message_bytes",
        "size",
        "2147483647",
        "One message, after decompression. TF Serving takes no more than the default.",
    ),
    key("max_inflight_bytes", "size", "512MiB", "All requests in flight together."),
    key(
        "max_inflight_requests",
        "number",
        "1024",
        "Requests in flight, those that wait for TF Serving among them.",
    ),
    key("max_queued_requests", "number", "1024", "Requests that wait for TF Serving."),
    key("max_elements", "number", "268435456", "Elements that the shape of one tensor may claim."),
];
pub(super) const LISTEN_TLS: &[Key] = &[
    key("cert", "file", "", "PEM, the leaf first."),
    key("key", "file", "", "PEM."),
    key("client_ca", "file", "", "Clients must show a certificate that one of these signed."),
];
pub(super) const UPSTREAM_TLS: &[Key] = &[
    key("ca", "file", "", "The authorities to trust, PEM; an `https://` upstream needs it."),
    key("cert", "file", "", "A certificate for a server that asks for one."),
    key("key", "file", "", "Its key."),
    key("domain", "name", "", "The name in the server's certificate, when it is not the host of `upstream`."),
];

/// Lays the file over `config`; what is wrong goes to `problems` and leaves the setting as it was.
pub(super) fn apply(root: &Node, config: &mut Config, problems: &RefCell<Vec<Problem>>) {
    let Some(root) = Section::open(root, String::new(), ROOT, problems) else { return };
    root.parsed("upstream", &mut config.upstream);
    root.parsed("listen", &mut config.listen);
    root.parsed("admin_listen", &mut config.admin_listen);
    root.value("rest_listen", &mut config.rest_listen, |text| match switch(text) {
        Ok(false) => Ok(None),
        _ => Err("expected `off`: the REST API comes with a later release".to_owned()),
    });
    root.value("workers", &mut config.workers, |text| number(text, 1, 1024));
    root.value("upstream_connections", &mut config.upstream_connections, |text| number(text, 1, 64));
    root.value("upstream_concurrency", &mut config.upstream_concurrency, UpstreamConcurrency::parse);
    root.choice(
        "undeclared_models",
        &mut config.undeclared_models,
        &[("allow", UndeclaredModels::Allow), ("refuse", UndeclaredModels::Refuse)],
    );
    root.value("allow_reload", &mut config.allow_reload, switch);
    root.value("server_batching", &mut config.server_batching, switch);
    root.value("poll_interval", &mut config.poll_interval, |text| above_zero(duration(text)?, text));
    root.value("connect_timeout", &mut config.connect_timeout, |text| above_zero(duration(text)?, text));
    root.value("drain_timeout", &mut config.drain_timeout, duration);
    root.choice("log_format", &mut config.log, LOG_FORMATS);
    root.value("log", &mut config.log_filter, |text| Ok(text.to_owned()));

    if let Some(limits) = root.section("limits", LIMITS) {
        let to = &mut config.limits;
        limits.value("max_message_bytes", &mut to.max_message_bytes, |text| {
            at_most(size(text)?, MAX_MESSAGE_BYTES as u64, text).map(|bytes| bytes as usize)
        });
        limits.value("max_inflight_bytes", &mut to.max_inflight_bytes, |text| {
            at_most(size(text)?, u64::MAX, text)
        });
        limits.value("max_inflight_requests", &mut to.max_inflight_requests, |text| number(text, 1, 1 << 20));
        limits.value("max_queued_requests", &mut to.max_queued_requests, |text| number(text, 1, 1 << 20));
        limits.value("max_elements", &mut to.max_elements, |text| number(text, 1, 1 << 48));
    }
    if let Some(tls) = root.section("listen_tls", LISTEN_TLS) {
        let (mut cert, mut key, mut client_ca) = (None, None, None);
        tls.value("cert", &mut cert, path);
        tls.value("key", &mut key, path);
        tls.value("client_ca", &mut client_ca, path);
        match (cert, key) {
            (Some(cert), Some(key)) => config.listen_tls = Some(ListenTls { cert, key, client_ca }),
            _ => tls.problem("expected `cert` and `key`, found not both"),
        }
    }
    if let Some(tls) = root.section("upstream_tls", UPSTREAM_TLS) {
        let to = &mut config.upstream_tls;
        tls.value("ca", &mut to.ca, path);
        tls.value("cert", &mut to.cert, path);
        tls.value("key", &mut to.key, path);
        tls.value("domain", &mut to.domain, |text| Ok(Some(text.to_owned())));
        if to.cert.is_some() != to.key.is_some() {
            tls.problem("expected `cert` and `key` together, found one of them");
        }
    }
    policy::apply(&root, config);
}

pub(super) const LOG_FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::config::rules::{Spelled, all};
    use crate::config::yaml::Value;
    use crate::config::{effective, yaml};
    use crate::repair::Switch;

    /// Every section in reading order, with its path.
    fn sections() -> Vec<(&'static str, &'static [Key])> {
        let mut all =
            vec![("", ROOT), ("limits", LIMITS), ("listen_tls", LISTEN_TLS), ("upstream_tls", UPSTREAM_TLS)];
        all.extend(policy::SECTIONS);
        all
    }

    #[test]
    fn the_documentation_lists_every_key() {
        let mut text = "# Configuration\n\nWritten by a test from the tables in `src/config`; rewrite it with `UPDATE=1 cargo test --lib`.\n\n\
            `tfs-sidecar run --config FILE` reads one YAML document. Every key may be left out. Keys that are not listed here are errors, told with \
            line, column and the nearest known name, and all problems are told at once: `tfs-sidecar check --config FILE`. A flag is over its \
            environment variable, that over the file, that over the default; `tfs-sidecar check --print` shows what holds.\n\n\
            Switches are `on` and `off`, with or without quotes, or `true` and `false`. Sizes are `512MiB`, `1GB` or a number of bytes; times are `50ms`, `5s`, `1m 30s`.\n\n\
            ```yaml\n".to_owned();
        text.push_str(include_str!("example.yaml"));
        text.push_str("```\n");
        for (path, keys) in sections() {
            match path {
                "" => text.push_str("\n## The file\n\n"),
                _ => write!(text, "\n## `{path}`\n\n").unwrap(),
            }
            let policy = path.starts_with("models.") && keys.iter().any(|key| key.name == "mode");
            if policy {
                text.push_str("Every key of `defaults`, over what stands there or at the model, and:\n\n");
            }
            text.push_str("| key | takes | default | |\n| --- | --- | --- | --- |\n");
            for key in keys
                .iter()
                .filter(|key| !policy || !policy::DEFAULTS.iter().any(|known| known.name == key.name))
            {
                let default =
                    if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
                writeln!(text, "| `{}` | {} | {default} | {} |", key.name, key.takes, key.help).unwrap();
            }
        }
        text.push_str("\n## Names for `rules`\n\n| rule | tier | written as |\n| --- | --- | --- |\n");
        for rule in all() {
            let (tier, written) = match rule.spelled {
                Spelled::Known(Switch::Off) => ("1", format!("`rules: {{{}: off}}`", rule.name)),
                Spelled::Known(Switch::Policy) => ("1", format!("`{}: off`", rule.name)),
                Spelled::Known(Switch::On) => ("2", format!("`rules: {{{}: on}}`", rule.name)),
                Spelled::Known(Switch::Inputs) => ("2", format!("`rules: {{{}: [INPUT]}}`", rule.name)),
                Spelled::Known(Switch::Elsewhere(spelling)) => ("2", format!("`{spelling}` of a signature")),
                Spelled::Later => ("3", "not available yet".to_owned()),
            };
            writeln!(text, "| `{}` | {tier} | {written} |", rule.name).unwrap();
        }
        crate::generated::assert_file("docs/config.md", &text);
    }

    #[test]
    fn the_documented_defaults_are_the_real_ones() {
        let printed = yaml::parse(&effective(&Config::default()), &mut Vec::new()).unwrap();
        let entry = |node: &Node, name: &str| match &node.value {
            Value::Map(entries) => {
                entries.iter().find(|entry| entry.key == name).map(|entry| entry.node.clone())
            }
            _ => None,
        };
        for (path, keys) in sections() {
            let section = if path.is_empty() { Some(printed.clone()) } else { entry(&printed, path) };
            let Some(section) = section else { continue };
            for key in keys.iter().filter(|key| !key.default.is_empty() && key.name != "workers") {
                let node = entry(&section, key.name).unwrap_or_else(|| panic!("{path} {}", key.name));
                let Value::Scalar { text, .. } = node.value else { panic!("{path} {}", key.name) };
                let same =
                    text == key.default || size(key.default).is_ok_and(|size| size.to_string() == text);
                assert!(same, "{path} {}: documented {}, printed {text}", key.name, key.default);
            }
        }
    }
}

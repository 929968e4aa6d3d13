//! The effective configuration as YAML that loads back into the same [`Config`].
use std::collections::BTreeMap;

use serde::Serialize;

use super::{Config, UndeclaredModels};
use crate::repair::policy::{
    InputPolicy, Literal, MissingInputs, ModelPolicy, Policy, Rank1, ShortLists, Unrepairable,
};
use crate::repair::{REPAIRS, Repair, RuleSet, Switch};

/// Every setting with the value that holds, defaults included.
pub fn effective(config: &Config) -> String {
    serde_saphyr::to_string(&File::of(config)).expect("text, numbers and maps with text keys are always YAML")
}

#[derive(Serialize)]
struct File {
    upstream: String,
    listen: String,
    admin_listen: String,
    rest_listen: &'static str,
    workers: usize,
    upstream_connections: usize,
    upstream_concurrency: String,
    limits: Limits,
    undeclared_models: &'static str,
    allow_reload: &'static str,
    server_batching: &'static str,
    poll_interval: String,
    connect_timeout: String,
    drain_timeout: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    listen_tls: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    upstream_tls: BTreeMap<&'static str, String>,
    log_format: &'static str,
    log: String,
    defaults: PolicyKeys,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    models: BTreeMap<String, Model>,
}

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "they are the keys of the file")]
struct Limits {
    max_message_bytes: usize,
    max_inflight_bytes: u64,
    max_inflight_requests: usize,
    max_queued_requests: usize,
    max_elements: u64,
}

#[derive(Serialize)]
struct Model {
    #[serde(flatten)]
    policy: PolicyKeys,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    signatures: BTreeMap<String, PolicyKeys>,
}

#[derive(Serialize)]
struct PolicyKeys {
    mode: &'static str,
    unrepairable: &'static str,
    missing_inputs: &'static str,
    batch_first: &'static str,
    column_vector: &'static str,
    round_f64: &'static str,
    short_lists: &'static str,
    explain_upstream: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    rules: BTreeMap<String, Rule>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    aliases: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    inputs: BTreeMap<String, Input>,
    #[serde(skip_serializing_if = "Option::is_none")]
    batching: Option<BTreeMap<&'static str, u64>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Rule {
    Switch(&'static str),
    Inputs(Vec<String>),
}

#[derive(Serialize)]
struct Input {
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<Scalar>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scalar: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rank1_is: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pad: Option<Pad>,
}

#[derive(Serialize)]
struct Pad {
    value: Scalar,
    #[serde(skip_serializing_if = "Option::is_none")]
    mask: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Scalar {
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Always in quotes: without them `5` or `true` would come back as something else.
    Text(serde_saphyr::DoubleQuoted<String>),
}

impl File {
    fn of(config: &Config) -> Self {
        let limits = &config.limits;
        let mut listen_tls = BTreeMap::new();
        if let Some(tls) = &config.listen_tls {
            listen_tls.extend([("cert", shown(&tls.cert)), ("key", shown(&tls.key))]);
            listen_tls.extend(tls.client_ca.as_deref().map(|path| ("client_ca", shown(path))));
        }
        let from = &config.upstream_tls;
        let mut upstream_tls = BTreeMap::new();
        for (name, path) in [("ca", &from.ca), ("cert", &from.cert), ("key", &from.key)] {
            upstream_tls.extend(path.as_deref().map(|path| (name, shown(path))));
        }
        upstream_tls.extend(from.domain.clone().map(|domain| ("domain", domain)));
        Self {
            upstream: config.upstream.to_string(),
            listen: config.listen.to_string(),
            admin_listen: config.admin_listen.to_string(),
            rest_listen: "off",
            workers: config.workers,
            upstream_connections: config.upstream_connections,
            upstream_concurrency: config.upstream_concurrency.to_string(),
            limits: Limits {
                max_message_bytes: limits.max_message_bytes,
                max_inflight_bytes: limits.max_inflight_bytes,
                max_inflight_requests: limits.max_inflight_requests,
                max_queued_requests: limits.max_queued_requests,
                max_elements: limits.max_elements,
            },
            undeclared_models: match config.undeclared_models {
                UndeclaredModels::Allow => "allow",
                UndeclaredModels::Refuse => "refuse",
            },
            allow_reload: switch(config.allow_reload),
            server_batching: switch(config.server_batching),
            poll_interval: time(config.poll_interval),
            connect_timeout: time(config.connect_timeout),
            drain_timeout: time(config.drain_timeout),
            listen_tls,
            upstream_tls,
            log_format: config.log.as_str(),
            log: config.log_filter.clone(),
            defaults: PolicyKeys::of(&config.defaults.defaults, None),
            models: config
                .models
                .iter()
                .map(|(name, model)| (name.clone(), Model::of(model, &config.defaults.defaults)))
                .collect(),
        }
    }
}

impl Model {
    fn of(model: &ModelPolicy, defaults: &Policy) -> Self {
        let signatures = model.signatures.iter();
        Self {
            policy: PolicyKeys::of(&model.defaults, Some(defaults)),
            signatures: signatures
                .map(|(name, policy)| (name.clone(), PolicyKeys::of(policy, Some(&model.defaults))))
                .collect(),
        }
    }
}

impl PolicyKeys {
    /// `over` is the policy that this one was laid over: a rule that it switched and this one does
    /// not is written out as switched back.
    fn of(policy: &Policy, over: Option<&Policy>) -> Self {
        let mut rules = BTreeMap::new();
        if over.is_some_and(|over| !over.drop_extra.is_empty()) {
            rules.insert("drop_extra".to_owned(), Rule::Switch("off"));
        }
        let default = RuleSet::default();
        for rule in REPAIRS.iter().filter(|rule| matches!(rule.switch, Switch::Off | Switch::On)) {
            let on = policy.rules.contains(rule);
            let said = on != default.contains(rule)
                || over.is_some_and(|over| over.rules.contains(rule) != default.contains(rule));
            if said {
                rules.insert(rule.name.to_owned(), Rule::Switch(switch(on)));
            }
        }
        if !policy.drop_extra.is_empty() {
            rules.insert("drop_extra".to_owned(), Rule::Inputs(policy.drop_extra.iter().cloned().collect()));
        }
        Self {
            mode: policy.mode.as_str(),
            unrepairable: match policy.unrepairable {
                Unrepairable::Reject => "reject",
                Unrepairable::Forward => "forward",
            },
            missing_inputs: match policy.missing_inputs {
                MissingInputs::Forward => "forward",
                MissingInputs::Refuse => "refuse",
            },
            batch_first: switch(is_on(policy, "batch_first")),
            column_vector: switch(is_on(policy, "column_vector")),
            round_f64: if policy.round_f64 { "allow" } else { "refuse" },
            short_lists: match policy.short_lists {
                ShortLists::Refuse => "refuse",
                ShortLists::Allow => "allow",
            },
            explain_upstream: switch(policy.explain_upstream),
            rules,
            aliases: policy.aliases.clone(),
            inputs: policy.inputs.iter().map(|(name, input)| (name.clone(), Input::of(input))).collect(),
            batching: (policy.max_rows != 0).then(|| BTreeMap::from([("max_rows", policy.max_rows)])),
        }
    }
}

fn is_on(policy: &Policy, rule: &str) -> bool {
    Repair::find(rule).is_some_and(|rule| policy.rules.contains(rule))
}

impl Input {
    fn of(input: &InputPolicy) -> Self {
        Self {
            default: input.default.as_ref().map(Scalar::of),
            scalar: input.scalar.then_some("on"),
            rank1_is: input.rank1_is.map(|reading| match reading {
                Rank1::SingleRow => "single_row",
                Rank1::OnePerRow => "one_per_row",
            }),
            pad: input.pad.as_ref().map(|pad| Pad { value: Scalar::of(&pad.value), mask: pad.mask.clone() }),
        }
    }
}

impl Scalar {
    fn of(literal: &Literal) -> Self {
        match literal {
            Literal::Bool(value) => Self::Bool(*value),
            Literal::Int(value) => Self::Int(*value),
            Literal::Float(value) => Self::Float(*value),
            Literal::Text(text) => Self::Text(serde_saphyr::DoubleQuoted(text.clone())),
        }
    }
}

fn switch(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn shown(path: &std::path::Path) -> String {
    path.display().to_string()
}

fn time(time: std::time::Duration) -> String {
    humantime::format_duration(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::{File as Source, Settings, load};

    fn from(text: &str) -> Config {
        load(&Settings::default(), Some(Source { name: "c.yaml", text }))
            .unwrap_or_else(|problems| panic!("{problems}\n{text}"))
    }

    #[test]
    fn what_is_printed_loads_back() {
        let everything = "
upstream: https://tfs:8443
listen: unix:///run/grpc.sock
workers: 3
upstream_concurrency: 12
poll_interval: 1m 30s
drain_timeout: 0s
listen_tls: {cert: /a b, key: '/k: #', client_ca: /c}
upstream_tls: {ca: /ca, cert: /c, key: /k, domain: 'on'}
log: info,tfs_sidecar=debug
defaults: {rules: {infer_dim: off, batch_first: off}}
models:
  'on': {mode: 'off'}
  '5': {}
  m:
    rules: {flatten: on, drop_extra: [a], infer_dim: on}
    signatures:
      s:
        rules: {flatten: off, drop_extra: off, split_oversize: on}
        aliases: {'x:0': 'true'}
        inputs:
          a: {default: '5', scalar: true}
          b: {default: -.inf, rank1_is: one_per_row}
          c: {pad: {value: 'yes', mask: 'null'}}
          d: {pad: {value: false}}
          e: {default: 7}
        batching: {max_rows: 64}
";
        for config in [Config::default(), from(include_str!("example.yaml")), from(everything)] {
            assert_eq!(from(&effective(&config)), config);
        }
    }

    #[test]
    fn defaults_are_shown() {
        let config = Config { workers: 2, ..from("models: {churn: {mode: observe}}") };
        insta::assert_snapshot!(effective(&config), @r#"
        upstream: 127.0.0.1:8500
        listen: 0.0.0.0:8600
        admin_listen: 127.0.0.1:8602
        rest_listen: "off"
        workers: 2
        upstream_connections: 1
        upstream_concurrency: auto
        limits:
          max_message_bytes: 2147483647
          max_inflight_bytes: 536870912
          max_inflight_requests: 1024
          max_queued_requests: 1024
          max_elements: 268435456
        undeclared_models: allow
        allow_reload: "off"
        server_batching: "off"
        poll_interval: 1s
        connect_timeout: 5s
        drain_timeout: 30s
        log_format: text
        log: info
        defaults:
          mode: repair
          unrepairable: reject
          missing_inputs: forward
          batch_first: "on"
          column_vector: "on"
          round_f64: allow
          short_lists: refuse
          explain_upstream: "on"
        models:
          churn:
            mode: observe
            unrepairable: reject
            missing_inputs: forward
            batch_first: "on"
            column_vector: "on"
            round_f64: allow
            short_lists: refuse
            explain_upstream: "on"
        "#);
    }
}

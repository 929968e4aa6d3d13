//! From text to [`Config`]: flag > environment > file > default, with all problems at once.
use std::cell::RefCell;

use super::Config;
use super::cursor::Cursor;
use super::format::Format as _;
use super::keys::{CONFIG, POLICY, UPSTREAM_TLS};
use super::problem::{Place, Problem, Problems};
use super::table::{Keys, Table};
use super::together::check_together;
use super::yaml::{self, Node, Value};
use crate::repair::policy::Policy;

/// What the command line and the environment set.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Keys of the file, such as `listen` and `upstream_tls.ca`. They override the file.
    pub keys: Vec<(&'static str, Setting)>,
    /// Added to the models in the file.
    pub models: Vec<Setting>,
    /// The variable `MODEL_NAME` of TF Serving's image: used if neither the file nor `models` names
    /// a model.
    pub model_name: Option<Setting>,
    /// Keys that the file and `keys` override: from variables that are not the sidecar's own.
    pub fallbacks: Vec<(&'static str, Setting)>,
    /// Overrides every mode in the file.
    pub mode: Option<Setting>,
}

/// A value and where it was set: `--listen` or `TFS_SIDECAR_LISTEN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub value: String,
    pub source: String,
}

/// The text of the configuration file and its name for messages.
#[derive(Debug, Clone, Copy)]
pub struct File<'a> {
    pub name: &'a str,
    pub text: &'a str,
}

/// Reads the file, then applies the settings.
///
/// # Errors
/// All problems of the file, the flags and the environment together.
pub fn load(settings: &Settings, file: Option<File<'_>>) -> Result<Config, Problems> {
    let mut config = Config::default();
    let mut problems = Vec::new();
    for (key, setting) in &settings.fallbacks {
        set(&CONFIG, key, setting, &mut config, &mut problems);
    }
    if let Some(File { text, .. }) = file {
        match yaml::parse(text, &mut problems) {
            Ok(root) => {
                let found = RefCell::default();
                let root = Cursor { path: String::new(), node: &root, problems: &found };
                (&CONFIG).read(&root, &mut config);
                problems.append(&mut found.into_inner());
            }
            Err(problem) => problems.push(problem),
        }
    }
    apply(settings, &mut config, &mut problems);
    check_together(&config, &mut problems);
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(Problems::new(file.map(|file| file.name.to_owned()), problems))
    }
}

fn apply(settings: &Settings, config: &mut Config, problems: &mut Vec<Problem>) {
    for (key, setting) in &settings.keys {
        match key.strip_prefix("upstream_tls.") {
            Some(key) => set(&UPSTREAM_TLS, key, setting, &mut config.upstream_tls, problems),
            None => set(&CONFIG, key, setting, config, problems),
        }
    }
    let fallback =
        settings.model_name.as_ref().filter(|_| config.models.is_empty() && settings.models.is_empty());
    for Setting { value, source } in settings.models.iter().chain(fallback) {
        if value.is_empty() {
            problems.push(Problem::new(source, "a name must not be empty"));
        } else if !config.models.contains_key(value) {
            config.models.insert(value.clone(), config.defaults.clone());
        }
    }
    if let Some(mode) = &settings.mode {
        let mut policy = Policy::default();
        set(&POLICY, "mode", mode, &mut policy, problems);
        config.set_mode(None, policy.mode);
    }
}

/// Reads a flag or a variable as if its key had that value in the file.
fn set<T>(table: &Table<T>, key: &str, setting: &Setting, to: &mut T, problems: &mut Vec<Problem>) {
    let Setting { value, source } = setting;
    let value = Value::Scalar { text: value.clone(), plain: true };
    let (node, found) = (Node { place: Place { line: 1, column: 1 }, value }, RefCell::default());
    table.set(key, &Cursor { path: key.to_owned(), node: &node, problems: &found }, to);
    let found = found.into_inner().into_iter();
    problems.extend(found.map(|problem| Problem { key: source.clone(), place: None, ..problem }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LogFormat, effective};
    use crate::repair::Repair;
    use crate::repair::policy::{Literal, Mode, Policy};
    use crate::repair::rules::{ALIASES, DEFAULT, DROP_EXTRA, PAD, PAD_MASK, PAD_VALUE, RANK1_IS, SCALAR};

    fn from(text: &str) -> Result<Config, Problems> {
        load(&Settings::default(), Some(File { name: "c.yaml", text }))
    }

    fn is_on(policy: &Policy, rule: &str) -> bool {
        policy.rules.contains(Repair::find(rule).unwrap())
    }

    fn setting(source: &str, value: &str) -> Setting {
        Setting { value: value.to_owned(), source: source.to_owned() }
    }

    #[test]
    fn without_any_setting_the_defaults_hold() {
        assert_eq!(load(&Settings::default(), None).unwrap(), Config::default());
        assert_eq!(from("").unwrap(), Config::default());
        assert_eq!(from("limits:\nmodels:\ndefaults: {}\n").unwrap(), Config::default());
    }

    #[test]
    fn the_example_in_the_documentation_loads() {
        let config = from(include_str!("example.yaml")).unwrap();
        let churn = &config.models["churn"];
        let policy = churn.for_signature("serving_default");
        assert!(is_on(policy, "flatten") && policy.values.has_input(&DROP_EXTRA, "user_id"));
        assert_eq!(policy.values.renamed(&ALIASES, "input_3").unwrap(), "input_5");
        assert_eq!(policy.inputs["dropout_keep_prob"].literal(&DEFAULT), Some(&Literal::Float(1.0)));
        assert!(policy.inputs["dropout_keep_prob"].is_on(&SCALAR));
        let ids = &policy.inputs["ids"];
        assert_eq!(ids.text(&RANK1_IS), Some("single_row"));
        let pad = ids.section(&PAD).unwrap();
        assert_eq!(pad.literal(&PAD_VALUE), Some(&Literal::Int(0)));
        assert_eq!(pad.text(&PAD_MASK), Some("ids_mask"));
        assert_eq!(policy.batching.max_rows, 64);
        assert_eq!(config.limits.max_inflight_bytes, 512 << 20);
    }

    #[test]
    fn a_flag_overrides_the_file_and_the_file_overrides_the_default() {
        let text =
            "listen: 127.0.0.1:1\nadmin_listen: 127.0.0.1:2\nlog_format: json\nmodels: {a: {mode: strict}}\n";
        let settings = Settings {
            fallbacks: vec![
                ("admin_listen", setting("OTHERS", "127.0.0.1:9")),
                ("otlp_service_name", setting("OTEL_SERVICE_NAME", "scorer")),
                ("workers", setting("OTHERS", "9")),
            ],
            keys: vec![
                ("listen", setting("--listen", "127.0.0.1:3")),
                ("workers", setting("--workers", "3")),
            ],
            mode: Some(setting("TFS_SIDECAR_MODE", "observe")),
            models: vec![setting("--model", "b")],
            model_name: Some(setting("MODEL_NAME", "model")),
        };
        let config = load(&settings, Some(File { name: "c.yaml", text })).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:3");
        assert_eq!(config.admin_listen.to_string(), "127.0.0.1:2");
        assert_eq!(config.upstream.to_string(), "127.0.0.1:8500");
        assert_eq!(config.log_format, LogFormat::Json);
        assert_eq!(config.workers, 3);
        assert_eq!(config.otlp.service_name, "scorer");
        assert_eq!(config.models.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(
            config.policy("a").defaults.mode,
            Mode::Observe,
            "a mode on the command line overrides every mode in the file"
        );
        assert_eq!(config.policy("anything").defaults.mode, Mode::Observe);
    }

    #[test]
    fn model_name_is_used_if_nothing_else_names_a_model() {
        let settings = Settings { model_name: Some(setting("MODEL_NAME", "model")), ..Settings::default() };
        assert!(load(&settings, None).unwrap().is_declared("model"));
        let file = File { name: "c.yaml", text: "models: {churn: }" };
        let config = load(&settings, Some(file)).unwrap();
        assert!(config.is_declared("churn") && !config.is_declared("model"));
    }

    #[test]
    fn a_signature_overrides_its_model_and_a_model_overrides_the_defaults() {
        let config = from(
            "defaults: {mode: observe, round_f64: refuse, rules: {infer_dim: off}}
models:
  m:
    mode: repair
    rules: {flatten: on, drop_extra: [a], infer_dim: on}
    signatures:
      s: {mode: strict, rules: {flatten: 'off', unflatten: true, drop_extra: [b, c], batch_first: off}}
",
        )
        .unwrap();
        let model = config.policy("m");
        let (default, signature) = (model.for_signature("other"), model.for_signature("s"));
        assert_eq!((default.mode, signature.mode), (Mode::Repair, Mode::Strict));
        assert!(!default.round_f64 && !signature.round_f64);
        assert!(is_on(default, "flatten") && !is_on(signature, "flatten"));
        assert!(
            is_on(signature, "unflatten")
                && !is_on(signature, "batch_first")
                && is_on(default, "batch_first")
        );
        assert_eq!(signature.values.inputs(&DROP_EXTRA).collect::<Vec<_>>(), ["b", "c"]);
        assert!(is_on(default, "infer_dim"));
        assert!(!is_on(&config.policy("undeclared").defaults, "infer_dim"));
    }

    #[test]
    fn all_problems_are_reported_at_once_with_their_places() {
        let text = "lisen: 0.0.0.0:8600
upstream: 8500
workers: 0
limits: {max_message_bytes: 3GiB, max_inflight_bytes: lots}
poll_interval: 5
rest_listen: nowhere
defaults:
  mode: repiar
  rules: {flatten: on}
models:
  churn:
    rules: {flaten: on, transpose: on, aliases: {a: b}, drop_extra: on, zzzzzzzz: on}
    batch_first: maybe
    inputs: {x: {scalar: true}}
    signatures:
      s:
        rules: {split_oversize: on}
        inputs: {x: {pad: {mask: m}, rank1_is: column}}
        batching: {enabled: maybe, verify_sample: 2, allowed_batch_sizes: [1, x]}
  list: [1]
";
        let settings = Settings {
            mode: Some(setting("--mode", "stirct")),
            keys: vec![("listen", setting("TFS_SIDECAR_LISTEN", "here"))],
            ..Settings::default()
        };
        let problems = load(&settings, Some(File { name: "c.yaml", text })).unwrap_err();
        insta::assert_snapshot!(problems, @r"
        the configuration has 25 problems
          c.yaml:1:1: unknown key `lisen`
            hint: did you mean `listen`?
          c.yaml:2:11: `upstream`: expected `host:port`, `https://host:port` or `unix:///path`, got `8500`
          c.yaml:3:10: `workers`: expected a whole number from 1 to 1024, got `0`
          c.yaml:4:29: `limits.max_message_bytes`: expected at most 2147483647 bytes, got `3GiB`
          c.yaml:4:55: `limits.max_inflight_bytes`: expected a size such as `512MiB`, got `lots`
          c.yaml:5:16: `poll_interval`: expected a time with its unit such as `50ms` or `5s`, got `5`
          c.yaml:6:14: `rest_listen`: expected `ip:port` or `unix:///path`, got `nowhere`
          c.yaml:8:9: `defaults.mode`: expected `off`, `observe`, `repair` or `strict`, got `repiar`
            hint: did you mean `repair`?
          c.yaml:9:11: `defaults.rules.flatten`: not allowed in `defaults`: rules of tier 2 assume something about one model
            hint: write it as `models.MODEL.rules.flatten`
          c.yaml:12:13: `models.churn.rules`: unknown rule `flaten`
            hint: did you mean `flatten`?
          c.yaml:12:25: `models.churn.rules.transpose`: this rule takes a value, not a switch
            hint: in a signature, write `inputs: {NAME: {transform: [{transpose: [0, 2, 3, 1]}]}}`
          c.yaml:12:40: `models.churn.rules.aliases`: this rule takes a value, not a switch
            hint: in a signature, write `aliases: {SENT: DECLARED}`
          c.yaml:12:69: `models.churn.rules.drop_extra`: expected a list of inputs, got `on`
            hint: write `drop_extra: [INPUT]`
          c.yaml:12:73: `models.churn.rules`: unknown rule `zzzzzzzz`
            hint: known rules: `only_signature`, `rename_tensor_name`, `suffix_match`, `drop_extra`, `rename_single`, `list_of_one`, `names_at_top`, `string_numbers`, `infer_dim`, `move_values`, `string_content`, `cast_widen`, `cast_round`, `integral_floats`, `bool_numbers`, `round_ints`, `cast_checked`, `scalar_shape`, `add_batch_dim`, `batch_first`, `column_vector`, `drop_unit_dims`, `insert_unit_dims`, `singleton_move`, `flatten`, `unflatten`, `fan_out`, `pad_static_batch` and `split_oversize`
          c.yaml:13:18: `models.churn.batch_first`: expected `on` or `off`, got `maybe`
          c.yaml:14:5: `models.churn`: unknown key `inputs`
            hint: known keys: `mode`, `unrepairable`, `missing_inputs`, `row_agreement`, `batch_first`, `column_vector`, `round_f64`, `small_ints`, `short_lists`, `shield_ranks`, `profile_check`, `explain_upstream`, `probe`, `profile`, `rules` and `signatures`
          c.yaml:17:9: `models.churn.signatures.s.rules.split_oversize`: `batching.max_rows` is required to split requests
            hint: add `batching: {max_rows: 64}` to the signature
          c.yaml:18:27: `models.churn.signatures.s.inputs.x.pad`: `value` is required
          c.yaml:18:48: `models.churn.signatures.s.inputs.x.rank1_is`: expected `single_row` or `one_per_row`, got `column`
          c.yaml:19:29: `models.churn.signatures.s.batching.enabled`: expected `on` or `off`, got `maybe`
          c.yaml:19:51: `models.churn.signatures.s.batching.verify_sample`: expected a number from 0 to 1, got `2`
          c.yaml:19:79: `models.churn.signatures.s.batching.allowed_batch_sizes`: expected a whole number from 1 to 2147483648, got `x`
          c.yaml:20:9: `models.list`: expected `key: value` lines, got a list
          `TFS_SIDECAR_LISTEN`: expected `ip:port` or `unix:///path`, got `here`
          `--mode`: expected `off`, `observe`, `repair` or `strict`, got `stirct`
            hint: did you mean `strict`?
        ");
    }

    #[test]
    fn a_syntax_error_has_a_place() {
        let problems = from("listen: [1\nupstream: x\n").unwrap_err();
        assert!(problems.list[0].place.is_some(), "{problems}");
    }

    #[test]
    fn a_printed_configuration_loads_back() {
        let everything = "
upstream: https://tfs:8443
listen: unix:///run/grpc.sock
workers: 3
upstream_concurrency: 12
limits: {max_inflight_bytes: 5000, max_message_bytes: 3MiB, max_elements: 7, max_fill_bytes: 1KiB}
poll_interval: 1m 30s
drain_timeout: 0s
admin_token_file: /t
admin_hosts: [a.internal, '5']
drain_listen: 127.0.0.1:1
listen_socket_mode: 0660
admin_socket_mode: '0600'
listen_tls: {cert: /a b, key: '/k: #', client_ca: /c}
upstream_tls: {ca: /ca, cert: /c, key: /k, domain: 'on'}
log: info,tfs_sidecar=debug
otlp_endpoint: https://collector:4317
otlp_sample: 0.5
otlp_sample_mismatches: 0
otlp_service_name: scorer
otlp_resource: [a=b, 'c=d,e=f']
defaults: {short_lists: allow, shield_ranks: on, rules: {infer_dim: off, batch_first: off}}
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
          {a: {default: '5', scalar: true}, b: {default: -.inf, rank1_is: one_per_row}, e: {default: 7},
           c: {pad: {value: 'yes', mask: 'null'}}, d: {pad: {value: false}}}
        batching: {max_rows: 64}
";
        for config in
            [Config::default(), from(include_str!("example.yaml")).unwrap(), from(everything).unwrap()]
        {
            let printed = effective(&config);
            assert_eq!(from(&printed), Ok(config), "{printed}");
        }
    }

    #[test]
    fn the_printed_configuration_shows_defaults() {
        let config = Config { workers: 2, ..from("models: {churn: {mode: observe}}").unwrap() };
        let printed = effective(&config);
        let (defaults, models) = printed.split_once("models:\n").unwrap();
        assert!(models.starts_with("  churn:\n    mode: observe\n    unrepairable: reject\n"), "{models}");
        insta::assert_snapshot!(defaults, @r#"
        upstream: 127.0.0.1:8500
        listen: 0.0.0.0:8600
        admin_listen: 127.0.0.1:8602
        listen_socket_mode: "0600"
        admin_socket_mode: "0600"
        rest_listen: "off"
        rest_timeout: 30s
        rest_upstream: "off"
        workers: 2
        upstream_connections: 4
        upstream_concurrency: auto
        limits:
          max_message_bytes: 2147483647
          max_inflight_bytes: 512MiB
          max_inflight_requests: 1024
          max_queued_requests: 1024
          max_streams: 4096
          max_connections: 10000
          handshake_timeout: 10s
          body_idle_timeout: 30s
          min_body_rate: 1KiB
          body_timeout: 30m
          write_idle_timeout: 1m
          connection_idle_timeout: 0s
          max_connection_age: 0s
          max_connection_age_grace: 1m
          keepalive_interval: 2h
          keepalive_timeout: 20s
          max_fill_bytes: 256MiB
        retry_lost: "off"
        undeclared_models: allow
        allow_reload: "off"
        server_batching: "off"
        poll_interval: 1s
        connect_timeout: 5s
        drain_delay: 5s
        drain_timeout: 30s
        reload_interval: 1s
        client_identity:
        - tls_san
        - user_agent
        - peer
        max_clients: 128
        traffic_census: "on"
        log_format: text
        access_log: "off"
        log: info
        otlp_endpoint: "off"
        otlp_sample: 0.01
        otlp_sample_mismatches: 10
        otlp_service_name: tfs-sidecar
        defaults:
          mode: repair
          unrepairable: reject
          missing_inputs: forward
          row_agreement: forward
          batch_first: "on"
          column_vector: "on"
          round_f64: allow
          small_ints: warn
          short_lists: refuse
          shield_ranks: "off"
          profile_check: warn
          explain_upstream: "on"
          probe: "off"
        "#);
    }
}

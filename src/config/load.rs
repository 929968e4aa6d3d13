//! From text to [`Config`]: flag over environment over file over default, and all problems at once.
use std::cell::RefCell;
use std::fmt::Display;
use std::str::FromStr;

use super::problem::{Problem, Problems};
use super::section::{choose, number};
use super::{Config, ListenAddr, UpstreamAddr, file, policy, yaml};
use crate::repair::policy::ModelPolicy;

/// What the command line and the environment say; `None` where they say nothing.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub upstream: Option<Setting>,
    pub listen: Option<Setting>,
    pub rest_listen: Option<Setting>,
    pub admin_listen: Option<Setting>,
    /// Added to the models that the file names.
    pub models: Vec<Setting>,
    /// The variable `MODEL_NAME` of TF Serving's image: the model when neither the file nor
    /// `models` names one.
    pub model_name: Option<Setting>,
    /// Over every mode in the file.
    pub mode: Option<Setting>,
    pub workers: Option<Setting>,
    pub log_format: Option<Setting>,
    pub log: Option<Setting>,
}

/// A value and where it was given: `--listen` or `TFS_SIDECAR_LISTEN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub value: String,
    pub source: String,
}

/// The text of the configuration file and what messages call it.
#[derive(Debug, Clone, Copy)]
pub struct File<'a> {
    pub name: &'a str,
    pub text: &'a str,
}

/// Reads everything that was given.
///
/// # Errors
/// Every problem of the file, the flags and the environment together.
pub fn load(settings: &Settings, file: Option<File<'_>>) -> Result<Config, Problems> {
    let mut config = Config::default();
    let problems = RefCell::new(Vec::new());
    if let Some(File { text, .. }) = file {
        let mut found = Vec::new();
        match yaml::parse(text, &mut found) {
            Ok(root) => {
                problems.borrow_mut().append(&mut found);
                file::apply(&root, &mut config, &problems);
            }
            Err(problem) => {
                found.push(problem);
                problems.borrow_mut().append(&mut found);
            }
        }
    }
    let mut problems = problems.into_inner();
    apply(settings, &mut config, &mut problems);
    check_together(&config, &mut problems);
    finish(&mut config);
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(Problems::new(file.map(|file| file.name.to_owned()), problems))
    }
}

fn apply(settings: &Settings, config: &mut Config, problems: &mut Vec<Problem>) {
    parsed(settings.upstream.as_ref(), &mut config.upstream, problems);
    parsed(settings.listen.as_ref(), &mut config.listen, problems);
    parsed(settings.admin_listen.as_ref(), &mut config.admin_listen, problems);
    if let Some(Setting { value, source }) = &settings.rest_listen
        && value != "off"
    {
        let text = format!("expected `off`, found `{value}`: the REST API comes with a later release");
        problems.push(Problem::new(source, text));
    }
    if let Some(Setting { value, source }) = &settings.workers {
        match number(value, 1, 1024) {
            Ok(workers) => config.workers = workers,
            Err(text) => problems.push(Problem::new(source, text)),
        }
    }
    chosen(settings.log_format.as_ref(), file::LOG_FORMATS, &mut config.log, problems);
    if let Some(log) = &settings.log {
        config.log_filter.clone_from(&log.value);
    }
    let fallback =
        settings.model_name.as_ref().filter(|_| config.models.is_empty() && settings.models.is_empty());
    for Setting { value, source } in settings.models.iter().chain(fallback) {
        if value.is_empty() {
            problems.push(Problem::new(source, "expected the name of a model, found an empty one"));
        } else if !config.models.contains_key(value) {
            config.models.insert(value.clone(), config.defaults.clone());
        }
    }
    if settings.mode.is_some() {
        let mut mode = config.defaults.defaults.mode;
        chosen(settings.mode.as_ref(), policy::MODES, &mut mode, problems);
        each_policy(config, |policy| policy.mode = mode);
    }
}

fn parsed<T: FromStr<Err: Display>>(setting: Option<&Setting>, to: &mut T, problems: &mut Vec<Problem>) {
    let Some(Setting { value, source }) = setting else { return };
    match value.parse() {
        Ok(value) => *to = value,
        Err(error) => problems.push(Problem::new(source, <T::Err as ToString>::to_string(&error))),
    }
}

fn chosen<T: Copy>(
    setting: Option<&Setting>,
    choices: &[(&'static str, T)],
    to: &mut T,
    problems: &mut Vec<Problem>,
) {
    let Some(Setting { value, source }) = setting else { return };
    match choose(value, choices) {
        Ok(value) => *to = value,
        Err(problem) => problems.push(Problem { key: source.clone(), ..problem }),
    }
}

/// What is right alone and wrong together.
fn check_together(config: &Config, problems: &mut Vec<Problem>) {
    let listens = match (&config.listen, &config.admin_listen) {
        (ListenAddr::Tcp(grpc), ListenAddr::Tcp(admin)) => {
            let overlap =
                grpc.ip() == admin.ip() || grpc.ip().is_unspecified() || admin.ip().is_unspecified();
            grpc.port() != 0 && grpc.port() == admin.port() && overlap
        }
        (grpc, admin) => grpc == admin,
    };
    if listens {
        let text = format!("expected another address than `listen` has, found `{}`", config.admin_listen);
        problems.push(Problem::new("admin_listen", text));
    }
    let itself = match (&config.listen, &config.upstream) {
        (ListenAddr::Unix(listen), UpstreamAddr::Unix(upstream)) => listen == upstream,
        (ListenAddr::Tcp(listen), UpstreamAddr::Tcp { host, port }) => {
            let local = host == "localhost"
                || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback() || ip == listen.ip());
            listen.port() == *port
                && local
                && (listen.ip().is_unspecified()
                    || listen.ip().is_loopback()
                    || listen.ip().to_string() == *host)
        }
        _ => false,
    };
    if itself {
        let problem = Problem::new(
            "upstream",
            format!(
                "expected TF Serving's address, found `{}`, where the sidecar itself listens",
                config.upstream
            ),
        );
        problems.push(problem.hint("give TF Serving another port (`--port`), or the sidecar (`listen`)"));
    }
    let tls = &config.upstream_tls;
    if !matches!(config.upstream, UpstreamAddr::Tls { .. })
        && (tls.ca.is_some() || tls.cert.is_some() || tls.domain.is_some())
    {
        let problem = Problem::new(
            "upstream_tls",
            format!("expected an `https://` upstream, found `{}`", config.upstream),
        );
        problems.push(problem.hint("write the upstream as `https://host:port`, or leave `upstream_tls` out"));
    }
    if matches!(config.upstream, UpstreamAddr::Tls { .. }) && tls.ca.is_none() {
        let problem = Problem::new(
            "upstream_tls.ca",
            "expected the authorities that an `https://` upstream is trusted by, found none",
        );
        problems
            .push(problem.hint("name a PEM file, such as the system's `/etc/ssl/certs/ca-certificates.crt`"));
    }
    if cfg!(not(feature = "tls"))
        && (config.listen_tls.is_some() || matches!(config.upstream, UpstreamAddr::Tls { .. }))
    {
        problems.push(Problem::new("listen_tls", "expected no TLS: this program was built without it"));
    }
}

/// Settings of the whole program that every policy carries.
fn finish(config: &mut Config) {
    let (max_elements, refuse_zero_rows) = (config.limits.max_elements, config.server_batching);
    each_policy(config, |policy| {
        policy.max_elements = max_elements;
        policy.refuse_zero_rows = refuse_zero_rows;
    });
}

fn each_policy(config: &mut Config, mut change: impl FnMut(&mut crate::repair::policy::Policy)) {
    let mut each = |model: &mut ModelPolicy| {
        change(&mut model.defaults);
        model.signatures.values_mut().for_each(&mut change);
    };
    each(&mut config.defaults);
    config.models.values_mut().for_each(each);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogFormat;
    use crate::repair::Repair;
    use crate::repair::policy::{Literal, Mode, Pad, Policy, Rank1};

    fn from(text: &str) -> Result<Config, Problems> {
        load(&Settings::default(), Some(File { name: "c.yaml", text }))
    }

    fn is_on(policy: &Policy, rule: &str) -> bool {
        policy.rules.contains(Repair::find(rule).unwrap())
    }

    fn flag(source: &str, value: &str) -> Setting {
        Setting { value: value.to_owned(), source: source.to_owned() }
    }

    #[test]
    fn nothing_given_is_the_defaults() {
        assert_eq!(load(&Settings::default(), None).unwrap(), Config::default());
        assert_eq!(from("").unwrap(), Config::default());
        assert_eq!(from("limits:\nmodels:\ndefaults: {}\n").unwrap(), Config::default());
    }

    #[test]
    fn the_example_of_the_documentation_loads() {
        let config = from(include_str!("example.yaml")).unwrap();
        let churn = &config.models["churn"];
        let policy = churn.for_signature("serving_default");
        assert!(is_on(policy, "flatten") && policy.drop_extra.contains("user_id"));
        assert_eq!(policy.aliases["input_3"], "input_5");
        assert_eq!(policy.inputs["dropout_keep_prob"].default, Some(Literal::Float(1.0)));
        assert!(policy.inputs["dropout_keep_prob"].scalar);
        let ids = &policy.inputs["ids"];
        assert_eq!(ids.rank1_is, Some(Rank1::SingleRow));
        assert_eq!(ids.pad, Some(Pad { value: Literal::Int(0), mask: Some("ids_mask".to_owned()) }));
        assert_eq!(policy.max_rows, 64);
        assert_eq!(config.limits.max_inflight_bytes, 512 << 20);
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let text =
            "listen: 127.0.0.1:1\nadmin_listen: 127.0.0.1:2\nlog_format: json\nmodels: {a: {mode: strict}}\n";
        let settings = Settings {
            listen: Some(flag("--listen", "127.0.0.1:3")),
            mode: Some(flag("TFS_SIDECAR_MODE", "observe")),
            models: vec![flag("--model", "b")],
            model_name: Some(flag("MODEL_NAME", "model")),
            workers: Some(flag("--workers", "3")),
            ..Settings::default()
        };
        let config = load(&settings, Some(File { name: "c.yaml", text })).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:3");
        assert_eq!(config.admin_listen.to_string(), "127.0.0.1:2");
        assert_eq!(config.upstream.to_string(), "127.0.0.1:8500");
        assert_eq!(config.log, LogFormat::Json);
        assert_eq!(config.workers, 3);
        assert_eq!(config.models.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(
            config.policy("a").defaults.mode,
            Mode::Observe,
            "a mode on the command line is over every mode of the file"
        );
        assert_eq!(config.policy("anything").defaults.mode, Mode::Observe);
    }

    #[test]
    fn model_name_is_the_model_when_nothing_else_names_one() {
        let settings = Settings { model_name: Some(flag("MODEL_NAME", "model")), ..Settings::default() };
        assert!(load(&settings, None).unwrap().is_declared("model"));
        let file = File { name: "c.yaml", text: "models: {churn: }" };
        let config = load(&settings, Some(file)).unwrap();
        assert!(config.is_declared("churn") && !config.is_declared("model"));
    }

    #[test]
    fn a_signature_is_over_its_model_and_a_model_over_the_defaults() {
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
        assert_eq!(signature.drop_extra.iter().collect::<Vec<_>>(), ["b", "c"]);
        assert!(is_on(default, "infer_dim"));
        assert!(!is_on(&config.policy("undeclared").defaults, "infer_dim"));
    }

    #[test]
    fn every_policy_carries_the_settings_of_the_program() {
        let config =
            from("server_batching: on\nlimits: {max_elements: 7}\nmodels: {m: {signatures: {s: }}}\n")
                .unwrap();
        for policy in
            [&config.defaults.defaults, &config.models["m"].defaults, &config.models["m"].signatures["s"]]
        {
            assert!(policy.refuse_zero_rows);
            assert_eq!(policy.max_elements, 7);
        }
    }

    #[test]
    fn all_problems_are_told_at_once_with_their_places() {
        let text = "lisen: 0.0.0.0:8600
upstream: 8500
workers: 0
limits: {max_message_bytes: 3GiB, max_inflight_bytes: lots}
poll_interval: 5
rest_listen: 0.0.0.0:8601
defaults:
  mode: repiar
  rules: {flatten: on}
models:
  churn:
    rules: {flaten: on, transpose_layout: on, aliases: {a: b}, drop_extra: on, zzzzzzzz: on}
    batch_first: maybe
    inputs: {x: {scalar: true}}
    signatures:
      s:
        rules: {split_oversize: on}
        inputs: {x: {pad: {mask: m}, rank1_is: column}}
        batching: {enabled: true, verify_sample: 2}
  list: [1]
";
        let settings = Settings {
            mode: Some(flag("--mode", "stirct")),
            listen: Some(flag("TFS_SIDECAR_LISTEN", "here")),
            ..Settings::default()
        };
        let problems = load(&settings, Some(File { name: "c.yaml", text })).unwrap_err();
        insta::assert_snapshot!(problems, @r"
        the configuration has 24 problems
          c.yaml:1:1: `lisen`: expected a known key, found an unknown one
            hint: did you mean `listen`?
          c.yaml:2:11: `upstream`: expected `host:port`, `https://host:port` or `unix:///path`, found `8500`
          c.yaml:3:10: `workers`: expected a whole number from 1 to 1024, found `0`
          c.yaml:4:29: `limits.max_message_bytes`: expected at most 2147483647 bytes, found `3GiB`
          c.yaml:4:55: `limits.max_inflight_bytes`: expected a size such as `512MiB`, found `lots`
          c.yaml:5:16: `poll_interval`: expected a time with its unit such as `50ms` or `5s`, found `5`
          c.yaml:6:14: `rest_listen`: expected `off`: the REST API comes with a later release
          c.yaml:8:9: `defaults.mode`: expected `off`, `observe`, `repair` or `strict`, found `repiar`
            hint: did you mean `repair`?
          c.yaml:9:11: `defaults.rules.flatten`: expected a rule of tier 1: one of tier 2 assumes something about its model
            hint: say it under `models.MODEL.rules.flatten`
          c.yaml:12:13: `models.churn.rules.flaten`: expected a known rule, found an unknown one
            hint: did you mean `flatten`?
          c.yaml:12:25: `models.churn.rules.transpose_layout`: expected a rule that there is already: this one is not available yet
          c.yaml:12:47: `models.churn.rules.aliases`: expected a rule without a value here
            hint: in a signature, write `aliases: {SENT: DECLARED}`
          c.yaml:12:76: `models.churn.rules.drop_extra`: expected a list of inputs, found `on`
            hint: name what may be dropped: `drop_extra: [user_id]`
          c.yaml:12:80: `models.churn.rules.zzzzzzzz`: expected a known rule, found an unknown one
            hint: known rules are `only_signature`, `rename_tensor_name`, `suffix_match`, `drop_extra`, `rename_single`, `infer_dim`, `move_values`, `string_content`, `cast_widen`, `cast_round`, `integral_floats`, `bool_numbers`, `round_ints`, `cast_checked`, `scalar_shape`, `add_batch_dim`, `batch_first`, `column_vector`, `drop_unit_dims`, `insert_unit_dims`, `singleton_move`, `flatten`, `unflatten`, `fan_out`, `pad_static_batch` and `split_oversize`
          c.yaml:13:18: `models.churn.batch_first`: expected `on` or `off`, found `maybe`
          c.yaml:14:5: `models.churn.inputs`: expected a known key, found an unknown one
            hint: this section takes `mode`, `unrepairable`, `missing_inputs`, `batch_first`, `column_vector`, `round_f64`, `short_lists`, `explain_upstream`, `rules` and `signatures`
          c.yaml:17:9: `models.churn.signatures.s.rules.split_oversize`: expected `batching.max_rows` to split at, found none
            hint: write `batching: {max_rows: 64}` beside it
          c.yaml:18:27: `models.churn.signatures.s.inputs.x.pad`: expected a `value` to fill up with, found none
          c.yaml:18:48: `models.churn.signatures.s.inputs.x.rank1_is`: expected `single_row` or `one_per_row`, found `column`
          c.yaml:19:29: `models.churn.signatures.s.batching.enabled`: expected `off`: batching comes with a later release
            hint: TF Serving can batch by itself: `--enable_batching`, and then `server_batching: on` here
          c.yaml:19:50: `models.churn.signatures.s.batching.verify_sample`: expected a number from 0 to 1, found `2`
          c.yaml:20:9: `models.list`: expected `key: value` lines, found a list
          `TFS_SIDECAR_LISTEN`: expected `ip:port` or `unix:///path`, found `here`
          `--mode`: expected `off`, `observe`, `repair` or `strict`, found `stirct`
            hint: did you mean `strict`?
        ");
    }

    #[test]
    fn addresses_that_clash_are_a_problem() {
        let clash = |text: &str| from(text).unwrap_err().to_string();
        assert!(clash("listen: 0.0.0.0:8602").contains("`admin_listen`: expected another address"));
        assert!(clash("upstream: localhost:8600").contains("where the sidecar itself listens"));
        assert!(clash("upstream: https://tfs").contains("`upstream_tls.ca`: expected the authorities"));
        assert!(
            clash("upstream_tls: {ca: /ca.pem}").contains("hint: write the upstream as `https://host:port`")
        );
        assert!(
            clash("listen_tls: {cert: /c.pem}")
                .contains("c.yaml:1:13: `listen_tls`: expected `cert` and `key`")
        );
        assert!(from("listen: 127.0.0.1:0\nadmin_listen: 127.0.0.1:0\n").is_ok());
        assert!(from("upstream: tfs:8600").is_ok());
    }

    #[test]
    fn what_is_not_yaml_is_told_with_its_place() {
        let problems = from("listen: [1\nupstream: x\n").unwrap_err();
        assert!(problems.list[0].place.is_some(), "{problems}");
    }
}

//! The modes `off`, `observe`, `repair` and `strict`, how a request changes its own, and dry runs.
use std::collections::BTreeMap;

use prost::bytes::Bytes;
use tfs_sidecar::proto::tensorflow::TensorProto;
use tfs_sidecar::repair::policy::{Mode, Unrepairable};
use tfs_sidecar::repair::{REPAIRS, Reason};

use crate::support::admin::Metrics;
use crate::support::client::Request;
use crate::support::dense::{self, CASE, INPUT};
use crate::support::requests::{PREDICT, Predict, doubles, float_list, floats, outputs};
use crate::support::sidecar::{Setup, policy};

const MODE: &str = "tfs-sidecar-mode";
const DRY_RUN: &str = "tfs-sidecar-dry-run";

fn mlp(tensor: TensorProto) -> Bytes {
    Predict::new(dense::MODEL).input(INPUT, tensor).bytes()
}

#[tokio::test]
async fn modes_off_and_observe_change_nothing() {
    for mode in [Mode::Off, Mode::Observe] {
        let name = format!("modes_{mode}");
        let setup =
            Setup::with([dense::model_named(&name)], |config| policy(config, |policy| policy.mode = mode))
                .await;
        let flat = Predict::new(&name).input(INPUT, floats(&[128], &CASE.input_tensor)).bytes();
        let unrepairable = Predict::new(&name).input(INPUT, floats(&[1, 127], &[0.5; 127])).bytes();
        for message in [&flat, &unrepairable] {
            let reply = setup.client.predict(message).await;
            assert_eq!(reply.code, 3);
            assert!(reply.text.contains("[128,64]"), "TensorFlow's own text: {}", reply.text);
            assert_eq!(setup.fake.calls_of(PREDICT).pop().unwrap().message, message);
        }
        let metrics = setup.sidecar.metrics().await;
        let observed = if mode == Mode::Observe { 1.0 } else { 0.0 };
        let model = ("model", name.as_str());
        assert_eq!(
            metrics.sum("tfs_sidecar_would_repair_total", &[model, ("rule", "add_batch_dim")]),
            observed
        );
        assert_eq!(
            metrics.sum("tfs_sidecar_would_reject_total", &[model, ("reason", "DIM_MISMATCH")]),
            observed
        );
        assert_eq!(metrics.sum("tfs_sidecar_repairs_total", &[model]), 0.0);
        assert_eq!(metrics.sum("tfs_sidecar_rejections_total", &[model]), 0.0);
        if mode == Mode::Observe {
            for outcome in ["would_repair", "would_reject"] {
                assert_eq!(metrics.sum("tfs_sidecar_requests_total", &[model, ("outcome", outcome)]), 1.0);
            }
        }
        setup.sidecar.stop().await;
    }
}

/// Requests of every kind: conforming, repaired, rejected in each stage, not a request at all.
fn all_kinds(model: &str) -> Vec<Vec<u8>> {
    let row = &CASE.input_tensor;
    let of = |input: &str, tensor: TensorProto| Predict::new(model).input(input, tensor).bytes().to_vec();
    let conforming = of(INPUT, floats(&[1, 128], row));
    let unknown_signature = Predict::new(model).signature("other").input(INPUT, floats(&[1, 128], row));
    vec![
        // The spec can be read, what follows cannot.
        [&conforming[..], &[0x12, 0x7f]].concat(),
        conforming,
        of(INPUT, floats(&[128], row)),
        of(INPUT, doubles(&[128], row)),
        of("inputs", floats(&[1, 128], row)),
        of(INPUT, floats(&[1, 127], &[0.5; 127])),
        of(INPUT, float_list(&[1, 128], &[0.5; 2])),
        of(INPUT, float_list(&[1, 128], &[0.5; 129])),
        of(INPUT, TensorProto { int_val: vec![1; 128], ..float_list(&[1, 128], &[]) }),
        unknown_signature.bytes().to_vec(),
    ]
}

/// How often each rule, reason and outcome was counted for a model; those of mode repair under the
/// same names as those that would have been.
fn counted(metrics: &Metrics, model: &str, repairs: &str, rejections: &str) -> BTreeMap<String, f64> {
    let mut counts = BTreeMap::new();
    let mut add = |name: &str, metric: &str, label: (&str, &str)| {
        let count = metrics.sum(&format!("tfs_sidecar_{metric}"), &[("model", model), label]);
        *counts.entry(name.to_owned()).or_default() += count;
    };
    for rule in REPAIRS {
        add(rule.name, repairs, ("rule", rule.name));
    }
    for reason in Reason::ALL {
        add(reason.as_str(), rejections, ("reason", reason.as_str()));
    }
    let outcomes = [
        ("repaired", "repaired"),
        ("rejected", "rejected"),
        ("would_repair", "repaired"),
        ("would_reject", "rejected"),
        ("conforming", "conforming"),
        ("passed", "passed"),
        ("failed", "failed"),
    ];
    for (outcome, name) in outcomes {
        add(name, "requests_total", ("outcome", outcome));
    }
    counts.retain(|_, count| *count > 0.0);
    counts
}

#[tokio::test]
async fn mode_observe_and_dry_runs_count_what_mode_repair_does() {
    let names = ["counted_repair", "counted_observe", "counted_dry"];
    let [repair, observe, dry] = names;
    let setup = Setup::with(names.map(dense::model_named), |config| {
        config.models.get_mut(observe).unwrap().defaults.mode = Mode::Observe;
    })
    .await;
    for name in names {
        for message in all_kinds(name) {
            let mut request = Request::predict(&message);
            if name == dry {
                request = request.metadata(DRY_RUN, "1");
            }
            setup.client.call(request).await;
        }
    }
    let metrics = setup.sidecar.metrics().await;
    let expected = counted(&metrics, repair, "repairs_total", "rejections_total");
    for name in
        ["add_batch_dim", "cast_round", "rename_single", "move_values", "MALFORMED", "SIGNATURE_UNKNOWN"]
    {
        assert!(expected.contains_key(name), "{name} in {expected:?}");
    }
    assert_eq!(expected["VALUE_COUNT"], 2.0, "too few values and too many");
    for name in [observe, dry] {
        assert_eq!(counted(&metrics, name, "would_repair_total", "would_reject_total"), expected, "{name}");
        let done = counted(&metrics, name, "repairs_total", "rejections_total");
        assert!(!done.contains_key("add_batch_dim") && !done.contains_key("VALUE_COUNT"), "{done:?}");
        for outcome in ["repaired", "rejected"] {
            let labels = [("model", name), ("outcome", outcome)];
            assert_eq!(metrics.sum("tfs_sidecar_requests_total", &labels), 0.0, "{name}: {outcome}");
        }
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn mode_observe_forwards_a_short_list_and_counts_its_refusal() {
    let setup = Setup::with([dense::model_named("modes_short_list")], |config| {
        policy(config, |policy| policy.mode = Mode::Observe);
    })
    .await;
    let short = float_list(&[1, 128], &[0.5; 3]);
    let message = Predict::new("modes_short_list").input(INPUT, short).bytes();
    setup.client.predict(&message).await.ok();
    assert_eq!(setup.fake.only(PREDICT).message, message);
    let metrics = setup.sidecar.metrics().await;
    let labels = [("model", "modes_short_list"), ("reason", "VALUE_COUNT")];
    assert_eq!(metrics.sum("tfs_sidecar_would_reject_total", &labels), 1.0);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn shield_ranks_refuses_in_mode_observe() {
    let setup = Setup::with([dense::model()], |config| {
        policy(config, |policy| (policy.mode, policy.shield_ranks) = (Mode::Observe, true));
    })
    .await;
    let reply = setup.client.predict(&mlp(floats(&[128], &CASE.input_tensor))).await;
    assert_eq!((reply.code, reply.reason().as_str()), (3, "RANK_TOO_LOW"), "{}", reply.text);
    assert_eq!(setup.fake.count(PREDICT), 0);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn mode_strict_refuses_what_mode_repair_repairs() {
    let setup =
        Setup::with([dense::model()], |config| policy(config, |policy| policy.mode = Mode::Strict)).await;
    let reply = setup.client.predict(&mlp(doubles(&[1, 128], &CASE.input_tensor))).await;
    assert_eq!((reply.code, reply.reason().as_str()), (3, "DTYPE_MISMATCH"));
    let reply = setup.client.predict(&mlp(floats(&[128], &CASE.input_tensor))).await;
    assert_eq!((reply.code, reply.reason().as_str()), (3, "RANK_TOO_LOW"));
    assert_eq!(setup.fake.count(PREDICT), 0);
    setup.client.predict(&mlp(floats(&[1, 128], &CASE.input_tensor))).await.ok();
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn unrepairable_requests_are_forwarded_if_configured() {
    let setup = Setup::with([dense::model()], |config| {
        policy(config, |policy| policy.unrepairable = Unrepairable::Forward);
    })
    .await;
    let message = mlp(floats(&[1, 127], &[0.5; 127]));
    let reply = setup.client.predict(&message).await;
    assert_eq!(reply.code, 3);
    assert!(reply.text.starts_with("Matrix size-incompatible: In[0]: [1,127]"), "{}", reply.text);
    assert_eq!(setup.fake.only(PREDICT).message, message);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_request_can_make_its_check_stricter_but_not_weaker() {
    let setup = Setup::new([dense::model()]).await;
    let flat = mlp(floats(&[128], &CASE.input_tensor));
    let reply = setup.client.call(Request::predict(&flat).metadata(MODE, "strict")).await;
    assert_eq!((reply.code, reply.reason().as_str()), (3, "RANK_TOO_LOW"));
    let reply = setup.client.call(Request::predict(&flat).metadata(MODE, "nonsense")).await;
    assert_eq!((reply.code, reply.reason().as_str()), (3, "MALFORMED"));
    for lower in ["off", "observe"] {
        let reply = setup.client.call(Request::predict(&flat).metadata(MODE, lower)).await.ok();
        assert_eq!(reply.repairs().len(), 1, "{lower}");
    }
    setup.sidecar.stop().await;

    let setup =
        Setup::with([dense::model()], |config| policy(config, |policy| policy.mode = Mode::Observe)).await;
    let reply = setup.client.call(Request::predict(&flat).metadata(MODE, "repair")).await.ok();
    dense::assert_case(&outputs(&reply.message)[dense::OUTPUT].float_val);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_dry_run_reports_repairs_and_refusals_without_running_the_model() {
    let setup = Setup::new([dense::model()]).await;
    let flat = mlp(doubles(&[128], &CASE.input_tensor));
    let reply = setup.client.call(Request::predict(&flat).metadata(DRY_RUN, "1")).await.ok();
    assert!(outputs(&reply.message).is_empty());
    assert_eq!(reply.messages.len(), 1);
    assert_eq!(reply.initial(DRY_RUN), ["1"]);
    assert_eq!(reply.repairs().len(), 2);
    let unrepairable = mlp(floats(&[1, 127], &[0.5; 127]));
    let reply = setup.client.call(Request::predict(&unrepairable).metadata(DRY_RUN, "1")).await;
    assert_eq!((reply.code, reply.reason().as_str()), (3, "DIM_MISMATCH"));
    assert!([reply.initial(DRY_RUN), reply.trailer(DRY_RUN)].concat().contains(&"1".to_owned()));
    assert_eq!(setup.fake.count(PREDICT), 0);
    setup.sidecar.stop().await;
}

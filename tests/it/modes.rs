//! The modes `off`, `observe`, `repair` and `strict`, how a request changes its own, and dry runs.
use prost::bytes::Bytes;
use tfs_sidecar::proto::tensorflow::TensorProto;
use tfs_sidecar::repair::policy::{Mode, Unrepairable};

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
            assert_eq!(metrics.sum("tfs_sidecar_requests_total", &[model, ("outcome", "passed")]), 2.0);
        }
        setup.sidecar.stop().await;
    }
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

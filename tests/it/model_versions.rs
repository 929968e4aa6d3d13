//! Model versions that change while the sidecar runs: signatures and labels follow them, with few
//! metadata requests.
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tfs_sidecar::proto::tensorflow::serving::GetModelMetadataRequest;
use tokio::task::JoinSet;

use crate::support::client::Request;
use crate::support::fake_tfs::{
    Call, End, FakeTfs,
    model::{Model, Sig},
};
use crate::support::requests::{DOUBLE, FLOAT, METADATA, PREDICT, Predict, STATUS, floats, outputs};
use crate::support::sidecar::{Setup, TestSidecar, config};
use crate::support::within;

fn wide(width: i64) -> Sig {
    typed(FLOAT, width)
}

fn typed(dtype: i32, width: i64) -> Sig {
    Sig::new("serving_default").input("x", dtype, &[-1, width]).output("y", dtype, &[-1, width])
}

fn vector(model: &str, width: usize) -> Predict {
    Predict::new(model).input("x", floats(&[width as i64], &vec![0.25; width]))
}

fn metadata_requests(calls: &[Call], model: &str) -> usize {
    let names = calls.iter().filter(|call| call.path == METADATA).map(|call| {
        let request = GetModelMetadataRequest::decode(&call.message[..]).unwrap();
        request.model_spec.unwrap().name
    });
    names.filter(|name| name == model).count()
}

/// Changes a model and waits until the sidecar has refreshed its catalog.
async fn change(fake: &FakeTfs, model: Model) {
    let metadata = fake.count(METADATA);
    fake.serve(model);
    fake.called(METADATA, metadata + 1).await;
    // The first of these polls may have started before the change; the second starts after the
    // refresh.
    let polls = fake.count(STATUS);
    fake.called(STATUS, polls + 2).await;
}

#[tokio::test]
async fn a_new_version_with_another_signature_is_used() {
    let model = || Model::new("versions_new").version(1, [wide(4)]);
    let setup = Setup::new([model()]).await;
    let reply = setup.client.predict(&vector("versions_new", 4).bytes()).await.ok();
    assert_eq!(reply.repairs(), ["x;add_batch_dim;[4]->[1,4]"]);
    assert_eq!(setup.client.predict(&vector("versions_new", 8).bytes()).await.code, 3);
    // The first change must be an increase.
    let text = setup.sidecar.metrics().await.text().to_owned();
    let unchanged = "tfs_sidecar_signature_changes_total{model=\"versions_new\"} 0\n";
    assert!(text.contains(unchanged), "{text}");

    change(&setup.fake, model().version(2, [wide(8)])).await;
    let reply = setup.client.predict(&vector("versions_new", 8).bytes()).await.ok();
    assert_eq!(reply.repairs(), ["x;add_batch_dim;[8]->[1,8]"]);
    assert_eq!(setup.client.predict(&vector("versions_new", 4).bytes()).await.code, 3);
    // A request that names a version is judged by the signatures of that version.
    let old = vector("versions_new", 4).version(1);
    assert_eq!(setup.client.predict(&old.bytes()).await.ok().repairs(), ["x;add_batch_dim;[4]->[1,4]"]);
    let metrics = setup.sidecar.metrics().await;
    assert_eq!(metrics.sum("tfs_sidecar_signature_changes_total", &[("model", "versions_new")]), 1.0);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_label_selects_the_signature_of_its_version() {
    let model = Model::new("labels")
        .version(1, [wide(4)])
        .version(2, [wide(8)])
        .label("stable", 1)
        .label("canary", 2);
    let setup = Setup::new([model]).await;
    for (label, width) in [("stable", 4), ("canary", 8)] {
        let reply = setup.client.predict(&vector("labels", width).label(label).bytes()).await.ok();
        assert_eq!(reply.repairs(), [format!("x;add_batch_dim;[{width}]->[1,{width}]")], "{label}");
        let wrong = setup.client.predict(&vector("labels", 12 - width).label(label).bytes()).await;
        assert_eq!(wrong.code, 3, "{label}");
    }
    // The label moves, and the old version is unloaded.
    change(&setup.fake, Model::new("labels").version(2, [wide(8)]).label("stable", 2)).await;
    let reply = setup.client.predict(&vector("labels", 8).label("stable").bytes()).await.ok();
    assert_eq!(reply.repairs(), ["x;add_batch_dim;[8]->[1,8]"]);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_new_version_is_found_by_the_first_request_that_would_be_refused() {
    // No poll happens during the test.
    let signature = |name: &str| Sig::new(name).input("x", FLOAT, &[-1, 4]).output("y", FLOAT, &[-1, 4]);
    let models = [
        Model::new("swap_shape").version(1, [wide(4)]),
        Model::new("swap_signature").version(1, [signature("old")]),
    ];
    let setup = Setup::with(models, |config| config.poll_interval = Duration::from_secs(3600)).await;
    setup.fake.serve(Model::new("swap_shape").version(2, [wide(8)]));
    let reply = setup.client.predict(&vector("swap_shape", 8).bytes()).await.ok();
    assert_eq!(reply.repairs(), ["x;add_batch_dim;[8]->[1,8]"]);

    setup.fake.serve(Model::new("swap_signature").version(2, [signature("new"), signature("newer")]));
    let request = Predict::new("swap_signature").signature("newer").input("x", floats(&[1, 4], &[0.0; 4]));
    setup.client.predict(&request.bytes()).await.ok();
    // What is wrong for the new version as well is refused.
    let reply = setup.client.predict(&vector("swap_shape", 4).bytes()).await;
    assert_eq!((reply.code, reply.reason().as_str()), (3, "RANK_TOO_LOW"));
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn refused_requests_load_the_server_with_few_checks() {
    let setup = Setup::with([Model::new("checks").version(1, [wide(4)])], |config| {
        config.poll_interval = Duration::from_secs(3600);
    })
    .await;
    let (metadata, status) = (setup.fake.count(METADATA), setup.fake.count(STATUS));
    let started = tokio::time::Instant::now();
    for _ in 0..50 {
        assert_eq!(setup.client.predict(&vector("checks", 8).bytes()).await.code, 3);
    }
    let intervals = started.elapsed().as_millis() as usize / 100 + 1;
    assert!(setup.fake.count(STATUS) - status <= intervals, "{:?}", setup.fake.count(STATUS) - status);
    assert_eq!(setup.fake.count(METADATA), metadata, "the version is known");
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_version_that_was_unknown_a_moment_ago_is_used_once_it_is_served() {
    let model = || Model::new("soon").version(1, [wide(4)]);
    let setup = Setup::with([model()], |config| config.poll_interval = Duration::from_secs(3600)).await;
    let request = vector("soon", 4).version(2).bytes();
    assert_eq!(setup.client.predict(&request).await.code, 5);
    setup.fake.serve(model().version(2, [wide(4)]));
    within("the new version", async {
        while setup.client.predict(&request).await.code != 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_request_that_fails_because_the_signature_changed_is_judged_again() {
    // No poll happens during the test, so the error itself must cause the refresh.
    let setup = Setup::with([Model::new("swap").version(1, [typed(FLOAT, 4)])], |config| {
        config.poll_interval = Duration::from_secs(3600);
    })
    .await;
    setup.fake.serve(Model::new("swap").version(2, [typed(DOUBLE, 4)]));
    let request = Predict::new("swap").input("x", floats(&[1, 4], &[0.25; 4])).bytes();
    let reply = within("a request that is judged again", async {
        loop {
            let reply = setup.client.predict(&request).await;
            if reply.code == 0 {
                return reply;
            }
            // A refresh that has just been made is not repeated at once.
            assert_eq!(reply.text, "Expects arg[0] to be double but float is provided");
        }
    })
    .await;
    assert_eq!(reply.repairs(), ["x;cast_widen;float->double"]);
    assert_eq!(outputs(&reply.message)["y"].tensor_content.len(), 32);
    let last: Vec<End> = setup.fake.calls_of(PREDICT).iter().rev().take(2).map(|call| call.end).collect();
    assert_eq!(last, [End::Answered(0), End::Answered(3)], "refused once, then repaired");
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn twenty_requests_for_an_unknown_model_cause_one_metadata_request() {
    let setup = Setup::new([Model::new("known").version(1, [wide(4)])]).await;
    for _ in 0..20 {
        let reply = setup.client.predict(&vector("unknown", 4).bytes()).await;
        assert_eq!(reply.code, 5);
        assert!(reply.text.starts_with("Servable not found for request: Latest(unknown)"), "{}", reply.text);
    }
    assert_eq!(metadata_requests(&setup.fake.calls(), "unknown"), 1);
    assert_eq!(setup.fake.count(PREDICT), 0);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn concurrent_first_requests_cause_one_metadata_request() {
    let known = Model::new("known").version(1, [wide(4)]);
    let fake = FakeTfs::start([known, Model::new("concurrent").version(1, [wide(4)])]);
    let mut config = config(fake.addr(), ["known".to_owned()]);
    config.workers = 2;
    // A poll that finds a new connection also reads the signatures.
    config.poll_interval = Duration::from_secs(3600);
    let sidecar = TestSidecar::start(config);
    sidecar.ready().await;

    let gate = fake.hold(METADATA, 100);
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let client = Arc::new(sidecar.client().await);
        for _ in 0..8 {
            let client = client.clone();
            clients
                .spawn(async move { client.predict(&vector("concurrent", 4).bytes()).await.ok().repairs() });
        }
    }
    fake.until("the metadata request for the new model", |calls| metadata_requests(calls, "concurrent") == 1)
        .await;
    gate.open();
    for repairs in clients.join_all().await {
        assert_eq!(repairs, ["x;add_batch_dim;[4]->[1,4]"]);
    }
    assert_eq!(metadata_requests(&fake.calls(), "concurrent"), 1);
    assert_eq!(fake.count(PREDICT), 64);
    sidecar.stop().await;
}

#[tokio::test]
async fn undeclared_models_are_refused_if_configured() {
    let fake = FakeTfs::start([
        Model::new("declared").version(1, [wide(4)]),
        Model::new("other").version(1, [wide(4)]),
    ]);
    let setup = Setup::before(fake, vec!["declared".into()], |config| {
        config.undeclared_models = tfs_sidecar::config::UndeclaredModels::Refuse;
    })
    .await;
    setup.client.predict(&vector("declared", 4).bytes()).await.ok();
    let reply = setup.client.predict(&vector("other", 4).bytes()).await;
    assert_eq!((reply.code, reply.reason().as_str()), (5, "MODEL_UNKNOWN"), "{}", reply.text);
    assert_eq!(metadata_requests(&setup.fake.calls(), "other"), 0);
    setup.sidecar.stop().await;
}

/// A refresh that began after the request was sent, but before the server had the new version, does
/// not show that the refusal is the request's own.
#[tokio::test]
async fn a_request_that_met_a_new_version_late_is_judged_again_although_the_model_was_just_refreshed() {
    let model = "versions_late";
    let setup = Setup::with([Model::new(model).version(1, [typed(FLOAT, 4)])], |config| {
        config.poll_interval = Duration::from_secs(3600);
    })
    .await;
    let gate = setup.fake.hold(PREDICT, 1);
    let row = Predict::new(model).input("x", floats(&[1, 4], &[0.25; 4])).bytes();
    let held = setup.client.stream(Request::predict(&row)).await;
    setup.fake.called(PREDICT, 1).await;
    // Before it is refused, the sidecar asks for the versions.
    let polls = setup.fake.count(STATUS);
    assert_eq!(setup.client.predict(&vector(model, 8).bytes()).await.code, 3);
    assert!(setup.fake.count(STATUS) > polls);
    setup.fake.serve(Model::new(model).version(2, [typed(DOUBLE, 4)]));
    gate.open();
    let reply = within("an answer", held.finish()).await.unwrap().ok();
    assert_eq!(reply.repairs(), ["x;cast_widen;float->double"]);
    setup.sidecar.stop().await;
}

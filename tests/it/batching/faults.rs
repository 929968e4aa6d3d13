//! Runs that go wrong: no member pays for another one, and none gets a wrong row.
use super::*;

use crate::support::fake_tfs::model::Outputs;
use crate::support::fake_tfs::{Act, FakeTfs};
use crate::support::requests::{METADATA, STATUS};

const BAD: f64 = 666.0;

/// Refuses every call with a row that begins with [`BAD`], as a kernel does.
fn poisonable() -> Model {
    computing(Arc::new(|request, signature| {
        let x = values(&request.inputs["x"]);
        if x.iter().any(|value| number(value) == BAD) {
            return Err((3, "indices[0] = 666 is not in [0, 10)".to_owned()));
        }
        echo(request, signature)
    }))
}

/// Adds to each row what the call has together: its rows depend on each other.
fn dependent() -> Model {
    computing(Arc::new(|request, _| {
        let x = &request.inputs["x"];
        let all: Vec<f32> = values(x).iter().map(|value| number(value) as f32).collect();
        let sum: f32 = all.iter().step_by(3).sum();
        let y: Vec<f32> = all.iter().map(|value| value + sum).collect();
        let rows = (all.len() / 3) as i64;
        Ok([("y".to_owned(), floats(&[rows, 3], &y))].into())
    }))
}

fn request(number: f64) -> Request {
    Request::predict(&rows(&[number as f32]))
}

/// Sends requests that share one run; returns their answers.
async fn run(setup: &Setup, numbers: &[f64]) -> Vec<Reply> {
    let busy = Busy::with(setup, request(900.0)).await;
    let streams = enqueue(setup, &setup.client, numbers.iter().copied().map(request).collect(), 1).await;
    busy.end().await;
    finish(streams).await
}

#[tokio::test]
async fn a_bad_row_fails_its_own_request_and_no_other() {
    let setup = Setup::with([poisonable()], on).await;
    let replies = run(&setup, &[1.0, BAD, 3.0]).await;
    assert_eq!(replies.iter().map(|reply| reply.code).collect::<Vec<_>>(), [0, 3, 0]);
    assert_eq!((firsts(&replies[0]), firsts(&replies[2])), (vec![1.0], vec![3.0]));
    assert!(replies[1].text.starts_with("indices[0] = 666 is not in [0, 10)"), "{}", replies[1].text);
    // The first, the run, and each member alone, once.
    assert_eq!(setup.fake.count(PREDICT), 5);
    // It was the row's fault: the next run is shared again.
    let replies = run(&setup, &[1.0, 2.0]).await;
    assert!(replies.iter().all(|reply| reply.initial("tfs-sidecar-batch") == ["rows=1/2"]));
}

#[tokio::test]
async fn a_signature_whose_runs_are_refused_again_and_again_is_not_batched_any_more() {
    // Takes one row at a time.
    let single = computing(Arc::new(|request, signature| {
        if values(&request.inputs["x"]).len() > 3 {
            return Err((9, "one row at a time".to_owned()));
        }
        echo(request, signature)
    }));
    let setup = Setup::with([single], on).await;
    for round in 0..3 {
        let replies = run(&setup, &[1.0, 2.0]).await;
        assert_eq!(replies.iter().map(firsts).collect::<Vec<_>>(), [[1.0], [2.0]], "round {round}");
    }
    assert_eq!(metric(&setup, "batching", &[]).await, 0.0);
    let before = setup.fake.count(PREDICT);
    let busy = setup.fake.hold(PREDICT, 1);
    let first = setup.client.stream(request(900.0)).await;
    setup.fake.called(PREDICT, before + 1).await;
    // It does not wait.
    assert_eq!(firsts(&setup.client.call(request(5.0)).await.ok()), [5.0]);
    busy.open();
    finish(vec![first]).await;
    assert_eq!(metric(&setup, "batch_bypass_total", &[("reason", "not_batchable")]).await, 1.0);

    // A new version begins anew.
    setup.fake.change(|models| {
        let model = models.get_mut(&name()).unwrap();
        let mut next = model.versions[&1].clone();
        next.compute = Arc::new(echo);
        next.signatures.values_mut().next().unwrap().inputs.get_mut("x").unwrap().tensor_shape =
            Some(crate::support::requests::shape(&[-1, -1]));
        model.versions.insert(2, next);
    });
    within("the next version", async {
        while metric(&setup, "batching", &[]).await != 1.0 {
            pause(Duration::from_millis(5)).await;
        }
    })
    .await;
    let replies = run(&setup, &[1.0, 2.0]).await;
    assert!(replies.iter().all(|reply| reply.initial("tfs-sidecar-batch") == ["rows=1/2"]));
}

#[tokio::test]
async fn on_probation_members_are_answered_from_lone_runs() {
    let setup =
        Setup::with([model()], |config| batching(config, |policy| policy.batching.probation = 2)).await;
    for _ in 0..2 {
        let replies = run(&setup, &[1.0, 2.0]).await;
        assert_eq!(replies.iter().map(firsts).collect::<Vec<_>>(), [[1.0], [2.0]]);
        assert!(replies.iter().all(|reply| reply.initial("tfs-sidecar-batch").is_empty()));
    }
    assert_eq!(setup.fake.count(PREDICT), 2 * 4, "the first, the run, and two alone, twice");
    let replies = run(&setup, &[1.0, 2.0]).await;
    assert!(replies.iter().all(|reply| reply.initial("tfs-sidecar-batch") == ["rows=1/2"]));
    assert_eq!(setup.fake.count(PREDICT), 2 * 4 + 2);
}

/// Such a model must never give a wrong answer.
#[tokio::test]
async fn a_model_whose_rows_depend_on_each_other_is_found_on_probation() {
    let setup =
        Setup::with([dependent()], |config| batching(config, |policy| policy.batching.probation = 64)).await;
    let y = |reply: &Reply| number(&values(&outputs(&reply.message)["y"])[0]);
    let replies = run(&setup, &[1.0, 2.0]).await;
    assert_eq!(replies.iter().map(y).collect::<Vec<_>>(), [2.0, 4.0], "answered from lone runs");
    assert_eq!(metric(&setup, "batching", &[]).await, 0.0);
    assert!(metric(&setup, "batch_divergence_total", &[]).await >= 1.0);
    let page = setup.sidecar.page("/api/models").await;
    assert!(page.body.contains("differs from that of a lone run"), "{}", page.body);
}

#[tokio::test]
async fn a_sample_of_the_members_is_compared_all_the_time() {
    let setup =
        Setup::with([dependent()], |config| batching(config, |policy| policy.batching.verify_sample = 1.0))
            .await;
    let replies = run(&setup, &[1.0, 2.0]).await;
    let found: Vec<f64> =
        replies.iter().map(|reply| number(&values(&outputs(&reply.message)["y"])[0])).collect();
    assert_eq!(found, [2.0, 4.0], "answered from the lone run");
    assert_eq!(metric(&setup, "batching", &[]).await, 0.0);
}

/// An answer with other rows than were sent is never cut.
#[tokio::test]
async fn an_answer_without_the_rows_of_the_run_is_not_used() {
    let wrong: Compute = Arc::new(|request, _| -> Result<Outputs, _> {
        let rows = values(&request.inputs["x"]).len() / 3;
        let x = values(&request.inputs["x"]);
        let y = if rows == 1 { x.iter().map(|value| number(value) as f32).collect() } else { vec![0.0; 3] };
        Ok([("y".to_owned(), floats(&[1, 3], &y))].into())
    });
    let setup = Setup::with([computing(wrong)], on).await;
    let replies = run(&setup, &[1.0, 2.0, 3.0]).await;
    assert_eq!(replies.iter().map(firsts).collect::<Vec<_>>(), [[1.0], [2.0], [3.0]]);
}

#[tokio::test]
async fn a_member_that_leaves_before_its_run_is_not_computed() {
    let setup = Setup::with([model()], on).await;
    let busy = Busy::new(&setup).await;
    let requests = (1..4).map(|number| request(f64::from(number))).collect();
    let mut streams = enqueue(&setup, &setup.client, requests, 1).await;
    drop(streams.remove(1));
    queued(&setup, 2).await;
    busy.end().await;
    let replies = finish(streams).await;
    assert_eq!(replies.iter().map(firsts).collect::<Vec<_>>(), [[1.0], [3.0]]);
    assert_eq!(carried(&setup.fake.calls_of(PREDICT)[1]), [1.0, 3.0]);
}

#[tokio::test]
async fn a_run_goes_on_without_a_member_and_ends_when_all_have_left() {
    let setup = Setup::with([model()], on).await;
    let busy = Busy::new(&setup).await;
    let gates = [setup.fake.hold(PREDICT, 1), setup.fake.hold(PREDICT, 1)];
    let mut streams = enqueue(&setup, &setup.client, vec![request(1.0), request(2.0)], 1).await;
    busy.end().await;
    setup.fake.called(PREDICT, 2).await;
    // The first member, whose metadata the run carries, leaves.
    drop(streams.remove(0));
    let next = enqueue(&setup, &setup.client, vec![request(3.0), request(4.0)], 1).await;
    gates[0].open();
    assert_eq!(firsts(&finish(streams).await[0]), [2.0]);
    setup.fake.called(PREDICT, 3).await;
    drop(next);
    let ended = setup
        .fake
        .until("the end of the run", |calls| {
            calls.iter().any(|call| matches!(call.end, crate::support::fake_tfs::End::Cancelled(_)))
        })
        .await;
    assert_eq!(carried(ended.iter().rfind(|call| call.path == PREDICT).unwrap()), [3.0, 4.0]);
    assert_eq!(firsts(&setup.client.call(request(5.0)).await.ok()), [5.0]);
}

#[tokio::test]
async fn a_member_past_its_deadline_does_not_hold_the_others() {
    let setup = Setup::with([model()], on).await;
    let busy = Busy::new(&setup).await;
    let requests = vec![request(1.0).timeout("150m"), request(2.0)];
    let streams = enqueue(&setup, &setup.client, requests, 1).await;
    let mut streams = streams.into_iter();
    let late = finish(vec![streams.next().unwrap()]).await.remove(0);
    assert_eq!((late.code, late.reason()), (4, "DEADLINE".to_owned()));
    assert!(late.text.contains("waiting for a run of the model"), "{}", late.text);
    busy.end().await;
    assert_eq!(firsts(&finish(streams.collect()).await[0]), [2.0]);
    assert_eq!(carried(&setup.fake.calls_of(PREDICT)[1]), [2.0]);
}

#[tokio::test]
async fn members_of_a_lost_run_are_told_so_and_the_next_ones_are_answered() {
    let setup = Setup::with([model()], on).await;
    let busy = Busy::new(&setup).await;
    setup.fake.script(PREDICT, 1, Act::Close);
    let streams = enqueue(&setup, &setup.client, vec![request(1.0), request(2.0)], 1).await;
    busy.end().await;
    let replies = finish(streams).await;
    for reply in &replies {
        assert_eq!((reply.code, reply.reason()), (14, "UPSTREAM_UNAVAILABLE".to_owned()));
    }
    assert_eq!(setup.fake.count(PREDICT), 2, "what may have run is not run again");
    assert_eq!(firsts(&setup.client.call(request(3.0)).await.ok()), [3.0]);
}

#[tokio::test]
async fn a_run_that_certainly_did_not_happen_is_sent_again() {
    let setup = Setup::with([model()], on).await;
    let busy = Busy::new(&setup).await;
    setup.fake.refuse(PREDICT, 2, 8, "Server Threadpool Exhausted");
    let streams = enqueue(&setup, &setup.client, vec![request(1.0), request(2.0)], 1).await;
    busy.end().await;
    let replies = finish(streams).await;
    assert_eq!(replies.iter().map(firsts).collect::<Vec<_>>(), [[1.0], [2.0]]);
    let carried: Vec<_> = setup.fake.calls_of(PREDICT).iter().skip(1).map(carried).collect();
    assert_eq!(carried, vec![vec![1.0, 2.0]; 3]);
}

/// Unbatched methods and models see nothing of all this.
#[tokio::test]
async fn without_batching_nothing_waits_for_a_run() {
    let setup = Setup::before(FakeTfs::start([model()]), vec![name()], |_| {}).await;
    let busy = Busy::with(&setup, request(900.0)).await;
    assert_eq!(firsts(&setup.client.call(request(1.0)).await.ok()), [1.0]);
    busy.end().await;
    assert!(setup.fake.count(METADATA) + setup.fake.count(STATUS) > 0);
}

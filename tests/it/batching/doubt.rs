//! Runs whose answer is not used, and members that are sent alone: nothing is lost on the way, and
//! what nobody has seen counts for nothing.
use super::*;

use crate::support::requests::{METADATA, float_list};

fn request(number: f32) -> Request {
    Request::predict(&rows(&[number]))
}

/// Members that wait for a run behind one that is in flight; the gate holds that run.
async fn two_waiting(setup: &Setup, requests: [Request; 2]) -> (Busy, Vec<Stream>) {
    let before = setup.fake.count(PREDICT);
    let gate = setup.fake.hold(PREDICT, 1);
    let first = setup.client.stream(request(900.0)).await;
    setup.fake.called(PREDICT, before + 1).await;
    let streams = enqueue(setup, &setup.client, requests.into(), 1).await;
    (Busy { gate, first }, streams)
}

/// The run goes out with the head of its first member, uncompressed.
#[tokio::test]
async fn a_compressed_request_is_sent_alone_as_it_came() {
    let setup =
        Setup::with([model()], |config| batching(config, |policy| policy.batching.probation = 9)).await;
    let gzip = Request::gzip(PREDICT, &rows(&[1.0]));
    let (busy, streams) = two_waiting(&setup, [gzip, request(2.0)]).await;
    busy.end().await;
    let replies = finish(streams).await;
    assert_eq!(replies.iter().map(firsts).collect::<Vec<_>>(), [[1.0], [2.0]]);
    let calls = setup.fake.calls_of(PREDICT);
    assert!(!calls[1].compressed && !calls[1].headers.contains_key("grpc-encoding"), "the run");
    let alone = calls.iter().skip(2).find(|call| call.compressed).expect("it was compressed");
    assert_eq!(alone.headers["grpc-encoding"], "gzip");
}

#[tokio::test]
async fn a_refusal_that_is_for_all_members_is_an_answer_of_grpc() {
    let setup = Setup::with([model()], on).await;
    let (busy, streams) = two_waiting(&setup, [request(1.0), request(2.0)]).await;
    setup.fake.refuse(PREDICT, 1, 14, "the server is out of order");
    busy.end().await;
    for reply in finish(streams).await {
        assert_eq!(reply.code, 14);
        assert!(reply.text.starts_with("the server is out of order"), "{}", reply.text);
        assert_eq!(reply.initial("content-type"), ["application/grpc"]);
    }
    assert_eq!(setup.fake.count(PREDICT), 2);
}

#[tokio::test]
async fn with_a_delay_a_request_that_waited_for_a_run_leaves_in_time() {
    let delay = Duration::from_millis(200);
    let setup =
        Setup::with([model()], |config| batching(config, |policy| policy.batching.max_delay = delay)).await;
    let gate = setup.fake.hold(PREDICT, 1);
    let first = setup.client.stream(request(900.0)).await;
    setup.fake.called(PREDICT, 1).await;
    let streams = enqueue(&setup, &setup.client, vec![request(1.0)], 1).await;
    // The run comes back before the delay is over, and nothing else happens after that.
    gate.open();
    let replies = finish(vec![first]).await;
    assert_eq!(firsts(&replies[0]), [900.0]);
    assert_eq!(firsts(&finish(streams).await[0]), [1.0]);
}

#[tokio::test]
async fn a_run_on_probation_whose_members_have_left_does_not_count() {
    let setup =
        Setup::with([model()], |config| batching(config, |policy| policy.batching.probation = 1)).await;
    let (busy, streams) = two_waiting(&setup, [request(1.0), request(2.0)]).await;
    // The run, and what the members send alone.
    let held = setup.fake.hold(PREDICT, 1);
    busy.end().await;
    setup.fake.called(PREDICT, 2).await;
    let lone = setup.fake.hold(PREDICT, 2);
    held.open();
    setup.fake.called(PREDICT, 4).await;
    drop(streams);
    within("the end of both", async {
        while setup.sidecar.metrics().await.sum("tfs_sidecar_inflight_requests", &[]) > 0.0 {
            pause(Duration::from_millis(2)).await;
        }
    })
    .await;
    lone.open();
    assert_eq!(shown(&setup).await["state"], "on probation", "{}", shown(&setup).await);
}

/// A client that sends what fails and leaves must not switch batching off for the others.
#[tokio::test]
async fn refused_runs_whose_members_have_left_are_no_strikes() {
    let setup = Setup::with([model()], on).await;
    for round in 0..4 {
        let (busy, mut streams) = two_waiting(&setup, [request(1.0), request(2.0)]).await;
        let before = setup.fake.count(PREDICT);
        setup.fake.refuse(PREDICT, 1, 3, "a bad row");
        let lone = setup.fake.hold(PREDICT, 2);
        busy.end().await;
        setup.fake.called(PREDICT, before + 3).await;
        drop(streams.remove(0));
        within("its end", async {
            while setup.sidecar.metrics().await.sum("tfs_sidecar_inflight_requests", &[]) > 1.0 {
                pause(Duration::from_millis(2)).await;
            }
        })
        .await;
        lone.open();
        assert_eq!(firsts(&finish(streams).await[0]), [2.0], "round {round}");
    }
    assert_eq!(metric(&setup, "batching", &[]).await, 1.0);
}

#[tokio::test]
async fn refused_runs_between_good_ones_are_no_reason_to_stop() {
    let setup = Setup::with([model()], on).await;
    for _ in 0..4 {
        for refused in [true, false] {
            let (busy, streams) = two_waiting(&setup, [request(1.0), request(2.0)]).await;
            if refused {
                setup.fake.refuse(PREDICT, 1, 13, "a hiccup");
            }
            busy.end().await;
            let replies = finish(streams).await;
            assert_eq!(replies.iter().map(firsts).collect::<Vec<_>>(), [[1.0], [2.0]]);
        }
    }
    assert_eq!(metric(&setup, "batching", &[]).await, 1.0);
}

/// What is known of one version says nothing about the next.
#[tokio::test]
async fn rows_that_another_version_answered_are_not_used() {
    let setup = Setup::with([model()], on).await;
    let (busy, streams) = two_waiting(&setup, [request(1.0), request(2.0)]).await;
    // The sidecar cannot learn of the new version before the run.
    let blind = setup.fake.hold(METADATA, 1);
    setup.fake.change(|models| {
        let versions = &mut models.get_mut(&name()).unwrap().versions;
        let mut next = versions[&1].clone();
        // The sum of all rows in each of them.
        next.compute = Arc::new(|request, _| {
            let x: Vec<f32> = values(&request.inputs["x"]).iter().map(|value| number(value) as f32).collect();
            let sum: f32 = x.iter().step_by(3).sum();
            let y: Vec<f32> = (0..x.len() / 3).flat_map(|_| [sum, sum + 0.25, sum + 0.5]).collect();
            Ok([("y".to_owned(), floats(&[(x.len() / 3) as i64, 3], &y))].into())
        });
        versions.insert(2, next);
    });
    busy.gate.open();
    let replies = finish(streams).await;
    assert_eq!(replies.iter().map(firsts).collect::<Vec<_>>(), [[1.0], [2.0]], "each was sent alone");
    blind.open();
    finish(vec![busy.first]).await;
}

#[tokio::test]
async fn members_are_not_refused_for_the_size_of_their_run() {
    let setup = Setup::with([model()], |config| {
        on(config);
        config.limits.max_message_bytes = 600;
    })
    .await;
    let large = |first: f32| (0..30).map(|row| first + row as f32).collect::<Vec<_>>();
    let busy = Busy::new(&setup).await;
    let requests = [1000.0, 5000.0].map(|first| Request::predict(&rows(&large(first)))).into();
    let streams = enqueue(&setup, &setup.client, requests, 30).await;
    busy.end().await;
    for (reply, first) in finish(streams).await.iter().zip([1000.0, 5000.0]) {
        assert_eq!(reply.code, 0, "{}", reply.text);
        assert_eq!(firsts(reply)[0], first);
    }
    assert_eq!(setup.fake.count(PREDICT), 1 + 2, "each alone");
}

/// One value for many elements is short as it is sent.
#[tokio::test]
async fn a_fill_that_is_too_large_to_be_expanded_is_sent_as_it_came() {
    let sig = Sig::new("serving_default").input("x", FLOAT, &[-1, -1]).output("y", FLOAT, &[-1, -1]);
    let setup = Setup::with([Model::new(&name()).version(1, [sig])], |config| {
        on(config);
        config.limits.max_inflight_bytes = 8 << 20;
    })
    .await;
    let of = |width: i64| Predict::new(&name()).input("x", float_list(&[1, width], &[7.0])).bytes();
    let gate = setup.fake.hold(PREDICT, 1);
    let first = setup.client.stream(Request::predict(&of(2))).await;
    setup.fake.called(PREDICT, 1).await;
    // 32 MB, and 12 MB: the one is never expanded, for the other there is no memory.
    for width in [8 << 20, 3 << 20] {
        let message = of(width);
        let reply = setup.client.predict(&message).await;
        assert_eq!(reply.code, 0, "{}", reply.text);
        assert_eq!(setup.fake.calls_of(PREDICT).pop().unwrap().message, message);
    }
    assert_eq!(metric(&setup, "batch_bypass_total", &[("reason", "too_large")]).await, 2.0);
    gate.open();
    finish(vec![first]).await;
}

/// The answer of a run is held in memory. That of a request alone is passed on as it comes.
#[tokio::test]
async fn members_are_answered_alone_if_there_is_no_memory_for_all_their_rows() {
    const MANY: usize = 100_000;
    let sig = Sig::new("serving_default").input("x", FLOAT, &[-1, 3]).output("y", FLOAT, &[-1, MANY as i64]);
    let compute: Compute = Arc::new(|request, _| {
        let x: Vec<f32> = values(&request.inputs["x"]).iter().map(|value| number(value) as f32).collect();
        let y: Vec<f32> = x.iter().step_by(3).flat_map(|first| vec![*first; MANY]).collect();
        Ok([("y".to_owned(), floats(&[(x.len() / 3) as i64, MANY as i64], &y))].into())
    });
    let setup = Setup::with([Model::new(&name()).computing(1, [sig], compute)], |config| {
        on(config);
        config.limits.max_inflight_bytes = 1 << 20;
    })
    .await;
    let busy = Busy::new(&setup).await;
    let requests = (0..4).map(|number| Request::predict(&rows(&[number as f32]))).collect();
    let streams = enqueue(&setup, &setup.client, requests, 1).await;
    busy.end().await;
    for (reply, first) in finish(streams).await.into_iter().zip(0..) {
        let y = values(&outputs(&reply.ok().message)["y"]);
        assert!(y.len() == MANY && y.iter().all(|value| number(value) == f64::from(first)));
    }
    assert_eq!(setup.fake.count(PREDICT), 1 + 1 + 4);
}

/// A deadline that has not passed is no DEADLINE_EXCEEDED.
#[tokio::test]
async fn a_request_that_cannot_be_answered_in_time_is_refused_at_once() {
    let setup = Setup::with([model()], on).await;
    // The server is known to take 100 ms.
    for _ in 0..3 {
        let busy = Busy::new(&setup).await;
        pause(Duration::from_millis(100)).await;
        busy.end().await;
    }
    let busy = Busy::new(&setup).await;
    let since = std::time::Instant::now();
    let reply = setup.client.call(Request::predict(&rows(&[1.0])).timeout("60m")).await;
    assert_eq!((reply.code, reply.reason()), (8, "QUEUE_FULL".to_owned()), "{}", reply.text);
    assert!(since.elapsed() < Duration::from_millis(60), "at once");
    let (_, after) = reply.text.split_once("answered (").unwrap();
    let estimated: u64 = after.split(' ').next().unwrap().parse().unwrap();
    assert!((90..1_000).contains(&estimated), "{}", reply.text);
    busy.end().await;
}

/// A row with a small value beside large ones.
fn uneven(first: f32) -> Request {
    let values = [first, first * 1e-3, first];
    Request::predict(&Predict::new(&name()).input("x", floats(&[1, WIDTH], &values)).bytes())
}

/// Adds to each value what `of` says of the first numbers of all rows and the own one.
fn adding(of: impl Fn(&[f32], f32) -> Result<f32, (i32, String)> + Send + Sync + 'static) -> Model {
    computing(Arc::new(move |request, _| {
        let x: Vec<f32> = values(&request.inputs["x"]).iter().map(|value| number(value) as f32).collect();
        let firsts: Vec<f32> = x.iter().step_by(3).copied().collect();
        let mut y = Vec::new();
        for row in x.chunks(3) {
            let added = of(&firsts, row[0])?;
            y.extend(row.iter().map(|value| value + added));
        }
        Ok([("y".to_owned(), floats(&[firsts.len() as i64, 3], &y))].into())
    }))
}

/// One row takes another kernel than several rows, as on a GPU in TF32.
fn rounding() -> Model {
    adding(|all, own| Ok(if all.len() == 1 { 0.0 } else { own * 1e-3 }))
}

fn checked(model: Model, probation: u32, verify_sample: f64) -> impl Future<Output = Setup> {
    Setup::with([model], move |config| {
        batching(config, |policy| {
            policy.batching.probation = probation;
            policy.batching.verify_sample = verify_sample;
        });
    })
}

async fn run_of(setup: &Setup, numbers: &[f32]) -> Vec<Reply> {
    let busy = Busy::new(setup).await;
    let requests = numbers.iter().map(|number| uneven(*number)).collect();
    let streams = enqueue(setup, &setup.client, requests, 1).await;
    busy.end().await;
    finish(streams).await
}

fn first_values(replies: &[Reply]) -> Vec<f64> {
    replies.iter().map(|reply| number(&values(&outputs(&reply.message)["y"])[0])).collect()
}

async fn becomes(setup: &Setup, of: &str, value: f64) {
    within(&format!("{of} = {value}"), async {
        while metric(setup, of, &[]).await != value {
            pause(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// Else batching would switch itself off for most models on a GPU.
#[tokio::test]
async fn rounding_that_depends_on_the_number_of_rows_is_no_divergence() {
    let setup = checked(rounding(), 1, 0.0).await;
    let replies = run_of(&setup, &[100.0, 300.0]).await;
    assert_eq!(first_values(&replies), [100.0, 300.0], "answered from lone runs");
    within("the end of the probation", async {
        while shown(&setup).await["state"] == "on probation" {
            pause(Duration::from_millis(2)).await;
        }
    })
    .await;
    assert!(metric(&setup, "batch_rounding_total", &[]).await >= 1.0);
    assert_eq!(metric(&setup, "batch_divergence_total", &[]).await, 0.0);
    for copies in setup.fake.calls_of(PREDICT).iter().skip(2).map(carried).filter(|rows| rows.len() > 1) {
        assert!(copies == [100.0, 100.0] || copies == [300.0, 300.0], "{copies:?}");
    }
    let replies = run_of(&setup, &[100.0, 300.0]).await;
    assert!(replies.iter().all(|reply| reply.initial("tfs-sidecar-batch") == ["rows=1/2"]));
}

#[tokio::test]
async fn a_sampled_member_may_differ_by_rounding() {
    let setup = checked(rounding(), 0, 1.0).await;
    run_of(&setup, &[100.0, 300.0]).await;
    within("a confirmation", async {
        while metric(&setup, "batch_rounding_total", &[]).await < 1.0 {
            pause(Duration::from_millis(2)).await;
        }
    })
    .await;
    assert_eq!(metric(&setup, "batching", &[]).await, 1.0);
    assert_eq!(metric(&setup, "batch_divergence_total", &[]).await, 0.0);
}

/// The differences are as small as those of rounding.
#[tokio::test]
async fn rows_that_depend_on_their_neighbours_by_a_thousandth_are_found() {
    for (probation, verify_sample) in [(64, 0.0), (0, 1.0)] {
        let mean = adding(|all, _| Ok(1e-3 * all.iter().sum::<f32>() / all.len() as f32));
        let setup = checked(mean, probation, verify_sample).await;
        run_of(&setup, &[100.0, 300.0]).await;
        becomes(&setup, "batching", 0.0).await;
        assert_eq!(metric(&setup, "batch_rounding_total", &[]).await, 0.0);
        let page = setup.sidecar.page("/api/models").await;
        assert!(page.body.contains("in a run of copies of its rows"), "{}", page.body);
    }
}

#[tokio::test]
async fn a_model_that_answers_differently_each_time_is_found() {
    let calls = std::sync::atomic::AtomicU32::new(0);
    let noisy = adding(move |_, own| {
        let call = calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(own * 1e-3 * (call % 7) as f32)
    });
    let setup = checked(noisy, 64, 0.0).await;
    run_of(&setup, &[100.0, 300.0]).await;
    becomes(&setup, "batching", 0.0).await;
}

#[tokio::test]
async fn a_difference_that_cannot_be_confirmed_is_a_divergence() {
    let failing = adding(|all, own| match all {
        [_] => Ok(0.0),
        [first, rest @ ..] if rest.iter().all(|row| row == first) => Err((13, "no copies".to_owned())),
        _ => Ok(own * 1e-3),
    });
    let setup = checked(failing, 64, 0.0).await;
    run_of(&setup, &[100.0, 300.0]).await;
    becomes(&setup, "batching", 0.0).await;
    assert_eq!(metric(&setup, "batch_rounding_total", &[]).await, 0.0);
}

/// A run of copies would be the same run once more.
#[tokio::test]
async fn a_run_of_equal_rows_confirms_nothing() {
    let setup = checked(rounding(), 1, 0.0).await;
    let replies = run_of(&setup, &[100.0, 100.0]).await;
    assert_eq!(first_values(&replies), [100.0, 100.0], "answered from lone runs");
    assert_eq!(shown(&setup).await["state"], "on probation");
    let replies = run_of(&setup, &[100.0, 300.0]).await;
    assert_eq!(first_values(&replies), [100.0, 300.0], "still on probation");
    assert_eq!(carried(&setup.fake.calls_of(PREDICT)[4]), [900.0], "no run of copies before");
}

/// Also if the neighbours are equal: this is no rounding.
#[tokio::test]
async fn values_that_depend_on_the_number_of_rows_are_found() {
    let setup = checked(adding(|all, own| Ok(own * all.len() as f32)), 64, 0.0).await;
    run_of(&setup, &[100.0, 100.0]).await;
    becomes(&setup, "batching", 0.0).await;
}

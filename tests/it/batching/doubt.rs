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

//! Which requests share a run, and what each member gets back.
use super::*;

use crate::support::fake_tfs::FakeTfs;
use crate::support::requests::{doubles, float_list, int64s};

#[tokio::test]
async fn requests_that_come_while_a_run_is_in_flight_share_the_next_one() {
    let setup = Setup::with([model()], on).await;
    let busy = Busy::new(&setup).await;
    let requests = vec![
        Request::predict(&rows(&[1.0])),
        Request::predict(&rows(&[2.0])),
        Request::predict(&rows(&[3.0])),
    ];
    let streams = enqueue(&setup, &setup.client, requests, 1).await;
    busy.end().await;
    let replies = finish(streams).await;
    for (reply, number) in replies.into_iter().zip([1.0, 2.0, 3.0]) {
        let reply = reply.ok();
        assert_eq!(firsts(&reply), [number]);
        assert_eq!(reply.initial("tfs-sidecar-batch"), ["rows=1/3"]);
        assert_eq!(reply.repairs(), [""; 0]);
    }
    let calls = setup.fake.calls_of(PREDICT);
    assert_eq!(calls.iter().map(carried).collect::<Vec<_>>(), [vec![900.0], vec![1.0, 2.0, 3.0]]);
    assert_eq!(metric(&setup, "batch_flushes_total", &[("cause", "returned")]).await, 1.0);
    assert_eq!(metric(&setup, "batch_rows_sum", &[]).await, 3.0);
    assert_eq!(metric(&setup, "requests_total", &[("code", "OK")]).await, 4.0);
}

#[tokio::test]
async fn a_lone_request_is_forwarded_as_it_came() {
    let setup = Setup::with([model()], on).await;
    let message = rows(&[7.0]);
    for _ in 0..3 {
        let reply = setup.client.predict(&message).await.ok();
        assert_eq!(reply.initial("tfs-sidecar-batch"), [""; 0]);
    }
    assert!(setup.fake.calls_of(PREDICT).iter().all(|call| call.message == message));
}

#[tokio::test]
async fn repaired_requests_and_other_encodings_join() {
    let setup = Setup::with([model()], on).await;
    let busy = Busy::new(&setup).await;
    let of = |tensor| Request::predict(&Predict::new(&name()).input("x", tensor).bytes());
    let requests = vec![
        of(floats(&[1, 3], &[1.0, 1.25, 1.5])),
        // Without the batch dimension, as float64.
        of(doubles(&[3], &[2.0, 2.25, 2.5])).metadata("user-agent", "member/1.0"),
        of(float_list(&[1, 3], &[3.0, 3.25, 3.5])),
    ];
    let streams = enqueue(&setup, &setup.client, requests, 1).await;
    busy.end().await;
    let replies = finish(streams).await;
    assert_eq!(replies.iter().map(firsts).collect::<Vec<_>>(), [[1.0], [2.0], [3.0]]);
    assert!(replies.iter().all(|reply| reply.initial("tfs-sidecar-batch") == ["rows=1/3"]));
    assert_eq!(replies[1].repairs().len(), 2, "the repairs of a member are its own");
    assert_eq!(metric(&setup, "repairs_total", &[("client", "member/1.0")]).await, 2.0);
    assert!(replies[0].repairs().is_empty() && replies[2].repairs().is_empty());
    assert_eq!(setup.fake.count(PREDICT), 2);
}

#[tokio::test]
async fn members_keep_their_rows_and_the_order_of_arrival() {
    let setup = Setup::with([model()], on).await;
    let busy = Busy::new(&setup).await;
    let requests = vec![
        Request::predict(&rows(&[1.0, 2.0])),
        Request::predict(&rows(&[3.0, 4.0])),
        Request::predict(&rows(&[5.0, 6.0])),
    ];
    let streams = enqueue(&setup, &setup.client, requests, 2).await;
    busy.end().await;
    let replies = finish(streams).await;
    assert_eq!(replies.iter().map(firsts).collect::<Vec<_>>(), [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]);
    assert!(replies.iter().all(|reply| reply.initial("tfs-sidecar-batch") == ["rows=2/6"]));
    assert_eq!(carried(&setup.fake.calls_of(PREDICT)[1]), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

/// One caller's metadata never carries the rows of another.
#[tokio::test]
async fn requests_with_different_credentials_or_tenants_do_not_share() {
    let setup = Setup::with([model()], on).await;
    let busy = Busy::new(&setup).await;
    let of = |number: f32, name: &str, value: &str| Request::predict(&rows(&[number])).metadata(name, value);
    let requests = [
        of(1.0, "authorization", "Bearer a"),
        of(2.0, "authorization", "Bearer b"),
        of(3.0, "authorization", "Bearer a"),
        of(4.0, "x-tenant", "a"),
        of(5.0, "x-request-id", "5"),
        of(6.0, "traceparent", "00-1-2-3"),
        of(7.0, "tfs-sidecar-no-batch", "1"),
    ];
    let streams = enqueue(&setup, &setup.client, requests[..6].to_vec(), 1).await;
    let alone = setup.client.call(requests[6].clone()).await.ok();
    assert_eq!((firsts(&alone), alone.initial("tfs-sidecar-batch")), (vec![7.0], vec![]));
    busy.end().await;
    let replies = finish(streams).await;
    assert_eq!(replies.iter().map(firsts).collect::<Vec<_>>(), [[1.0], [2.0], [3.0], [4.0], [5.0], [6.0]]);
    let mut runs: Vec<(Vec<f64>, Vec<String>)> = Vec::new();
    for call in setup.fake.calls_of(PREDICT).iter().skip(2) {
        let of = call.headers.get_all("authorization").iter();
        runs.push((carried(call), of.map(|value| value.to_str().unwrap().to_owned()).collect()));
    }
    runs.sort_by(|left, right| left.0[0].total_cmp(&right.0[0]));
    let bearer = |name: &str| vec![format!("Bearer {name}")];
    assert_eq!(
        runs,
        [
            (vec![1.0, 3.0], bearer("a")),
            (vec![2.0], bearer("b")),
            (vec![4.0], vec![]),
            (vec![5.0, 6.0], vec![])
        ]
    );
    let bypassed = metric(&setup, "batch_bypass_total", &[("reason", "opted_out")]).await;
    assert_eq!(bypassed, 1.0);
}

#[tokio::test]
async fn a_run_has_at_most_max_rows() {
    let setup =
        Setup::with([model()], |config| batching(config, |policy| policy.batching.max_rows = 2)).await;
    let busy = Busy::new(&setup).await;
    let requests = (0..5).map(|number| Request::predict(&rows(&[number as f32]))).collect();
    let streams = enqueue(&setup, &setup.client, requests, 1).await;
    busy.end().await;
    let replies = finish(streams).await;
    assert_eq!(replies.iter().map(firsts).collect::<Vec<_>>(), [[0.0], [1.0], [2.0], [3.0], [4.0]]);
    let carried: Vec<_> = setup.fake.calls_of(PREDICT).iter().skip(1).map(carried).collect();
    assert_eq!(carried, [vec![0.0, 1.0], vec![2.0, 3.0], vec![4.0]]);
}

#[tokio::test]
async fn runs_are_filled_to_an_allowed_size_and_answers_cut_back() {
    let setup = Setup::with([model()], |config| {
        batching(config, |policy| policy.batching.allowed_batch_sizes = vec![2, 4]);
    })
    .await;
    let alone = setup.client.predict(&rows(&[1.0])).await.ok();
    assert_eq!(
        (firsts(&alone), alone.initial("tfs-sidecar-batch")),
        (vec![1.0], vec!["rows=1/1".to_owned()])
    );
    assert_eq!(carried(&setup.fake.calls_of(PREDICT)[0]), [1.0, 1.0], "filled with copies of its last row");
    let busy = Busy::with(&setup, Request::predict(&rows(&[5.0, 6.0]))).await;
    let requests = (0..3).map(|number| Request::predict(&rows(&[number as f32]))).collect();
    let streams = enqueue(&setup, &setup.client, requests, 1).await;
    busy.end().await;
    let replies = finish(streams).await;
    assert_eq!(replies.iter().map(firsts).collect::<Vec<_>>(), [[0.0], [1.0], [2.0]]);
    assert!(replies.iter().all(|reply| reply.initial("tfs-sidecar-batch") == ["rows=1/3"]));
    assert_eq!(carried(&setup.fake.calls_of(PREDICT)[2]), [0.0, 1.0, 2.0, 2.0]);
}

/// The model is compiled for the allowed sizes, so what is compared has one of them too.
#[tokio::test]
async fn lone_runs_are_filled_to_an_allowed_size_too() {
    let setup = Setup::with([model()], |config| {
        batching(config, |policy| {
            policy.batching.allowed_batch_sizes = vec![2, 4];
            policy.batching.probation = 8;
        });
    })
    .await;
    let busy = Busy::with(&setup, Request::predict(&rows(&[5.0, 6.0]))).await;
    let requests = (0..3).map(|number| Request::predict(&rows(&[number as f32]))).collect();
    let streams = enqueue(&setup, &setup.client, requests, 1).await;
    busy.end().await;
    let replies = finish(streams).await;
    assert_eq!(replies.iter().map(firsts).collect::<Vec<_>>(), [[0.0], [1.0], [2.0]]);
    let mut carried: Vec<_> = setup.fake.calls_of(PREDICT).iter().skip(1).map(carried).collect();
    carried.sort_by(|left, right| left.partial_cmp(right).unwrap());
    assert_eq!(carried, [vec![0.0, 0.0], vec![0.0, 1.0, 2.0, 2.0], vec![1.0, 1.0], vec![2.0, 2.0]]);
}

#[tokio::test]
async fn different_inner_shapes_share_only_among_themselves() {
    let sig = Sig::new("serving_default").input("x", FLOAT, &[-1, -1]).output("y", FLOAT, &[-1, -1]);
    let setup = Setup::with([Model::new(&name()).version(1, [sig])], on).await;
    let of = |width: usize, number: f32| {
        let tensor = floats(&[1, width as i64], &vec![number; width]);
        Request::predict(&Predict::new(&name()).input("x", tensor).bytes())
    };
    let busy = Busy::with(&setup, of(2, 9.0)).await;
    let requests = vec![of(2, 1.0), of(5, 2.0), of(2, 3.0), of(5, 4.0)];
    let streams = enqueue(&setup, &setup.client, requests, 1).await;
    busy.end().await;
    let replies = finish(streams).await;
    let widths: Vec<usize> =
        replies.iter().map(|reply| values(&outputs(&reply.message)["y"]).len()).collect();
    assert_eq!(widths, [2, 5, 2, 5]);
    assert!(replies.iter().all(|reply| reply.initial("tfs-sidecar-batch") == ["rows=1/2"]));
    assert_eq!(setup.fake.count(PREDICT), 3);
}

#[tokio::test]
async fn scalars_must_be_equal_and_are_sent_once() {
    let sig = Sig::new("serving_default")
        .input("k", crate::support::requests::INT64, &[])
        .input("x", FLOAT, &[-1, 3])
        .output("y", FLOAT, &[-1, 3]);
    let compute: Compute = Arc::new(|request, _| {
        assert!(request.inputs["k"].tensor_shape.as_ref().is_none_or(|shape| shape.dim.is_empty()));
        Ok([("y".to_owned(), request.inputs["x"].clone())].into())
    });
    let setup = Setup::with([Model::new(&name()).computing(1, [sig], compute)], on).await;
    let of = |k: i64, number: f32| {
        let x = floats(&[1, 3], &[number, number + 0.25, number + 0.5]);
        Request::predict(&Predict::new(&name()).input("x", x).input("k", int64s(&[], &[k])).bytes())
    };
    let busy = Busy::with(&setup, of(1, 900.0)).await;
    let streams = enqueue(&setup, &setup.client, vec![of(1, 1.0), of(2, 2.0), of(1, 3.0)], 1).await;
    busy.end().await;
    let replies = finish(streams).await;
    assert_eq!(replies.iter().map(firsts).collect::<Vec<_>>(), [[1.0], [2.0], [3.0]]);
    let mut runs: Vec<_> = setup.fake.calls_of(PREDICT).iter().skip(1).map(carried).collect();
    runs.sort_by(|left, right| left[0].total_cmp(&right[0]));
    assert_eq!(runs, [vec![1.0, 3.0], vec![2.0]]);
}

/// A signature whose batch dimension is fixed is not for sharing, and works as before.
#[tokio::test]
async fn a_signature_with_a_fixed_batch_shares_only_if_it_is_padded() {
    let sig = || Sig::new("serving_default").input("x", FLOAT, &[4, 3]).output("y", FLOAT, &[4, 3]);
    let setup = Setup::with([Model::new(&name()).version(1, [sig()])], on).await;
    assert_eq!(setup.client.predict(&rows(&[1.0, 2.0, 3.0, 4.0])).await.ok().code, 0);
    let shown = shown(&setup).await;
    assert_eq!(shown["state"], "not possible", "{shown}");

    let setup = Setup::with([Model::new(&name()).version(1, [sig()])], |config| {
        batching(config, |policy| {
            let rule =
                tfs_sidecar::repair::REPAIRS.iter().find(|rule| rule.name == "pad_static_batch").unwrap();
            policy.rules.set(rule, true);
        });
    })
    .await;
    let busy = Busy::with(&setup, Request::predict(&rows(&[900.0, 901.0, 902.0, 903.0]))).await;
    let requests = (0..3).map(|number| Request::predict(&rows(&[number as f32]))).collect();
    let streams = enqueue(&setup, &setup.client, requests, 1).await;
    busy.end().await;
    let replies = finish(streams).await;
    assert_eq!(replies.iter().map(firsts).collect::<Vec<_>>(), [[0.0], [1.0], [2.0]]);
    assert!(replies.iter().all(|reply| reply.repairs().len() == 1), "the repair is told");
    assert_eq!(carried(&setup.fake.calls_of(PREDICT)[1]), [0.0, 1.0, 2.0, 2.0]);
}

/// Connections live on different threads, and their rows meet all the same.
#[tokio::test]
async fn requests_of_different_threads_share_a_run() {
    let setup = Setup::with([model()], |config| {
        on(config);
        config.workers = 2;
    })
    .await;
    let busy = Busy::new(&setup).await;
    let (left, right) = (setup.sidecar.client().await, setup.sidecar.client().await);
    let one = left.stream(Request::predict(&rows(&[1.0]))).await;
    queued(&setup, 1).await;
    let two = right.stream(Request::predict(&rows(&[2.0]))).await;
    queued(&setup, 2).await;
    busy.end().await;
    let replies = finish(vec![one, two]).await;
    assert_eq!(replies.iter().map(firsts).collect::<Vec<_>>(), [[1.0], [2.0]]);
    assert!(replies.iter().all(|reply| reply.initial("tfs-sidecar-batch") == ["rows=1/2"]));
}

#[tokio::test]
async fn a_request_above_max_rows_is_split_and_joined_again() {
    let setup =
        Setup::with([model()], |config| batching(config, |policy| policy.batching.max_rows = 2)).await;
    let reply = setup.client.predict(&rows(&[1.0, 2.0, 3.0, 4.0, 5.0])).await.ok();
    assert_eq!(firsts(&reply), [1.0, 2.0, 3.0, 4.0, 5.0]);
    let carried: Vec<_> = setup.fake.calls_of(PREDICT).iter().map(carried).collect();
    assert_eq!(carried, [vec![1.0, 2.0], vec![3.0, 4.0], vec![5.0]]);
}

#[tokio::test]
async fn a_delay_gathers_requests_although_nothing_is_in_flight() {
    let delay = Duration::from_millis(300);
    let setup =
        Setup::with([model()], |config| batching(config, |policy| policy.batching.max_delay = delay)).await;
    let since = std::time::Instant::now();
    let streams = enqueue(
        &setup,
        &setup.client,
        vec![Request::predict(&rows(&[1.0])), Request::predict(&rows(&[2.0]))],
        1,
    )
    .await;
    let replies = finish(streams).await;
    assert_eq!(replies.iter().map(firsts).collect::<Vec<_>>(), [[1.0], [2.0]]);
    assert!(replies.iter().all(|reply| reply.initial("tfs-sidecar-batch") == ["rows=1/2"]));
    assert!(since.elapsed() >= delay, "the first one waited");
    let flushes = metric(&setup, "batch_flushes_total", &[("cause", "delay")]).await;
    assert_eq!(flushes, 1.0);
}

#[tokio::test]
async fn more_rows_than_the_queue_takes_are_refused_at_once() {
    let setup = Setup::with([model()], |config| {
        batching(config, |policy| {
            policy.batching.max_rows = 4;
            policy.batching.max_queue_rows = 4;
        });
    })
    .await;
    let busy = Busy::new(&setup).await;
    let streams =
        enqueue(&setup, &setup.client, vec![Request::predict(&rows(&[1.0, 2.0, 3.0, 4.0]))], 4).await;
    let refused = setup.client.predict(&rows(&[5.0])).await;
    assert_eq!((refused.code, refused.reason()), (8, "QUEUE_FULL".to_owned()));
    assert!(refused.text.contains("batching.max_queue_rows"), "{}", refused.text);
    busy.end().await;
    assert_eq!(firsts(&finish(streams).await[0]), [1.0, 2.0, 3.0, 4.0]);
}

#[tokio::test]
async fn a_drain_sends_what_waits_and_answers_it() {
    let fake = FakeTfs::start([model()]);
    let setup = Setup::before(fake, vec![name()], on).await;
    let busy = Busy::new(&setup).await;
    let streams = enqueue(
        &setup,
        &setup.client,
        vec![Request::predict(&rows(&[1.0])), Request::predict(&rows(&[2.0]))],
        1,
    )
    .await;
    let drained = crate::support::admin::post(&setup.sidecar.admin, "/drain");
    let leave = async {
        // They leave although the run before them has not come back.
        setup.fake.called(PREDICT, 2).await;
        let replies = finish(streams).await;
        assert_eq!(replies.iter().map(firsts).collect::<Vec<_>>(), [[1.0], [2.0]]);
        busy.end().await;
        drop(setup.client);
    };
    let ((), page) = tokio::join!(leave, drained);
    assert_eq!(page.status, 200);
}

//! Clients that share runs of a model with the honest one.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::client::{Client, Request};
use crate::support::dense::{self, INPUT, MODEL, OUTPUT};
use crate::support::fake_tfs::{FakeTfs, Options};
use crate::support::pace::pause;
use crate::support::requests::{Predict, float_list, floats};
use crate::support::tensor_values::{Value, values};
use crate::trial::{BYTES_MIB, Trial};

/// The first value of a row that fails the call.
const POISON: f32 = 666.0;
/// Rows that the stub computes in a test program.
const MAX_COMPUTED: i64 = 200;
/// Of a call. Meanwhile others wait for the next run.
const RUN: Duration = Duration::from_millis(5);

/// The dense model with a call time that lets runs be shared; a row that begins with [`POISON`]
/// fails the call, as in a kernel.
async fn trial(name: &'static str) -> Trial {
    let mut model = dense::model();
    for version in model.versions.values_mut() {
        let compute = Arc::clone(&version.compute);
        version.compute = Arc::new(move |request, signature| {
            let input = &request.inputs[INPUT];
            let rows = input.tensor_shape.as_ref().map_or(0, |shape| shape.dim[0].size);
            if rows > MAX_COMPUTED {
                // The model need not be what makes the honest client wait.
                return Ok([(OUTPUT.to_owned(), float_list(&[rows, 10], &[0.5]))].into());
            }
            if input.float_val.len() != 1 && values(input).contains(&Value::Int(POISON as i128)) {
                return Err((3, "a kernel does not like a row".to_owned()));
            }
            compute(request, signature)
        });
    }
    let delays = [(MODEL.to_owned(), RUN)].into_iter().collect();
    let fake = FakeTfs::start_with(Options { delays, ..Options::default() }, [model]);
    let yaml = format!(
        "limits: {{max_inflight_bytes: {BYTES_MIB}MiB}}\nmodels: {{{MODEL}: {{signatures: {{serving_default: \
         {{batching: {{enabled: on, probation: 0, verify_sample: 0}}}}}}}}}}"
    );
    Trial::with(name, fake, &yaml, BYTES_MIB).await
}

/// Keeps so many calls in flight on one connection; `request` makes each from a number of its own.
async fn flood(
    addr: &str,
    stop: &CancellationToken,
    calls: usize,
    request: impl Fn(u64) -> Request + Clone + 'static + Send,
) {
    let (client, number) = (Arc::new(Client::connect(addr).await), Arc::new(AtomicU64::new(0)));
    let mut loops = JoinSet::new();
    for _ in 0..calls {
        let (client, number) = (Arc::clone(&client), Arc::clone(&number));
        let (stop, request) = (stop.clone(), request.clone());
        loops.spawn(async move {
            loop {
                let next = request(number.fetch_add(1, Relaxed));
                let outcome = tokio::select! {
                    () = stop.cancelled() => return,
                    outcome = client.try_call(next) => outcome,
                };
                if !outcome.is_ok_and(|reply| reply.code == 0) {
                    pause(Duration::from_millis(10)).await;
                }
            }
        });
    }
    loops.join_all().await;
}

/// Requests with different metadata share no run, and each brings a queue of its own.
#[tokio::test]
async fn metadata_that_differs_in_each_request() {
    let trial = trial("200 calls in flight, each with another token").await;
    trial
        .run(async |addr, stop| {
            let request = |number: u64| {
                Request::predict(&dense::conforming()).metadata("authorization", &format!("Bearer {number}"))
            };
            flood(&addr, &stop, 200, request).await;
        })
        .await;
}

#[tokio::test]
async fn hundreds_of_streams_for_the_same_runs() {
    let trial = trial("300 streams that share the runs").await;
    trial
        .run(async |addr, stop| {
            flood(&addr, &stop, 300, |_| Request::predict(&dense::conforming())).await;
        })
        .await;
}

#[tokio::test]
async fn members_that_leave_as_soon_as_they_have_joined() {
    let trial = trial("members that leave as soon as they have joined").await;
    trial
        .run(async |addr, stop| {
            let client = Client::connect(&addr).await;
            let request = Request::predict(&dense::conforming());
            while !stop.is_cancelled() && !client.is_closed() {
                let mut streams = Vec::new();
                // Slow enough for the rate of resets that a connection may have.
                for _ in 0..8 {
                    streams.push(client.stream(request.clone()).await);
                }
                pause(Duration::from_millis(2)).await;
            }
            // The connection may have been ended for its resets; the honest client is what counts.
            stop.cancelled().await;
        })
        .await;
}

#[tokio::test]
async fn members_that_fail_every_run() {
    let trial = trial("poisoned rows in every run").await;
    trial
        .run(async |addr, stop| {
            let request = |_| {
                Request::predict(&Predict::new(MODEL).input(INPUT, floats(&[1, 128], &[POISON; 128])).bytes())
            };
            flood(&addr, &stop, 16, request).await;
        })
        .await;
}

/// A few bytes stand for 16 MB, which sharing would need.
#[tokio::test]
async fn one_value_for_many_rows() {
    let trial = trial("fills that expand to 16 MB").await;
    trial
        .run(async |addr, stop| {
            let message = Predict::new(MODEL).input(INPUT, float_list(&[60, 128], &[0.5])).bytes();
            let huge = Predict::new(MODEL).input(INPUT, float_list(&[32_000, 128], &[0.5])).bytes();
            let request =
                move |number: u64| Request::predict(if number.is_multiple_of(4) { &huge } else { &message });
            flood(&addr, &stop, 8, request).await;
        })
        .await;
}

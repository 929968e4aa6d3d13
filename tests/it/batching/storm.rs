//! Many clients at once, with values of their own, while everything goes wrong: every answer is the
//! client's own, and none is missing.
use super::*;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::support::fake_tfs::{FakeTfs, Options};
use crate::support::random::Random;
use crate::support::requests::{doubles, float_list};

const CLIENTS: u64 = 64;
const REQUESTS: u64 = 60;
const POISON: f64 = 500_000.0;

/// `y` is `x`; a row that begins with [`POISON`] fails the call.
fn model_of_the_storm() -> Model {
    computing(Arc::new(|request, signature| {
        if values(&request.inputs["x"]).iter().any(|value| number(value) == POISON) {
            return Err((3, "a kernel does not like a row".to_owned()));
        }
        echo(request, signature)
    }))
}

/// What the clients have seen, by gRPC code.
#[derive(Debug, Default)]
struct Seen {
    codes: std::sync::Mutex<BTreeMap<i32, u64>>,
    cancelled: AtomicU64,
    shared: AtomicU64,
}

/// One request of a client, with rows that nobody else sends.
async fn one(client: &Client, random: &mut Random, first: f32, seen: &Seen) {
    let count = 1 + random.below(4) as usize;
    let poisoned = random.below(20) == 0;
    let mut numbers: Vec<f32> = (0..count).map(|row| first + row as f32 * 0.0625).collect();
    if poisoned {
        numbers[count - 1] = POISON as f32;
    }
    let flat: Vec<f32> = numbers.iter().flat_map(|value| [*value, value + 0.25, value + 0.5]).collect();
    let dims = [count as i64, 3];
    let tensor = match random.below(4) {
        0 => doubles(&dims, &flat),
        1 => float_list(&dims, &flat),
        // One row without its batch dimension.
        2 if count == 1 => floats(&dims[1..], &flat),
        _ => floats(&dims, &flat),
    };
    let mut request = Request::predict(&Predict::new(&name()).input("x", tensor).bytes());
    let timed = random.below(10) == 0;
    if timed {
        request = request.timeout(&format!("{}m", 1 + random.below(50)));
    }
    let stream = client.stream(request).await;
    if random.below(20) == 0 {
        pause(random.between(0, 5)).await;
        seen.cancelled.fetch_add(1, Relaxed);
        return;
    }
    let reply = within("an answer", stream.finish()).await.expect("an answer");
    match reply.code {
        0 => {
            assert!(!poisoned, "a poisoned request was answered");
            let wanted: Vec<f64> = numbers.iter().map(|value| f64::from(*value)).collect();
            assert_eq!(firsts(&reply), wanted, "another client's rows");
            if !reply.initial("tfs-sidecar-batch").is_empty() {
                seen.shared.fetch_add(1, Relaxed);
            }
        }
        3 => assert!(poisoned && reply.text.starts_with("a kernel does not like a row"), "{}", reply.text),
        4 => assert!(timed, "{}", reply.text),
        8 => assert!(timed, "only what cannot be answered in time is refused: {}", reply.text),
        14 => {}
        code => panic!("code {code}: {}", reply.text),
    }
    *seen.codes.lock().unwrap().entry(reply.code).or_default() += 1;
}

#[tokio::test]
async fn no_answer_is_wrong_or_missing_whatever_happens() {
    let options = Options { max_threads: Some(8), ..Default::default() };
    let fake = FakeTfs::start_with(options, [model_of_the_storm()]);
    let setup = Setup::before(fake, vec![name()], |config| {
        batching(config, |policy| policy.batching.verify_sample = 0.05);
        config.workers = 2;
    })
    .await;
    let Setup { mut fake, sidecar, client } = setup;
    drop(client);
    let seen = Arc::new(Seen::default());
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let (client, seen) = (sidecar.client().await, Arc::clone(&seen));
        clients.spawn(async move {
            let mut random = Random::new(number + 1);
            for turn in 0..REQUESTS {
                one(&client, &mut random, (number * 1000 + turn) as f32, &seen).await;
            }
        });
    }
    let mut random = Random::new(99);
    let mut version = 1;
    loop {
        tokio::select! {
            ended = clients.join_next() => match ended {
                Some(ended) => ended.expect("a client saw what it must not see"),
                None => break,
            },
            () = pause(random.between(50, 150)) => {
                match random.below(3) {
                    0 => {
                        fake.stop();
                        pause(random.between(1, 20)).await;
                        fake.restart();
                    }
                    1 => fake.goaway(),
                    _ => fake.change(|models| {
                        // Another version, whose signature takes any width.
                        let model = models.get_mut(&name()).unwrap();
                        let mut next = model.versions[&version].clone();
                        version += 1;
                        let x = next.signatures.values_mut().next().unwrap().inputs.get_mut("x").unwrap();
                        let width = if version % 2 == 0 { -1 } else { WIDTH };
                        x.tensor_shape = Some(crate::support::requests::shape(&[-1, width]));
                        model.versions = [(version, next)].into();
                    }),
                }
            }
        }
    }
    let codes = seen.codes.lock().unwrap().clone();
    let (answered, cancelled) = (codes.values().sum::<u64>(), seen.cancelled.load(Relaxed));
    println!("{codes:?}, {cancelled} cancelled, {} shared a run", seen.shared.load(Relaxed));
    assert_eq!(answered + cancelled, CLIENTS * REQUESTS);
    assert!(seen.shared.load(Relaxed) > CLIENTS, "requests shared runs");
    let ok = codes.get(&0).copied().unwrap_or_default();
    assert!(ok > CLIENTS * REQUESTS / 2, "{codes:?}");
    // The sidecar has counted the same.
    for (code, name) in [(3, "INVALID_ARGUMENT"), (14, "UNAVAILABLE")] {
        let model = self::name();
        let counted =
            sidecar.metrics().await.sum("tfs_sidecar_requests_total", &[("model", &model), ("code", name)]);
        assert!(
            counted >= codes.get(&code).copied().unwrap_or_default() as f64,
            "{name}: {counted}, {codes:?}"
        );
    }
    within("the end of all that was in flight", async {
        let metrics = [
            ("tfs_sidecar_queue_rows", 0.0),
            ("tfs_sidecar_inflight_requests", 0.0),
            ("tfs_sidecar_inflight_bytes", 0.0),
        ];
        while metrics.iter().any(|_| true) {
            let now = sidecar.metrics().await;
            if metrics.iter().all(|(name, value)| now.sum(name, &[]) == *value) {
                break;
            }
            pause(Duration::from_millis(5)).await;
        }
    })
    .await;
    let metrics = sidecar.metrics().await;
    assert_eq!(metrics.sum("tfs_sidecar_batch_divergence_total", &[("model", name().as_str())]), 0.0);
    assert_eq!(metrics.sum("tfs_sidecar_panics_total", &[]), 0.0);
    // A request that is cancelled at once need not have left its client.
    let total = metrics.sum("tfs_sidecar_requests_total", &[("model", &name())]) as u64;
    assert!((answered..=CLIENTS * REQUESTS).contains(&total), "{total} counted, {answered} answered");
    sidecar.stop().await;
}

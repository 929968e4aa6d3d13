//! Small messages that want much memory.
use std::time::Duration;

use crate::support::attacks::gzip_bombs;
use crate::support::client::{Client, Request};
use crate::support::dense::{self, INPUT, MODEL};
use crate::support::dial::Dial;
use crate::support::fake_tfs::FakeTfs;
use crate::support::fake_tfs::model::{Model, Sig};
use crate::support::frames::{Reads, data_frames, open};
use crate::support::framing;
use crate::support::requests::{FLOAT, METADATA, PREDICT, Predict, content, floats, metadata_request};
use crate::trial::{BYTES_MIB, Trial, hold};

const INT8: i32 = 6;

#[tokio::test]
async fn a_message_that_unpacks_to_half_a_gigabyte() {
    let trial = Trial::new("0.5 MB of gzip that unpack to 512 MB").await;
    trial
        .run(async |addr, stop| {
            gzip_bombs(&Dial::plain(&addr), &stop, Duration::from_millis(200), PREDICT).await;
        })
        .await;
}

#[tokio::test]
async fn casts_that_make_four_bytes_of_one() {
    let trial = Trial::new("int8 tensors of 40 MB for a float input").await;
    trial
        .run(async |addr, stop| {
            let rows = 40 << 13;
            let tensor = content(INT8, &[rows, 128], vec![1u8; 128 * rows as usize]);
            let message = Predict::new(MODEL).input(INPUT, tensor).bytes();
            let client = Client::connect(&addr).await;
            while !stop.is_cancelled() {
                client.try_call(Request::predict(&message)).await.ok();
            }
        })
        .await;
}

#[tokio::test]
async fn bodies_in_frames_of_one_byte() {
    let trial = Trial::new("bodies of 8 MB in frames of 1 byte").await;
    trial
        .run(async |addr, stop| {
            let body = framing::frame(&vec![0u8; 8 << 20], false);
            // All but the last byte, so that the message stays.
            let mut request = open(1, PREDICT);
            request.extend(data_frames(1, &body[..body.len() - 1], 1));
            // Nor is the last frame the end of the stream.
            let flags = request.len() - 10 + 4;
            request[flags] = 0;
            hold(&addr, &stop, 1 << 20, Reads::Yes, &request).await;
        })
        .await;
}

#[tokio::test]
async fn an_upstream_with_a_hundred_thousand_signatures() {
    let signatures = (0..100_000).map(|at| {
        Sig::new(&format!("signature_{at}"))
            .input("first", FLOAT, &[-1, 128])
            .input("second", FLOAT, &[-1, 128])
            .output("y", FLOAT, &[-1, 10])
    });
    let fake = FakeTfs::start([dense::model(), Model::new("huge").version(1, signatures)]);
    // Encoded before anything is measured.
    let metadata = Request::new(METADATA, &metadata_request("huge"));
    Client::connect(fake.addr()).await.call(metadata).await.ok();
    let yaml = format!("limits: {{max_inflight_bytes: {BYTES_MIB}MiB}}\nmodels: {{mlp: {{}}}}");
    let trial = Trial::with("a model with 100,000 signatures", fake, &yaml, BYTES_MIB).await;
    trial
        .run(async |addr, stop| {
            let message = Predict::new("huge").input("first", floats(&[1, 1], &[1.0])).bytes();
            let client = Client::connect(&addr).await;
            while !stop.is_cancelled() {
                client.try_call(Request::predict(&message)).await.ok();
            }
        })
        .await;
}

/// The allocator gives memory back after the peak.
#[tokio::test]
async fn memory_returns_after_the_peak() {
    let trial = Trial::new("large requests, then none").await;
    let before = trial.sidecar.memory();
    let trial = trial
        .run(async |addr, stop| {
            // One column too few, so that they are read and refused.
            let rows = 24 << 11;
            let values = vec![0u8; 4 * 127 * rows as usize];
            let message = Predict::new(MODEL).input(INPUT, content(FLOAT, &[rows, 127], values)).bytes();
            let client = Client::connect(&addr).await;
            while !stop.is_cancelled() {
                client.try_call(Request::predict(&message)).await.ok();
            }
        })
        .await;
    let start = std::time::Instant::now();
    let mut after = trial.sidecar.memory();
    while after > before + 16.0 && start.elapsed() < Duration::from_secs(15) {
        // Requests keep the threads turning, as they do in production.
        crate::honest::run(&trial.sidecar.grpc, Duration::from_millis(500)).await;
        after = trial.sidecar.memory();
    }
    assert!(after <= before + 16.0, "{before:.0} MiB before the peak, {after:.0} after");
}

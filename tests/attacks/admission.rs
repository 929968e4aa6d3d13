//! Claims instead of bytes: announced lengths, open streams, closed windows.
use crate::raw::{DATA, Raw, Reads, data_frames, frame, open};
use crate::support::dense;
use crate::support::framing;
use crate::support::requests::{METADATA, PREDICT};
use crate::trial::{Trial, hold, hold_many};

/// What most attackers let each stream be sent.
const WINDOW: u32 = 1 << 20;

/// So many calls, each with `body` in place of a whole message.
fn calls(count: u32, path: &str, body: &[u8]) -> Vec<u8> {
    (0..count)
        .flat_map(|call| {
            let mut frames = open(2 * call + 1, path);
            if !body.is_empty() {
                frames.extend(frame(DATA, 0, 2 * call + 1, body));
            }
            frames
        })
        .collect()
}

#[tokio::test]
async fn prefixes_that_announce_two_gibibytes() {
    let trial = Trial::new("320 prefixes that announce 2 GiB").await;
    let prefixes = calls(320, PREDICT, &[0, 0x7f, 0xff, 0xff, 0xff]);
    trial.run(async move |addr, stop| hold(&addr, &stop, WINDOW, Reads::Yes, &prefixes).await).await;
}

#[tokio::test]
async fn prefixes_that_announce_what_is_left_of_the_limit() {
    let trial = Trial::new("prefixes that announce 1 MiB, on 8 connections").await;
    let prefixes = calls(40, PREDICT, &[0, 0, 0x10, 0, 0]);
    trial.run(async move |addr, stop| hold_many(&addr, &stop, 8, WINDOW, Reads::Yes, &prefixes).await).await;
}

#[tokio::test]
async fn streams_that_send_only_headers() {
    let trial = Trial::new("4,000 streams of headers only").await;
    let headers = calls(4_000, PREDICT, b"");
    trial.run(async move |addr, stop| hold(&addr, &stop, WINDOW, Reads::Yes, &headers).await).await;
}

#[tokio::test]
async fn streams_of_headers_on_many_connections() {
    let trial = Trial::new("64 streams of headers only on each of 64 connections").await;
    let headers = calls(64, PREDICT, b"");
    trial.run(async move |addr, stop| hold_many(&addr, &stop, 64, WINDOW, Reads::Yes, &headers).await).await;
}

#[tokio::test]
async fn requests_of_a_client_whose_window_is_closed() {
    let trial = Trial::new("1,024 requests with a window of 0").await;
    let body = framing::frame(&dense::conforming(), false);
    let request =
        |call: u32| [open(2 * call + 1, PREDICT), data_frames(2 * call + 1, &body, 1 << 14)].concat();
    let requests: Vec<u8> = (0..1_024).flat_map(request).collect();
    trial.run(async move |addr, stop| hold(&addr, &stop, 0, Reads::No, &requests).await).await;
}

#[tokio::test]
async fn bodies_of_one_byte_a_second() {
    let trial = Trial::new("2,000 bodies that grow by a byte a second").await;
    trial
        .run(async |addr, stop| {
            let mut raw = Raw::connect(&addr, WINDOW, Reads::Yes).await.unwrap();
            raw.send(&calls(2_000, PREDICT, b"")).await.ok();
            let mut seconds = tokio::time::interval(std::time::Duration::from_secs(1));
            while !stop.is_cancelled() {
                seconds.tick().await;
                for call in 0..2_000 {
                    raw.frame(DATA, 0, 2 * call + 1, &[0]).await.ok();
                }
            }
        })
        .await;
}

#[tokio::test]
async fn unfinished_streams_that_pass_through() {
    let trial = Trial::new("4,000 unfinished calls of GetModelMetadata").await;
    let headers = calls(4_000, METADATA, b"");
    trial.run(async move |addr, stop| hold(&addr, &stop, WINDOW, Reads::Yes, &headers).await).await;
}

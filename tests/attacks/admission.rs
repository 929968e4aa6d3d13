//! Claims instead of bytes: announced lengths, open streams, closed windows.
use crate::support::attacks::{WINDOW, calls, slow_bodies};
use crate::support::dense;
use crate::support::dial::Dial;
use crate::support::frames::{Reads, data_frames, open};
use crate::support::framing;
use crate::support::requests::{METADATA, PREDICT};
use crate::trial::{Trial, hold, hold_many};

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
            slow_bodies(&Dial::plain(&addr), &stop, PREDICT, 2_000).await;
        })
        .await;
}

#[tokio::test]
async fn unfinished_streams_that_pass_through() {
    let trial = Trial::new("4,000 unfinished calls of GetModelMetadata").await;
    let headers = calls(4_000, METADATA, b"");
    trial.run(async move |addr, stop| hold(&addr, &stop, WINDOW, Reads::Yes, &headers).await).await;
}

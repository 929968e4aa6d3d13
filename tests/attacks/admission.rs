//! Claims instead of bytes: announced lengths, open streams, closed windows.
use crate::raw::{DATA, Raw, Reads, data_frames, open};
use crate::support::dense;
use crate::support::framing::frame;
use crate::support::requests::{METADATA, PREDICT};
use crate::trial::{Trial, until_stopped};

#[tokio::test]
async fn prefixes_that_announce_two_gibibytes() {
    let trial = Trial::new("320 prefixes that announce 2 GiB").await;
    trial
        .run(async |addr, stop| {
            until_stopped(&stop, async || {
                let mut raw = Raw::connect(&addr, 1 << 20, Reads::Yes).await?;
                for call in 0..320 {
                    let stream = 2 * call + 1;
                    raw.open(stream, PREDICT).await?;
                    raw.frame(DATA, 0, stream, &[0, 0x7f, 0xff, 0xff, 0xff]).await?;
                }
                stop.cancelled().await;
                Ok(())
            })
            .await;
        })
        .await;
}

#[tokio::test]
async fn prefixes_that_announce_what_is_left_of_the_limit() {
    let trial = Trial::new("prefixes that announce 1 MiB, on 8 connections").await;
    trial
        .run(async |addr, stop| {
            let mut connections = Vec::new();
            for _ in 0..8 {
                let mut raw = Raw::connect(&addr, 1 << 20, Reads::Yes).await.unwrap();
                for call in 0..40 {
                    let stream = 2 * call + 1;
                    raw.open(stream, PREDICT).await.ok();
                    raw.frame(DATA, 0, stream, &[0, 0, 0x10, 0, 0]).await.ok();
                }
                connections.push(raw);
            }
            stop.cancelled().await;
        })
        .await;
}

#[tokio::test]
async fn streams_that_send_only_headers() {
    let trial = Trial::new("4,000 streams of headers only").await;
    trial
        .run(async |addr, stop| {
            until_stopped(&stop, async || {
                let mut raw = Raw::connect(&addr, 1 << 20, Reads::Yes).await?;
                let all: Vec<u8> = (0..4_000).flat_map(|call| open(2 * call + 1, PREDICT)).collect();
                raw.send(&all).await?;
                stop.cancelled().await;
                Ok(())
            })
            .await;
        })
        .await;
}

#[tokio::test]
async fn streams_of_headers_on_many_connections() {
    let trial = Trial::new("64 streams of headers only on each of 64 connections").await;
    trial
        .run(async |addr, stop| {
            let mut connections = Vec::new();
            for _ in 0..64 {
                let mut raw = Raw::connect(&addr, 1 << 20, Reads::Yes).await.unwrap();
                let all: Vec<u8> = (0..64).flat_map(|call| open(2 * call + 1, PREDICT)).collect();
                raw.send(&all).await.ok();
                connections.push(raw);
            }
            stop.cancelled().await;
        })
        .await;
}

#[tokio::test]
async fn requests_of_a_client_whose_window_is_closed() {
    let trial = Trial::new("1,024 requests with a window of 0").await;
    trial
        .run(async |addr, stop| {
            until_stopped(&stop, async || {
                let mut raw = Raw::connect(&addr, 0, Reads::No).await?;
                let body = frame(&dense::conforming(), false);
                for call in 0..1_024 {
                    let stream = 2 * call + 1;
                    let mut request = open(stream, PREDICT);
                    request.extend(data_frames(stream, &body, 1 << 14));
                    raw.send(&request).await?;
                }
                stop.cancelled().await;
                Ok(())
            })
            .await;
        })
        .await;
}

#[tokio::test]
async fn bodies_of_one_byte_a_second() {
    let trial = Trial::new("2,000 bodies that grow by a byte a second").await;
    trial
        .run(async |addr, stop| {
            let mut raw = Raw::connect(&addr, 1 << 20, Reads::Yes).await.unwrap();
            let all: Vec<u8> = (0..2_000).flat_map(|call| open(2 * call + 1, PREDICT)).collect();
            raw.send(&all).await.ok();
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
    trial
        .run(async |addr, stop| {
            until_stopped(&stop, async || {
                let mut raw = Raw::connect(&addr, 1 << 20, Reads::Yes).await?;
                let all: Vec<u8> = (0..4_000).flat_map(|call| open(2 * call + 1, METADATA)).collect();
                raw.send(&all).await?;
                stop.cancelled().await;
                Ok(())
            })
            .await;
        })
        .await;
}

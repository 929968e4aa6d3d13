//! Messages whose framing or fields are meant to cost more work than their bytes are worth.
use std::io;

use crate::support::attacks::until_stopped;
use crate::support::dense::{INPUT, MODEL};
use crate::support::frames::{Raw, Reads, data_frames, open};
use crate::support::framing::frame;
use crate::support::requests::{PREDICT, field, number_field};
use crate::trial::Trial;

/// Values of a tensor that fits no shape of the model, so that it is refused and costs the upstream
/// nothing.
const VALUES: u64 = 300_001;

/// A Predict message for the dense model with one float tensor of `values` elements and these raw
/// fields; `more` follows the inputs.
fn message(values: u64, fields: &[u8], more: &[u8]) -> Vec<u8> {
    let dim = field(2, &number_field(1, values));
    let tensor = [number_field(1, 1), field(2, &dim), fields.to_vec()].concat();
    let entry = [field(1, INPUT.as_bytes()), field(2, &tensor)].concat();
    [field(1, &field(1, MODEL.as_bytes())), field(2, &entry), more.to_vec()].concat()
}

/// `float_val` as one packed field for each value: six bytes each.
fn packed_one_by_one(values: u64) -> Vec<u8> {
    field(5, &1f32.to_le_bytes()).repeat(values as usize)
}

/// Sends the body again and again, each time as one call in DATA frames of `size` bytes.
async fn repeat(addr: &str, message: &[u8], size: usize) -> io::Result<()> {
    let body = frame(message, false);
    let frames = data_frames(1, &body, size);
    let mut raw = Raw::connect(addr, 1 << 20, Reads::Yes).await?;
    raw.open(1, PREDICT).await?;
    raw.send(&frames).await?;
    let mut stream = 3;
    while !raw.is_closed() {
        let mut next = open(stream, PREDICT);
        next.extend(data_frames(stream, &body, size));
        raw.send(&next).await?;
        stream += 2;
    }
    Ok(())
}

#[tokio::test]
async fn packed_fields_in_frames_of_one_byte() {
    let trial = Trial::new("1.8 MB of 300,001 packed fields in frames of 1 byte").await;
    trial
        .run(async |addr, stop| {
            let message = message(VALUES, &packed_one_by_one(VALUES), &[]);
            until_stopped(&stop, async || repeat(&addr, &message, 1).await).await;
        })
        .await;
}

#[tokio::test]
async fn thirty_megabytes_in_frames_of_16_kib() {
    let trial = Trial::new("30 MB of packed fields in frames of 16 KiB").await;
    trial
        .run(async |addr, stop| {
            let values = 5_000_001;
            let message = message(values, &packed_one_by_one(values), &[]);
            until_stopped(&stop, async || repeat(&addr, &message, 16 << 10).await).await;
        })
        .await;
}

#[tokio::test]
async fn unknown_fields_of_two_bytes() {
    let trial = Trial::new("40 MB of unknown fields of 2 bytes").await;
    trial
        .run(async |addr, stop| {
            let message = message(VALUES, &[], &number_field(15, 1).repeat(20_000_000));
            until_stopped(&stop, async || repeat(&addr, &message, 1 << 20).await).await;
        })
        .await;
}

#[tokio::test]
async fn inputs_by_the_hundred_thousand() {
    let trial = Trial::new("100,000 inputs with unknown names").await;
    trial
        .run(async |addr, stop| {
            let entry = |at: u32| {
                let tensor = [number_field(1, 1), field(2, &[]), field(5, &1f32.to_le_bytes())].concat();
                field(2, &[field(1, format!("input_tensor_{at}").as_bytes()), field(2, &tensor)].concat())
            };
            let inputs: Vec<u8> = (0..100_000).flat_map(entry).collect();
            let message = message(VALUES, &[], &inputs);
            until_stopped(&stop, async || repeat(&addr, &message, 64 << 10).await).await;
        })
        .await;
}

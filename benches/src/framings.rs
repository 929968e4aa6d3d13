//! One message in DATA frames of several sizes: collected, scanned, judged and repaired.
use std::hint::black_box;

use bytes::Bytes;
use tfs_sidecar::repair::{Action, Limits, ModelPolicy, Request, apply, judge, notation};
use tfs_sidecar::signature::Signatures;
use tfs_sidecar::tensor::{DataType, Shape};
use tfs_sidecar::transport::framing::{Assembler, Message, frames};
use tfs_sidecar::wire::{PredictView, Rope, emit};

/// Frame sizes in bytes; the first is the whole message.
pub const FRAMES: [(&str, usize); 5] =
    [("whole", usize::MAX), ("16 KiB", 16_384), ("1 KiB", 1024), ("100 bytes", 100), ("1 byte", 1)];

pub struct Framed {
    pub name: &'static str,
    body: Bytes,
    signatures: Signatures,
}

/// A tensor of bytes, and a list whose every value is a packed field of its own: many ranges to
/// find in many chunks.
pub fn all() -> [Framed; 2] {
    let content = emit::content(Rope::from(vec![7; 900_000]));
    let list: Rope = std::iter::repeat_n(Bytes::from_static(&[10 << 3 | 2, 1, 7]), 300_000).collect();
    [
        framed("900,000 bytes of tensor_content", DataType::UINT8, 900_000, &content, "x:uint8[-1,900000]"),
        framed("300,000 packed fields of a value", DataType::INT64, 300_000, &list, "x:int32[-1,300000]"),
    ]
}

fn framed(name: &'static str, dtype: DataType, elements: i64, values: &Rope, signature: &str) -> Framed {
    let tensor = emit::new_tensor(dtype, &Shape::from([elements]), values);
    let mut entry = vec![0x0a, 1, b'x', 0x12];
    emit::put_varint(&mut entry, tensor.len() as u64);
    entry.extend_from_slice(&tensor);
    let mut message = vec![0x0a, 3, 0x0a, 1, b'm', 0x12];
    emit::put_varint(&mut message, entry.len() as u64);
    message.extend_from_slice(&entry);
    let mut body = vec![0];
    body.extend((message.len() as u32).to_be_bytes());
    body.extend(message);
    Framed { name, body: Bytes::from(body), signatures: notation::signature(signature).expect("it parses") }
}

impl Framed {
    /// From the first frame to the frames that go out.
    pub fn run(&self, frame: usize) {
        let message = self.message(frame);
        let (message, policy) = (&message.payload, ModelPolicy::default());
        let view = PredictView::scan(message).expect("the request is sound");
        let signatures = &self.signatures;
        let limits = Limits::default();
        let verdict = judge(&Request { message, view: &view, signatures, policy: &policy, limits, raised: None, text: None });
        assert_eq!(verdict.action, Action::Apply);
        let made = apply(message, &view, &verdict.plan).expect("what was planned can be done");
        _ = black_box(frames(made).expect("it is small"));
    }

    /// Number of frames of this size.
    pub fn frames(&self, frame: usize) -> usize {
        self.body.len().div_ceil(frame)
    }

    /// Number of chunks that the message is held in.
    pub fn chunks(&self, frame: usize) -> usize {
        self.message(frame).frames.len()
    }

    fn message(&self, frame: usize) -> Message {
        let mut assembler = Assembler::default();
        for start in (0..self.body.len()).step_by(frame) {
            let end = self.body.len().min(start.saturating_add(frame));
            assembler.push(self.body.slice(start..end)).expect("the body is sound");
        }
        assembler.finish().expect("the body is whole")
    }
}

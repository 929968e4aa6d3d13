//! Which requests may share a run: those with equal keys.
use std::hash::{BuildHasher, Hasher};

use super::part::Part;
use crate::wire::{ModelSpec, Rope, VersionChoice};

/// Requests with equal keys may share a run. `metadata` is what else must be equal. The hasher must
/// be keyed: clients choose what is hashed.
pub(crate) fn key(
    hasher: &impl BuildHasher,
    spec: &ModelSpec,
    part: &Part,
    metadata: &[(&[u8], &[u8])],
) -> u128 {
    let mut digest = Digest::new(hasher);
    match &spec.version {
        VersionChoice::Latest => digest.number(0),
        VersionChoice::Version(version) => {
            digest.number(1);
            digest.number(*version as u64);
        }
        VersionChoice::Label(label) => {
            digest.number(2);
            digest.bytes(label.as_bytes());
        }
    }
    digest.bytes(spec.effective_signature().as_bytes());
    digest.rope(&part.output_filter);
    digest.number(part.inputs.len() as u64);
    for input in &part.inputs {
        digest.number(input.index as u64);
        digest.number(u64::from(input.dtype.number() as u32) << 32 | input.shape.rank() as u64);
        for size in input.shape.iter() {
            digest.number(*size as u64);
        }
        digest.number(u64::from(input.is_scalar));
        if input.is_scalar {
            digest.rope(&input.values);
        }
    }
    for (name, value) in metadata {
        digest.bytes(name);
        digest.bytes(value);
    }
    digest.finish()
}

/// Bytes that are hashed at once.
const BLOCK: usize = 128;

/// Two hashes of the same bytes, which differ in their first byte. Every item has its length before
/// it, so that no two sequences have the same bytes.
struct Digest<H> {
    low: H,
    high: H,
    block: [u8; BLOCK],
    used: usize,
}

impl<H: Hasher> Digest<H> {
    fn new(hasher: &impl BuildHasher<Hasher = H>) -> Self {
        let (low, mut high) = (hasher.build_hasher(), hasher.build_hasher());
        high.write_u8(1);
        Self { low, high, block: [0; BLOCK], used: 0 }
    }

    #[inline]
    fn number(&mut self, number: u64) {
        if self.used + 8 > BLOCK {
            self.flush();
        }
        self.block[self.used..self.used + 8].copy_from_slice(&number.to_le_bytes());
        self.used += 8;
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.raw(bytes);
    }

    fn rope(&mut self, rope: &Rope) {
        self.number(rope.len() as u64);
        rope.segments().iter().for_each(|chunk| self.raw(chunk));
    }

    fn raw(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.used == BLOCK {
                self.flush();
            }
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.used));
            self.block[self.used..self.used + now.len()].copy_from_slice(now);
            self.used += now.len();
            bytes = later;
        }
    }

    /// What was collected is written in one piece, and cuts depend on the lengths alone.
    fn flush(&mut self) {
        self.low.write(&self.block[..self.used]);
        self.high.write(&self.block[..self.used]);
        self.used = 0;
    }

    fn finish(mut self) -> u128 {
        self.flush();
        u128::from(self.high.finish()) << 64 | u128::from(self.low.finish())
    }
}

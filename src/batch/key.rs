//! Which requests may share a run: those with equal keys.
use std::hash::{BuildHasher, Hasher};

use super::part::Part;
use crate::wire::{DEFAULT_SIGNATURE, PredictView, Rope, VersionChoice};

/// Requests with equal keys may share a run. `view` is the scan that the part was made from, and
/// `metadata` is what else must be equal.
///
/// The hasher must be keyed, because clients choose what is hashed, and have a state of more than
/// 128 bits, such as SipHash: the second half of the key is the hash of the same bytes and a few
/// more.
pub(crate) fn key(
    hasher: &impl BuildHasher,
    view: &PredictView,
    part: &Part,
    metadata: &[(&[u8], &[u8])],
) -> u128 {
    let mut digest = Digest { hasher: hasher.build_hasher(), block: [0; BLOCK], used: 0 };
    // The short items before the long ones: how many there are.
    let version = match &view.model_spec.version {
        VersionChoice::Latest => 0,
        VersionChoice::Version(_) => 1,
        VersionChoice::Label(_) => 2,
    };
    digest.number(version | (part.inputs.len() as u64) << 2 | (view.output_filter.len() as u64) << 32);
    match &view.model_spec.version {
        VersionChoice::Latest => {}
        VersionChoice::Version(version) => digest.number(*version as u64),
        VersionChoice::Label(label) => digest.bytes(label.as_bytes()),
    }
    match view.model_spec.effective_signature() {
        DEFAULT_SIGNATURE => digest.number(u64::MAX),
        name => digest.bytes(name.as_bytes()),
    }
    for name in &view.output_filter {
        digest.bytes(name.as_bytes());
    }
    for input in &part.inputs {
        // A shape has at most 254 dimensions, and only a known dtype, of a small number, is joined.
        let (dtype, rank) = (input.dtype.number() as u64 & 0xffff, input.shape.rank() as u64);
        digest.number((input.index as u64) << 32 | dtype << 16 | rank << 1 | u64::from(input.is_scalar));
        for size in input.shape.iter() {
            digest.number(*size as u64);
        }
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

/// Hashes items, each with its length before it, so that no two sequences have the same bytes.
struct Digest<H> {
    hasher: H,
    block: [u8; BLOCK],
    used: usize,
}

impl<H: Hasher> Digest<H> {
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

    /// Where blocks end depends on the lengths of the items alone, not on the chunks of a rope.
    fn flush(&mut self) {
        self.hasher.write(&self.block[..self.used]);
        self.used = 0;
    }

    fn finish(mut self) -> u128 {
        self.flush();
        let low = self.hasher.finish();
        self.hasher.write_u64(low);
        u128::from(self.hasher.finish()) << 64 | u128::from(low)
    }
}

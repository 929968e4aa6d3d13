//! The fingerprint of an export: whether its variables are those that it was written with.
use std::io::{Read, Seek};

use super::fields::{Fields, Payload, ReadError};
use super::files::{FINGERPRINT, INDEX};
use super::finding::{Actor, Finding, Level};

/// The hash of the index of the variables in a `fingerprint.pb` (protobuf/fingerprint.proto, field
/// 5), which TensorFlow writes since 2.12 and does not compare.
///
/// # Errors
/// If the bytes cannot be read or are no fingerprint.
pub fn checkpoint_hash(input: impl Read + Seek) -> Result<Option<u64>, ReadError> {
    let mut from = Fields::new(input)?;
    let (end, mut hash) = (from.length(), None);
    while let Some((number, payload)) = from.next(end)? {
        match (number, payload) {
            (5, Payload::Varint(value)) => hash = Some(value),
            (_, payload) => from.pass(payload)?,
        }
    }
    Ok(hash)
}

/// Compares the hash of a fingerprint with the index. The other hashes are of messages that
/// TensorFlow sorts first (cc/saved_model/fingerprinting_utils.cc), so they are not compared.
pub fn check(written: Result<Option<u64>, ReadError>, index: &[u8]) -> Option<Finding> {
    let again = "copy all files of one export again under a new number";
    match written {
        Ok(Some(hash)) => {
            let own = fingerprint64(index).filter(|own| *own != hash && hash != 0)?;
            let what = format!("`{INDEX}` is not the one that the export wrote");
            let why = format!(
                "`{FINGERPRINT}` has {hash:016x}, the file {own:016x}: weights of another export may load, and give other answers"
            );
            Some(Finding::new(Level::Warn, "files", what).why(why).act(Actor::Platform, again))
        }
        Ok(None) => None,
        Err(error) => {
            let what = format!("`{FINGERPRINT}` {error}");
            let why = "TensorFlow does not read it, but the copy may not be complete";
            Some(Finding::new(Level::Warn, "files", what).why(why).act(Actor::Platform, again))
        }
    }
}

const K0: u64 = 0xc3a5_c85c_97cb_3127;
const K1: u64 = 0xb492_b66f_be98_f273;
const K2: u64 = 0x9ae1_6a3b_2f90_404f;

fn fetch(bytes: &[u8], at: usize) -> u64 {
    let word = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>);
    word.map_or(0, |word| u64::from_le_bytes(*word))
}

fn shift_mix(value: u64) -> u64 {
    value ^ value >> 47
}

fn hash_16(low: u64, high: u64, by: u64) -> u64 {
    let first = shift_mix((low ^ high).wrapping_mul(by));
    shift_mix((high ^ first).wrapping_mul(by)).wrapping_mul(by)
}

/// Mixes 32 bytes into a pair.
fn weak_hash(bytes: &[u8], at: usize, first: u64, second: u64) -> (u64, u64) {
    let [one, two, three, four] = [0, 8, 16, 24].map(|step| fetch(bytes, at + step));
    let first = first.wrapping_add(one);
    let second = second.wrapping_add(first).wrapping_add(four).rotate_right(21);
    let sum = first.wrapping_add(two).wrapping_add(three);
    (sum.wrapping_add(four), second.wrapping_add(sum.rotate_right(44)).wrapping_add(first))
}

/// `Fingerprint64` of FarmHash (platform/fingerprint.h), for more than 64 bytes: no index has less.
fn fingerprint64(bytes: &[u8]) -> Option<u64> {
    const SEED: u64 = 81;
    let last = bytes.len().checked_sub(1).filter(|last| *last >= 64)?;
    let mut y = SEED.wrapping_mul(K1).wrapping_add(113);
    let mut z = shift_mix(y.wrapping_mul(K2).wrapping_add(113)).wrapping_mul(K2);
    let (mut left, mut right) = ((0_u64, 0_u64), (0_u64, 0_u64));
    let mut x = SEED.wrapping_mul(K2).wrapping_add(fetch(bytes, 0));
    let mut block = |at: usize, by: u64, times: u64, left: &mut (u64, u64), right: &mut (u64, u64)| {
        let sum = x.wrapping_add(y).wrapping_add(left.0).wrapping_add(fetch(bytes, at + 8));
        x = sum.rotate_right(37).wrapping_mul(by) ^ right.1.wrapping_mul(times);
        let sum = y.wrapping_add(left.1).wrapping_add(fetch(bytes, at + 48));
        y = sum.rotate_right(42).wrapping_mul(by);
        y = y.wrapping_add(left.0.wrapping_mul(times)).wrapping_add(fetch(bytes, at + 40));
        z = z.wrapping_add(right.0).rotate_right(33).wrapping_mul(by);
        *left = weak_hash(bytes, at, left.1.wrapping_mul(by), x.wrapping_add(right.0));
        let second = y.wrapping_add(fetch(bytes, at + 16));
        *right = weak_hash(bytes, at + 32, z.wrapping_add(right.1), second);
        std::mem::swap(&mut z, &mut x);
        (x, y, z)
    };
    let mut mixed = (0, 0, 0);
    for at in (0..last / 64 * 64).step_by(64) {
        mixed = block(at, K1, 1, &mut left, &mut right);
    }
    let by = K1.wrapping_add((mixed.2 & 0xff) << 1);
    right.0 = right.0.wrapping_add(last as u64 & 63);
    left.0 = left.0.wrapping_add(right.0);
    right.0 = right.0.wrapping_add(left.0);
    let (x, y, z) = block(last - 63, by, 9, &mut left, &mut right);
    let low = hash_16(left.0, right.0, by).wrapping_add(shift_mix(y).wrapping_mul(K0)).wrapping_add(z);
    Some(hash_16(low, hash_16(left.1, right.1, by).wrapping_add(x), by))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn file(name: &str) -> Vec<u8> {
        let path = format!("{}/tests/fixtures/saved_models/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(path).unwrap()
    }

    #[test]
    fn the_fingerprint_of_each_export_is_that_of_its_variables() {
        for export in ["tf2.12", "tf2.15", "tf2.16", "tf2.21"] {
            for kind in ["module", "keras"] {
                let hash = checkpoint_hash(Cursor::new(file(&format!("{export}/{kind}/fingerprint.pb"))));
                let index = file(&format!("{export}/{kind}/{INDEX}"));
                assert_eq!(hash.as_ref().unwrap(), &fingerprint64(&index), "{export} {kind}");
                assert_eq!(check(hash, &index), None, "{export} {kind}");
            }
        }
    }

    #[test]
    fn variables_of_another_export_are_found() {
        let hash = || checkpoint_hash(Cursor::new(file("tf2.16/keras/fingerprint.pb")));
        let found = check(hash(), &file(&format!("tf2.15/keras/{INDEX}"))).unwrap();
        assert!(found.level == Level::Warn && found.what.contains("not the one"), "{found:?}");
        let mut index = file(&format!("tf2.16/keras/{INDEX}"));
        for at in 0..index.len() {
            index[at] ^= 1;
            assert!(check(hash(), &index).is_some(), "byte {at}");
            index[at] ^= 1;
        }
        let damaged = check(checkpoint_hash(Cursor::new(b"\xff\xff garbage".to_vec())), &index).unwrap();
        assert!(damaged.what.contains("fingerprint.pb"), "{damaged:?}");
        assert_eq!(check(checkpoint_hash(Cursor::new(Vec::new())), &index), None);
    }

    #[test]
    fn the_hash_is_the_one_of_tensorflow() {
        // tf.fingerprint of these bytes, TensorFlow 2.21.
        let bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for (length, expected) in EXPECTED {
            assert_eq!(fingerprint64(&bytes[..length]), Some(expected), "{length}");
        }
        assert_eq!(fingerprint64(&bytes[..64]), None);
    }

    const EXPECTED: [(usize, u64); 5] = [
        (65, 0xc6a3_282c_3e79_3dbe),
        (127, 0xea8b_e9fa_0539_3db5),
        (128, 0x1c48_4c95_f0ea_5dd3),
        (129, 0xce8b_a374_1121_083e),
        (1000, 0x6f79_79ad_c223_bce4),
    ];
}

//! Target `framing`: the frames in which a body comes do not change its message or its error, and
//! their number does not make the message take more memory.
use bytes::Bytes;
use tfs_sidecar::transport::framing::{Assembler, FramingError, Message, frames};
use tfs_sidecar::wire::Rope;

use super::choices::Choices;

/// Half of the smallest buffer that small frames are joined in.
const JOINED: usize = 6 * 1024;

/// The first two bytes are a number of cuts and of repetitions; then the cuts, then the body. The
/// body is repeated, so that small inputs make large messages.
pub fn framing(data: &[u8]) {
    let mut choices = Choices::new(data);
    let (cuts, times) = (choices.byte() as usize, choices.byte() as usize);
    let sizes: Vec<usize> = (0..cuts).map(|_| size(choices.byte())).collect();
    let mut body = choices.rest().to_vec();
    if times > 0 && body.len() > 5 {
        let payload = body[5..].repeat(1 + times);
        body.truncate(1);
        body.extend((payload.len() as u32).to_be_bytes());
        body.extend(payload);
    }
    let whole = assemble([body.len()], &body);
    for found in [assemble([1], &body), assemble(sizes.iter().copied(), &body)] {
        match (&whole, &found) {
            (Ok(whole), Ok(found)) => same(whole, found, &body),
            // The surplus is told when it is seen, so its amount depends on the frames.
            (Err(FramingError::More { .. }), Err(FramingError::More { .. })) => {}
            (Err(whole), Err(found)) => assert_eq!(found, whole),
            (whole, found) => panic!("{whole:?}\n{found:?}"),
        }
    }
    if let Ok(message) = whole {
        sends(&message.payload);
    }
}

/// Sizes from 0 to 8 KiB, both small and large ones.
fn size(choice: u8) -> usize {
    if choice < 128 { choice as usize } else { (choice as usize - 127) * 64 }
}

/// The message in frames of these sizes, over and over.
fn assemble(
    sizes: impl IntoIterator<Item = usize, IntoIter: Clone>,
    body: &[u8],
) -> Result<Message, FramingError> {
    let mut assembler = Assembler::default();
    let mut rest = body;
    let mut sizes = sizes.into_iter().chain([1]).cycle();
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(1).min(rest.len());
        let (frame, left) = rest.split_at(size);
        assembler.push(Bytes::copy_from_slice(frame))?;
        rest = left;
    }
    assembler.finish()
}

fn same(whole: &Message, found: &Message, body: &[u8]) {
    assert_eq!(found.frames.concat(), body);
    assert_eq!((&found.payload, found.compressed), (&whole.payload, whole.compressed));
    assert_eq!(found.payload.to_bytes(), body[5..]);
    // Large frames are kept, and at most one buffer of small ones comes before each.
    let large = found.frames.iter().filter(|frame| frame.len() >= 4096).count();
    let most = 4 + 2 * large + body.len() / JOINED + 1;
    assert!(found.frames.len() <= most, "{} frames of {} bytes", found.frames.len(), body.len());
}

/// What is sent has the prefix and the bytes of the message.
fn sends(payload: &Rope) {
    let sent = frames(payload.clone()).expect("it is shorter than 4 GiB").concat();
    assert_eq!(sent[..5], [&[0], &(payload.len() as u32).to_be_bytes()[..]].concat());
    assert_eq!(sent[5..], payload.to_bytes());
}

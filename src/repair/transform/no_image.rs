//! In place of the decoders, in programs that are built without the feature `image`.
use super::{Channels, Resize};

pub(super) const MAX_PIXELS: usize = 0;

pub(super) type Size = [usize; 2];

pub(super) type Why = &'static str;

const WITHOUT: Why = "an image, and this program was built without images";

pub(super) fn size(_: &[u8]) -> Result<Size, Why> {
    Err(WITHOUT)
}

pub(super) fn decode(_: &[u8], _: Channels) -> Result<(Size, Vec<u8>), Why> {
    Err(WITHOUT)
}

pub(super) fn resized(_: &[u8], _: Size, _: Size, _: usize, _: Resize, _: impl FnMut(f32)) {}

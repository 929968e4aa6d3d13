//! Image files of a tensor of strings: whether they can be decoded, and their pixels.
use super::strings::{self, Source, Unfit};
use super::{Channels, Image, Resize, Transform, image};
use crate::tensor::{Cast, DataType, Exactness, Shape};
use crate::wire::values::Stop;
use crate::wire::{Rope, TensorView};

/// The pixels that a tensor of files becomes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Planned {
    /// `[N,height,width,channels]`
    pub shape: Shape,
    /// Bytes that are allocated while one of the files is decoded.
    pub scratch: u64,
}

/// Decodes all files once, to know that they can be, and how large they are. `declared` is height,
/// width and channels; height and width may be -1, and are then those of the files.
///
/// # Errors
/// The first file that is none, is damaged, has too many pixels, or has another size.
pub(super) fn plan(
    message: &Rope,
    tensor: &TensorView,
    source: Source,
    texts: &[&Transform],
    options: Image,
    declared: [i64; 3],
) -> Result<Planned, Stop<Unfit>> {
    let (mut count, mut pixels, mut largest) = (0, 0, 0);
    let [mut height, mut width, depth] = declared;
    strings::each(message, tensor, source, &mut |string| {
        let unfit = |why| Unfit { index: count as u64, why };
        let file = strings::change(texts, &string).map_err(unfit)?;
        let [rows, columns] = image::size(&file).map_err(unfit)?;
        pixels += rows * columns;
        if pixels > image::MAX_PIXELS {
            return Err(unfit("one of too many pixels in one request"));
        }
        largest = largest.max(rows * columns).max(file.len());
        for (wanted, has) in [(&mut height, rows), (&mut width, columns)] {
            let has = i64::try_from(has).unwrap_or(i64::MAX);
            // Several images of one tensor have one size.
            if *wanted < 0 {
                *wanted = has;
            } else if *wanted != has && options.resize == Resize::Off {
                return Err(unfit("an image of another size, and `resize` is off"));
            }
        }
        image::decode(&file, options.channels).map_err(unfit)?;
        count += 1;
        Ok(())
    })?;
    let shape = Shape::from([count, height, width, depth]);
    // Up to four bytes a pixel from the decoder, twice that in its work, three that are kept.
    Ok(Planned { shape, scratch: (largest as u64).saturating_mul(16) })
}

/// The pixels of all files in this shape and dtype.
pub(super) fn make(
    message: &Rope,
    tensor: &TensorView,
    source: Source,
    texts: &[&Transform],
    options: Image,
    (shape, dtype): (&Shape, DataType),
) -> Vec<u8> {
    let size = |axis: usize| shape.get(axis).map_or(0, |size| usize::try_from(*size).unwrap_or(0));
    let (to, depth) = ([size(1), size(2)], size(3));
    let width = dtype.size().unwrap_or(1);
    let mut out = Vec::with_capacity(size(0) * to[0] * to[1] * depth * width);
    let cast = Cast::new(DataType::FLOAT, dtype, Exactness::Round);
    // The plan has decoded each of them, so none fails here.
    let made = strings::each(message, tensor, source, &mut |string| {
        let file = strings::change(texts, &string)?;
        let (from, pixels) = image::decode(&file, options.channels)?;
        image::resized(&pixels, from, to, depth, options.resize, |value| match (dtype, cast) {
            (DataType::UINT8, _) => out.push(value.round() as u8),
            (DataType::FLOAT, _) => out.extend(value.to_le_bytes()),
            (_, Some(cast)) => cast.convert(&value.to_le_bytes(), &mut out),
            (_, None) => {}
        });
        Ok::<(), image::Why>(())
    });
    drop(made);
    out
}

/// Numbers of a pixel.
pub(super) fn depth(channels: Channels) -> i64 {
    if channels == Channels::Gray { 1 } else { 3 }
}

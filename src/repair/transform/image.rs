//! Pixels of image files. The size is read first and bounded, then the file is decoded.
use std::io::Cursor;

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{Channels, Resize};

/// Pixels of all images of a request, before they are resized. A file of a few bytes can have any
/// number.
pub(super) const MAX_PIXELS: usize = 1 << 25;

/// Height and width.
pub(super) type Size = [usize; 2];

/// Why a file has no pixels.
pub(super) type Why = &'static str;

const UNKNOWN: Why = "no JPEG, PNG or WebP file";
const DAMAGED: Why = "a damaged image file";
const TOO_LARGE: Why = "an image of too many pixels";

enum Format {
    Jpeg,
    Png,
    Webp,
}

fn format(file: &[u8]) -> Result<Format, Why> {
    match file {
        [0xff, 0xd8, 0xff, ..] => Ok(Format::Jpeg),
        [0x89, b'P', b'N', b'G', ..] => Ok(Format::Png),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Format::Webp),
        _ => Err(UNKNOWN),
    }
}

/// Height and width of an image, from the beginning of its file.
///
/// # Errors
/// It is no image file, or has no pixels or more than [`MAX_PIXELS`].
pub(super) fn size(file: &[u8]) -> Result<Size, Why> {
    let size = match format(file)? {
        Format::Jpeg => {
            let mut decoder = jpeg(file, ColorSpace::RGB);
            decoder.decode_headers().map_err(|_| DAMAGED)?;
            decoder.dimensions().map(|(width, height)| [height, width])
        }
        Format::Png => {
            let reader = png(file)?;
            let info = reader.info();
            Some([info.height as usize, info.width as usize])
        }
        Format::Webp => {
            let decoder = webp(file)?;
            let (width, height) = decoder.dimensions();
            Some([height as usize, width as usize])
        }
    };
    let [height, width] = size.ok_or(DAMAGED)?;
    match height.checked_mul(width) {
        Some(0) | None => Err(DAMAGED),
        Some(pixels) if pixels > MAX_PIXELS => Err(TOO_LARGE),
        Some(_) => Ok([height, width]),
    }
}

fn jpeg(file: &[u8], colors: ColorSpace) -> JpegDecoder<Cursor<&[u8]>> {
    let limit = u16::MAX as usize;
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(limit)
        .set_max_height(limit)
        .jpeg_set_out_colorspace(colors);
    JpegDecoder::new_with_options(Cursor::new(file), options)
}

fn png(file: &[u8]) -> Result<png::Reader<Cursor<&[u8]>>, Why> {
    let limits = png::Limits { bytes: MAX_PIXELS * 8 };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(file), limits);
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    decoder.read_info().map_err(|_| DAMAGED)
}

fn webp(file: &[u8]) -> Result<image_webp::WebPDecoder<Cursor<&[u8]>>, Why> {
    let mut decoder = image_webp::WebPDecoder::new(Cursor::new(file)).map_err(|_| DAMAGED)?;
    decoder.set_memory_limit(MAX_PIXELS * 4);
    Ok(decoder)
}

/// The pixels of an image in rows, as red, green and blue, in any order, or gray. An alpha channel
/// is dropped, as TensorFlow does with `channels=3`.
///
/// # Errors
/// It cannot be decoded.
pub(super) fn decode(file: &[u8], channels: Channels) -> Result<(Size, Vec<u8>), Why> {
    let [height, width] = size(file)?;
    let (depth, pixels) = match format(file)? {
        Format::Jpeg => {
            // Gray is the luma of the file, as TensorFlow takes it.
            let gray = channels == Channels::Gray;
            let pixels = jpeg(file, if gray { ColorSpace::Luma } else { ColorSpace::RGB }).decode();
            (if gray { 1 } else { 3 }, pixels.map_err(|_| DAMAGED)?)
        }
        Format::Png => {
            let mut reader = png(file)?;
            let mut pixels = vec![0; reader.output_buffer_size().ok_or(TOO_LARGE)?];
            reader.next_frame(&mut pixels).map_err(|_| DAMAGED)?;
            (reader.output_color_type().0.samples(), pixels)
        }
        Format::Webp => {
            let mut decoder = webp(file)?;
            let mut pixels = vec![0; decoder.output_buffer_size().ok_or(TOO_LARGE)?];
            decoder.read_image(&mut pixels).map_err(|_| DAMAGED)?;
            (if decoder.has_alpha() { 4 } else { 3 }, pixels)
        }
    };
    if pixels.len() < height * width * depth {
        return Err(DAMAGED);
    }
    let mut out = Vec::with_capacity(height * width * depth_of(channels));
    for pixel in pixels.chunks_exact(depth).take(height * width) {
        let [red, green, blue] = match *pixel {
            [red, green, blue, ..] => [red, green, blue],
            [gray, ..] => [gray; 3],
            [] => [0; 3],
        };
        match channels {
            Channels::Rgb => out.extend([red, green, blue]),
            Channels::Bgr => out.extend([blue, green, red]),
            Channels::Gray => out.push(luma(red, green, blue)),
        }
    }
    Ok(([height, width], out))
}

/// BT.601, as JPEG and TensorFlow (`rgb_to_grayscale`) weigh the colours.
fn luma(red: u8, green: u8, blue: u8) -> u8 {
    if red == green && green == blue {
        return red;
    }
    let sum = 0.299 * f32::from(red) + 0.587 * f32::from(green) + 0.114 * f32::from(blue);
    sum.round() as u8
}

/// Numbers of a pixel.
fn depth_of(channels: Channels) -> usize {
    if channels == Channels::Gray { 1 } else { 3 }
}

/// The pixels in the wanted size, 0 to 255, passed on in rows.
pub(super) fn resized(
    pixels: &[u8],
    from: Size,
    to: Size,
    depth: usize,
    resize: Resize,
    mut sink: impl FnMut(f32),
) {
    if from == to || resize == Resize::Off {
        for value in pixels {
            sink(f32::from(*value));
        }
        return;
    }
    let [rows, columns] = [steps(from[0], to[0]), steps(from[1], to[1])];
    let at = |row: usize, column: usize, channel: usize| {
        f32::from(pixels.get((row * from[1] + column) * depth + channel).copied().unwrap_or(0))
    };
    for row in &rows {
        for column in &columns {
            for channel in 0..depth {
                let top = at(row.low, column.low, channel);
                let top = top + (at(row.low, column.high, channel) - top) * column.part;
                let bottom = at(row.high, column.low, channel);
                let bottom = bottom + (at(row.high, column.high, channel) - bottom) * column.part;
                sink(top + (bottom - top) * row.part);
            }
        }
    }
}

/// Two neighbours, and how much of the second one.
struct Step {
    low: usize,
    high: usize,
    part: f32,
}

/// `compute_interpolation_weights` of TensorFlow (`core/kernels/image/resize_bilinear_op.cc`), with
/// half pixel centers.
fn steps(from: usize, to: usize) -> Vec<Step> {
    let scale = from as f32 / to as f32;
    let step = |index: usize| {
        let place = (index as f32 + 0.5) * scale - 0.5;
        let low = place.max(0.0) as usize;
        let high = (place.ceil().max(0.0) as usize).min(from - 1);
        Step { low: low.min(from - 1), high, part: place.rem_euclid(1.0) }
    };
    (0..to).map(step).collect()
}

//! Hints for axes in the wrong order and for images with the wrong channels or size.
//!
//! Reordering axes or channels would move values. No rule does that, so there is only a hint.
use crate::signature::TensorInfo;

/// Channels of a greyscale, a colour and a transparent image.
const CHANNELS: [i64; 3] = [1, 3, 4];

/// Whether the declared shape looks like that of images: `[-1,224,224,3]`, `[-1,3,224,224]`,
/// `[-1,-1,3]`.
pub(super) fn is_image(info: &TensorInfo) -> bool {
    info.shape.dims().and_then(channel_axis).is_some()
}

/// The hint for the declared axes in another order.
pub(super) fn order(declared: &[i64], sent: &[i64]) -> Option<String> {
    if let (Some(wanted), Some([n, a, b, c])) = (four(declared, -1), four(sent, 1)) {
        if is_channel(wanted[3]) && accepts(&wanted, &[n, b, c, a]) {
            return Some("looks like NCHW, this input is NHWC: transpose before sending".to_owned());
        }
        if is_channel(wanted[1]) && accepts(&wanted, &[n, c, a, b]) {
            return Some("looks like NHWC, this input is NCHW: transpose before sending".to_owned());
        }
    }
    if declared.len() != sent.len() || declared.len() < 2 {
        return None;
    }
    if declared.len() == 2 {
        // A single column is excluded: it has the same bytes as its transpose, and its own hints.
        let transposed = declared[0] < 0 && declared[1] == sent[0] && sent[1] > 1;
        return transposed.then(|| "looks transposed: dimension 0 is the rows".to_owned());
    }
    let (inner, found) = (&declared[1..], &sent[1..]);
    let sorted = |dims: &[i64]| {
        let mut dims = dims.to_vec();
        dims.sort_unstable();
        dims
    };
    let permuted = accepts(&declared[..1], &sent[..1])
        && inner.iter().all(|size| *size >= 0)
        && sorted(inner) == sorted(found)
        && inner != found;
    permuted.then(|| "the dimensions are in another order: transpose before sending".to_owned())
}

/// The hint for an image with other channels than declared, or another size.
pub(super) fn image(declared: &[i64], sent: &[i64]) -> Option<String> {
    let axis = channel_axis(declared)?;
    // The batch axis may be missing, so inner axes are counted from the right.
    let batched = declared.len().checked_sub(sent.len()).filter(|missing| *missing <= 1)?;
    let found = *sent.get(axis.checked_sub(batched)?)?;
    let wanted = declared[axis];
    if found != wanted {
        let advice = match (found, wanted) {
            (1, 3) => "one channel was sent, this input takes 3: convert to RGB",
            (1, 4) => "one channel was sent, this input takes 4: convert to RGBA",
            (3, 4) => "three channels were sent, this input takes 4: add an alpha channel",
            (4, 3) => "four channels were sent, this input takes 3: drop the alpha channel",
            (3 | 4, 1) => "colour was sent, this input takes 1 channel: convert to greyscale",
            _ => return None,
        };
        return Some(advice.to_owned());
    }
    if batched == 1 || declared.len() != 4 {
        return None;
    }
    let size: Vec<usize> = (1..4).filter(|at| *at != axis).collect();
    let differs = size.iter().any(|at| declared[*at] >= 0 && declared[*at] != sent[*at]);
    let fixed = size.iter().all(|at| declared[*at] > 0);
    (differs && fixed && accepts(&declared[..1], &sent[..1]))
        .then(|| format!("resize the image to {}x{} before sending", declared[size[0]], declared[size[1]]))
}

/// The channel axis; `None` if the shape is not that of images.
fn channel_axis(declared: &[i64]) -> Option<usize> {
    match *declared {
        [_, _, _, channels] if is_channel(channels) => Some(3),
        [_, channels, height, width] if is_channel(channels) && (height < 0) == (width < 0) => Some(1),
        // Height and width are either both declared or both open. `[-1,100,3]` is a series of 100
        // steps with three values each.
        [height, width, channels] if is_channel(channels) && (height < 0) == (width < 0) => Some(2),
        _ => None,
    }
}

fn is_channel(size: i64) -> bool {
    CHANNELS.contains(&size)
}

/// The dimensions with a batch axis, which is `first` if there was none.
fn four(dims: &[i64], first: i64) -> Option<[i64; 4]> {
    match *dims {
        [n, a, b, c] => Some([n, a, b, c]),
        [a, b, c] => Some([first, a, b, c]),
        _ => None,
    }
}

fn accepts(declared: &[i64], sent: &[i64]) -> bool {
    declared.iter().zip(sent).all(|(want, have)| *want < 0 || want == have)
}

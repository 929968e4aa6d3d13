//! Pads a tensor at the end of each axis with one value.
use crate::tensor::Shape;

/// Maximum size of a padded tensor: a single short row could otherwise be padded to any length.
const MAX_BYTES: u64 = 256 << 20;

/// Whether a padded tensor of this many elements of `size` bytes is within the limits.
pub(super) fn has_room(elements: u64, size: usize, max_elements: u64) -> bool {
    elements <= max_elements.min(MAX_BYTES / size.max(1) as u64)
}

/// Pads `src`, the row-major elements of a tensor of shape `from`, to shape `to`, which has the
/// same rank and no smaller dimension.
pub(super) fn pad(src: &[u8], from: &Shape, to: &Shape, element: &[u8]) -> Vec<u8> {
    let elements = usize::try_from(to.elements().unwrap_or(0)).unwrap_or(0);
    let mut out = element.repeat(elements);
    let Some((row, outer)) = from.split_last() else { return src.to_vec() };
    let size = element.len();
    let row = usize::try_from(*row).unwrap_or(0) * size;
    if row == 0 {
        return out;
    }
    // Byte strides of the larger tensor, for all axes but the last.
    let mut strides: Vec<usize> = Vec::with_capacity(outer.len());
    let mut stride = size;
    for extent in to.iter().skip(1).rev() {
        stride *= usize::try_from(*extent).unwrap_or(0);
        strides.push(stride);
    }
    strides.reverse();
    for (at, values) in src.chunks_exact(row).enumerate() {
        let mut rest = at;
        let mut target = 0;
        for (extent, stride) in outer.iter().zip(&strides).rev() {
            let extent = usize::try_from(*extent).unwrap_or(1).max(1);
            target += rest % extent * stride;
            rest /= extent;
        }
        if let Some(place) = out.get_mut(target..target + row) {
            place.copy_from_slice(values);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_index() {
        let padded = pad(&[1, 2, 3, 4], &Shape::from([2, 2]), &Shape::from([2, 3]), &[0]);
        assert_eq!(padded, [1, 2, 0, 3, 4, 0]);
        let padded = pad(&[1, 2, 3, 4], &Shape::from([2, 1, 2]), &Shape::from([2, 2, 3]), &[9]);
        assert_eq!(padded, [1, 2, 9, 9, 9, 9, 3, 4, 9, 9, 9, 9]);
        assert_eq!(pad(&[], &Shape::from([2, 0]), &Shape::from([2, 1]), &[7]), [7, 7]);
    }
}

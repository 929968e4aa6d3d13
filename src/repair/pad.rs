//! Filling up rows: elements of a smaller shape in the front corner of a larger one, the rest one
//! value.
use crate::tensor::Shape;

/// Bytes that a tensor may be filled up to: a single short row could ask for any length.
const MAX_BYTES: u64 = 256 << 20;

/// Whether a filled-up tensor of so many elements of `size` bytes keeps to the limits.
pub(super) fn has_room(elements: u64, size: usize, max_elements: u64) -> bool {
    elements <= max_elements.min(MAX_BYTES / size.max(1) as u64)
}

/// `src` holds the elements of `from`, row-major; the answer those of `to`, which has the same rank
/// and is no smaller anywhere.
pub(super) fn pad(src: &[u8], from: &Shape, to: &Shape, element: &[u8]) -> Vec<u8> {
    let elements = usize::try_from(to.elements().unwrap_or(0)).unwrap_or(0);
    let mut out = element.repeat(elements);
    let Some((row, outer)) = from.split_last() else { return src.to_vec() };
    let size = element.len();
    let row = usize::try_from(*row).unwrap_or(0) * size;
    if row == 0 {
        return out;
    }
    // Bytes from one index of an axis to the next in the larger tensor, for all axes but the last.
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
    fn rows_stand_in_the_front_corner() {
        let padded = pad(&[1, 2, 3, 4], &Shape::from([2, 2]), &Shape::from([2, 3]), &[0]);
        assert_eq!(padded, [1, 2, 0, 3, 4, 0]);
        let padded = pad(&[1, 2, 3, 4], &Shape::from([2, 1, 2]), &Shape::from([2, 2, 3]), &[9]);
        assert_eq!(padded, [1, 2, 9, 9, 9, 9, 3, 4, 9, 9, 9, 9]);
        assert_eq!(pad(&[], &Shape::from([2, 0]), &Shape::from([2, 1]), &[7]), [7, 7]);
    }
}

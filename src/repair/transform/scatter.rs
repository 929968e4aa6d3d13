//! Moves elements to where they are after the axes are transposed, one after another as they come.
use smallvec::SmallVec;

use crate::tensor::Shape;

/// Places elements that come in row-major order of the old shape.
#[derive(Debug, Clone)]
pub(super) struct Scatter {
    /// The old sizes, and by how many elements the place moves with each old axis.
    axes: SmallVec<[(usize, usize); 8]>,
    /// Where the next element is in the old shape.
    at: SmallVec<[usize; 8]>,
    place: usize,
    width: usize,
}

impl Scatter {
    /// `axes[i]` is the old axis that becomes axis `i`. Elements have `width` bytes.
    pub(super) fn new(old: &Shape, axes: &[usize], width: usize) -> Self {
        let size = |axis: usize| old.get(axis).map_or(1, |size| usize::try_from(*size).unwrap_or(0));
        let mut moves: SmallVec<[(usize, usize); 8]> = (0..old.rank()).map(|axis| (size(axis), 0)).collect();
        let mut stride = 1;
        for axis in axes.iter().rev() {
            if let Some(old) = moves.get_mut(*axis) {
                old.1 = stride;
            }
            stride *= size(*axis);
        }
        let at = SmallVec::from_elem(0, moves.len());
        Self { axes: moves, at, place: 0, width }
    }

    /// Places whole elements in `out`, which has room for all.
    pub(super) fn place(&mut self, elements: &[u8], out: &mut [u8]) {
        match self.width {
            1 => self.place_all::<1>(elements, out),
            2 => self.place_all::<2>(elements, out),
            4 => self.place_all::<4>(elements, out),
            8 => self.place_all::<8>(elements, out),
            _ => self.place_all::<16>(elements, out),
        }
    }

    fn place_all<const N: usize>(&mut self, elements: &[u8], out: &mut [u8]) {
        let (out, _) = out.as_chunks_mut::<N>();
        for element in elements.as_chunks::<N>().0 {
            if let Some(place) = out.get_mut(self.place) {
                *place = *element;
            }
            self.next();
        }
    }

    fn next(&mut self) {
        for (at, (size, stride)) in self.at.iter_mut().zip(&self.axes).rev() {
            *at += 1;
            self.place += stride;
            if at != size {
                return;
            }
            self.place -= *at * stride;
            *at = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_go_where_numpy_puts_them() {
        // numpy.arange(6).reshape(1, 2, 3).transpose(0, 2, 1).ravel()
        let old = Shape::from([1, 2, 3]);
        for (axes, expected) in [
            ([0, 2, 1], [0, 3, 1, 4, 2, 5]),
            ([2, 1, 0], [0, 3, 1, 4, 2, 5]),
            ([1, 0, 2], [0, 1, 2, 3, 4, 5]),
        ] {
            let mut scatter = Scatter::new(&old, &axes, 1);
            let mut out = vec![9; 6];
            scatter.place(&[0, 1, 2, 3], &mut out);
            scatter.place(&[4, 5], &mut out);
            assert_eq!(out, expected, "{axes:?}");
        }
    }
}

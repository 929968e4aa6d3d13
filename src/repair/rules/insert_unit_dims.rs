//! Inserts missing axes of size 1, such as the channel of a greyscale image.
use super::add_batch_dim::batch_in_front;
use super::{Fit, shape_rule};
use crate::repair::{Example, Repair, Stage, Switch, Tier};
use crate::tensor::Shape;

pub(super) static REPAIR: Repair = Repair {
    name: "insert_unit_dims",
    tier: Tier::One,
    switch: Switch::Off,
    stage: Stage::Shape,
    lossy: false,
    when: "The sent rank is below the declared rank, and inserting axes of size 1 where 1 (or, at dim 0 only, -1) is declared gives exactly one shape that conforms. If the first sent dim fits declared dim 0, it stays there.",
    example: Example {
        signature: "image:float[-1,28,28,1]",
        request: "image:float[5,28,28]",
        becomes: "image:float[5,28,28,1]",
        policy: "",
    },
    propose: shape_rule!(decide),
};

/// Higher ranks are not a mistake of a missing axis.
pub(super) const MAX_RANK: usize = 32;

fn decide(sent: &Shape, declared: &Shape) -> Fit {
    // A single batch dimension in front is left to `add_batch_dim` and `batch_first`, which have
    // their own switches.
    if sent.rank() >= declared.rank()
        || declared.rank() > MAX_RANK
        || batch_in_front(sent, declared).is_some()
    {
        return Fit::None;
    }
    // Inserting beside an existing 1 gives equal results, which count as one.
    let first_kept = fits(declared[0], sent.first().copied())
        .then(|| place(&sent[1..], &declared[1..]))
        .filter(|found| !found.is_empty());
    let (front, tails) = match (first_kept, declared[0]) {
        (Some(tails), _) => (sent[0], tails),
        (None, -1 | 1) => (1, place(sent, &declared[1..])),
        (None, _) => return Fit::None,
    };
    Fit::of(tails.into_iter().map(|tail| [front].into_iter().chain(tail).collect()))
}

fn fits(declared: i64, sent: Option<i64>) -> bool {
    sent.is_some_and(|sent| declared == -1 || declared == sent)
}

/// Up to two different ways to spread the sent dims over the declared ones, with ones inserted
/// where 1 is declared.
pub(super) fn place(sent: &[i64], declared: &[i64]) -> Vec<Vec<i64>> {
    let mut reached: Vec<Vec<Vec<i64>>> = vec![Vec::new(); sent.len() + 1];
    reached[sent.len()].push(Vec::new());
    for want in declared.iter().rev() {
        let mut next: Vec<Vec<Vec<i64>>> = vec![Vec::new(); sent.len() + 1];
        for (at, found) in next.iter_mut().enumerate() {
            let size = sent.get(at).copied();
            let mut add = |first: i64, tails: &[Vec<i64>]| {
                for tail in tails {
                    let shape: Vec<i64> = [first].into_iter().chain(tail.iter().copied()).collect();
                    if found.len() < 2 && !found.contains(&shape) {
                        found.push(shape);
                    }
                }
            };
            if let Some(size) = size.filter(|size| fits(*want, Some(*size))) {
                add(size, &reached[at + 1]);
            }
            if *want == 1 {
                add(1, &reached[at]);
            }
        }
        reached = next;
    }
    reached.swap_remove(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ones_are_inserted_where_they_are_declared() {
        let cases: [(&[i64], &[i64], Fit); 8] = [
            (&[7], &[-1, 1], Fit::One(Shape::from([7, 1]))),
            (&[5, 28, 28], &[-1, 28, 28, 1], Fit::One(Shape::from([5, 28, 28, 1]))),
            (&[28, 28], &[-1, 28, 28, 1], Fit::One(Shape::from([1, 28, 28, 1]))),
            (&[], &[1, 1], Fit::One(Shape::from([1, 1]))),
            (&[7], &[-1, -1], Fit::None),
            (&[7], &[-1, -1, 1], Fit::One(Shape::from([1, 7, 1]))),
            (&[3, 4], &[2, 3, 4], Fit::None),
            (&[4, 7], &[-1, 1, -1, 1, -1], Fit::One(Shape::from([1, 1, 4, 1, 7]))),
        ];
        for (sent, declared, fit) in cases {
            assert_eq!(decide(&Shape::from(sent), &Shape::from(declared)), fit, "{sent:?} for {declared:?}");
        }
    }

    #[test]
    fn inserting_beside_a_one_is_not_ambiguous() {
        // The new axis may come before or after the sent 1: the shape is the same.
        let fit = decide(&Shape::from([2, 1, 5]), &Shape::from([-1, 1, -1, -1]));
        assert_eq!(fit, Fit::One(Shape::from([2, 1, 1, 5])));
    }
}

//! Sorting outside of the path of a request.
//!
//! The sort of the standard library is compiled again for each type and comparison, to about 7 KB.
//! Here it is compiled once.
use std::cmp::Ordering;

/// Sorts as [`slice::sort_by`]: items that are equal keep their order.
pub(crate) fn by<T>(items: &mut Vec<T>, compare: impl Fn(&T, &T) -> Ordering) {
    let order = order(items.len(), &|left, right| match (items.get(left), items.get(right)) {
        (Some(left), Some(right)) => compare(left, right),
        _ => Ordering::Equal,
    });
    arrange(items, order);
}

/// Sorts as [`slice::sort_by_cached_key`]: the key of each item is made once.
pub(crate) fn by_key<T, K: Ord>(items: &mut Vec<T>, key: impl FnMut(&T) -> K) {
    let keys: Vec<K> = items.iter().map(key).collect();
    let order = order(keys.len(), &|left, right| keys.get(left).cmp(&keys.get(right)));
    arrange(items, order);
}

fn arrange<T>(items: &mut Vec<T>, order: Vec<usize>) {
    let mut taken: Vec<Option<T>> = items.drain(..).map(Some).collect();
    items.extend(order.into_iter().filter_map(|index| taken.get_mut(index)?.take()));
}

/// The indices of `len` items in their order.
#[inline(never)]
fn order(len: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    order.sort_by(|left, right| compare(*left, *right));
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn items_are_sorted_as_by_the_standard_library(keys in prop::collection::vec(0..20_u8, 0..200)) {
            let mut items: Vec<(u8, usize)> = keys.into_iter().zip(0..).collect();
            let mut expected = items.clone();
            expected.sort_by_key(|(key, _)| *key);
            let mut descending = items.clone();
            super::by_key(&mut items, |(key, _)| *key);
            prop_assert_eq!(&items, &expected);
            super::by(&mut descending, |left, right| right.0.cmp(&left.0));
            expected.sort_by_key(|(key, _)| std::cmp::Reverse(*key));
            prop_assert_eq!(descending, expected);
        }
    }
}

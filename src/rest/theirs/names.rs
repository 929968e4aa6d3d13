//! Finds a name that an object has twice, in time linear in its length but for a sort of numbers.
use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use crate::rest::json::{Event, Walk};

/// The hash of each name of one object, and where the name is. A set of the names themselves takes
/// several times as long for an object of a million.
#[derive(Debug, Default)]
pub(super) struct Names {
    hasher: RandomState,
    all: Vec<(u64, usize)>,
}

/// Room that is kept for the next object.
const MAX_KEPT: usize = 256;

impl Names {
    pub(super) fn clear(&mut self) {
        self.all.clear();
        self.all.shrink_to(MAX_KEPT);
    }

    /// Adds a name that begins at an offset.
    pub(super) fn push(&mut self, name: &[u8], at: usize) {
        self.all.push((self.hasher.hash_one(name), at));
    }

    /// The offset of the first value whose name was there before in the object.
    pub(super) fn doubled(&mut self, body: &[u8]) -> Option<usize> {
        self.all.sort_unstable();
        let same = self.all.chunk_by(|left, right| left.0 == right.0).filter(|same| same.len() > 1);
        let doubled = same.filter_map(|same| {
            // The hashes may be the same by chance.
            let mut seen = HashSet::new();
            let mut places = same.iter().map(|(_, at)| *at);
            places.find_map(|at| {
                let mut walk = Walk::at(body, at);
                let Event::Key(name) = walk.step() else { return None };
                (!seen.insert(name.c_string())).then(|| walk.offset())
            })
        });
        doubled.min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doubled(body: &str) -> Option<usize> {
        let mut names = Names::default();
        let mut walk = Walk::at(body.as_bytes(), 1);
        loop {
            let at = walk.offset();
            let Event::Key(name) = walk.step() else { return names.doubled(body.as_bytes()) };
            names.push(&name.c_string(), at);
            walk.skip();
        }
    }

    #[test]
    fn the_first_name_that_was_there_before_is_found() {
        assert_eq!(doubled(r#"{"a":1,"b":2,"c":3}"#), None);
        assert_eq!(doubled(r#"{"b":1,"a":2,"a":3,"b":4,"a":5}"#), Some(17));
        assert_eq!(doubled("{\"a\":1,\"\\u0061\":2}"), Some(16));
        assert_eq!(doubled("{\"a\":1,\"a\\u0000b\":2}"), Some(18));
        let many = (0..10_000).fold(String::new(), |many, at| many + "\"" + &at.to_string() + "\":0,");
        assert_eq!(doubled(&format!("{{{many}\"x\":0}}")), None);
        assert_eq!(doubled(&format!("{{{many}\"77\":0}}")), Some(1 + many.len() + 5));
    }

    #[test]
    fn the_names_of_a_big_object_are_not_kept() {
        let mut names = Names::default();
        for at in 0..10_000 {
            names.push(b"a", at);
        }
        names.clear();
        assert!(names.all.capacity() <= MAX_KEPT);
    }
}

//! Which events are logged: of each key the first at once, then a few a minute, in bounded memory.
//!
//! Clients can invent names, so the table is small. A key that is not in it takes the place of the
//! one with the fewest events, as in the space-saving algorithm, so invented names replace each
//! other and not a client that repeats its mistake. The place keeps its pause: however many names
//! there are, each place logs one event in [`PAUSE`].
use std::sync::{Mutex, PoisonError};

/// Time between two events of one key, in milliseconds.
pub(super) const PAUSE: u64 = 20_000;
/// Weights are halved after this time, so that those of long ago do not count for ever.
const HALVED_AFTER: u64 = 60_000;
/// A key belongs to one set, so that a request looks at few places, under a lock of their own.
const SETS: usize = 64;
const PLACES: usize = 8;

/// The keys that had events lately. 64 sets of 8 places take 16 KiB.
#[derive(Debug)]
pub(super) struct Limiter {
    sets: Box<[Mutex<Set>]>,
}

#[derive(Debug, Default)]
struct Set {
    places: [Place; PLACES],
    halved: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// 0 for none.
    key: u64,
    /// Requests with events of the key, and of those that had the place before.
    weight: u32,
    /// Events of the key that were not logged since the last one that was.
    left_out: u32,
    /// Nothing is logged before this time.
    next: u64,
}

impl Limiter {
    pub(super) fn new() -> Self {
        Self { sets: (0..SETS).map(|_| Mutex::default()).collect() }
    }

    /// Whether `events` events of a key may be logged at the time `now`, in milliseconds. If so,
    /// gives the number of those before that were left out.
    pub(super) fn admit(&self, key: u64, events: u32, now: u64) -> Option<u32> {
        let key = key.max(1);
        let set = &self.sets[key as usize % SETS];
        set.lock().unwrap_or_else(PoisonError::into_inner).admit(key, events, now)
    }
}

impl Set {
    fn admit(&mut self, key: u64, events: u32, now: u64) -> Option<u32> {
        if now.saturating_sub(self.halved) >= HALVED_AFTER {
            self.halved = now;
            self.places.iter_mut().for_each(|place| place.weight /= 2);
        }
        let at = match self.places.iter().position(|place| place.key == key) {
            Some(at) => at,
            None => self.replace(key),
        };
        let place = &mut self.places[at];
        place.weight = place.weight.saturating_add(1);
        if now < place.next {
            place.left_out = place.left_out.saturating_add(events);
            return None;
        }
        place.next = now + PAUSE;
        Some(std::mem::take(&mut place.left_out))
    }

    /// Gives the key the place of the one with the least weight.
    fn replace(&mut self, key: u64) -> usize {
        let lightest = self.places.iter().enumerate().min_by_key(|(_, place)| (place.weight, place.next));
        let at = lightest.map_or(0, |(at, _)| at);
        let place = &mut self.places[at];
        (place.key, place.left_out) = (key, 0);
        at
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher as _, RandomState};

    use super::*;

    #[test]
    fn the_first_event_is_logged_at_once_and_the_next_ones_after_a_pause() {
        let limiter = Limiter::new();
        let admitted: Vec<(u64, u32)> =
            (0..60).filter_map(|second| Some((second, limiter.admit(7, 1, second * 1_000)?))).collect();
        assert_eq!(admitted, [(0, 0), (20, 19), (40, 19)]);
        assert_eq!(limiter.admit(7, 3, 45_000), None);
        assert_eq!(limiter.admit(7, 1, 60_000), Some(19 + 3));
        assert_eq!(limiter.admit(8, 1, 60_000), Some(0));
    }

    #[test]
    fn invented_names_neither_fill_the_log_nor_silence_a_client_that_repeats_its_mistake() {
        let (limiter, hasher) = (Limiter::new(), RandomState::new());
        let (mut lines, mut invented_lines) = (Vec::new(), 0);
        // One event of the honest client for 100 of invented names, in 100 seconds.
        for step in 0..100_000_u64 {
            invented_lines += u32::from(limiter.admit(hasher.hash_one(step), 1, step).is_some());
            if step % 100 == 0 {
                lines.extend(limiter.admit(hasher.hash_one("honest"), 1, step));
            }
        }
        // Every pause, and none of its events is forgotten, except before it has a place for good.
        assert_eq!(lines.len(), 5, "{lines:?}");
        assert!(lines[1..].iter().all(|left_out| *left_out == 199), "{lines:?}");
        // 512 places, 5 pauses.
        assert!(invented_lines <= 512 * 5, "{invented_lines}");
        assert!(size_of::<Mutex<Set>>() * SETS <= 17 << 10);
    }

    #[test]
    fn a_new_client_gets_a_place_while_names_are_invented() {
        let (limiter, hasher) = (Limiter::new(), RandomState::new());
        let honest = hasher.hash_one("honest");
        let mut first = None;
        for step in 0..100_000_u64 {
            limiter.admit(hasher.hash_one(step), 1, step);
            if step >= 50_000 && step % 100 == 0 && limiter.admit(honest, 1, step).is_some() {
                first.get_or_insert(step);
            }
        }
        // The place that it takes may have a pause before it, but no more than one.
        assert!(first.is_some_and(|first| first <= 50_000 + PAUSE), "{first:?}");
    }

    #[test]
    fn clients_of_long_ago_give_their_places_to_those_of_now() {
        let mut set = Set::default();
        for (place, key) in set.places.iter_mut().take(PLACES - 1).zip(1..) {
            *place = Place { key, weight: 1_000_000, ..Place::default() };
        }
        let mut left_out = Vec::new();
        for second in 0..3_600 {
            for key in [98, 99] {
                let admitted = set.admit(key, 1, second * 1_000);
                left_out.extend(admitted.filter(|_| second >= 3_000));
            }
        }
        // Two clients in one place would forget what they left out.
        assert_eq!(left_out, [19; 60]);
    }
}

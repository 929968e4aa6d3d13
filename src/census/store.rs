//! The forms that were seen, in bounded memory.
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant, SystemTime};

use super::form::{Form, Range, Sizes};
use super::key::{Key, mix_text};

/// Forms of all clients together.
pub(crate) const MAX_FORMS: usize = 2048;
/// Of these, those of one client once there is no place for more: an eighth.
const MAX_OF_CLIENT: u32 = MAX_FORMS as u32 / 8;
/// Bytes of all forms together, and of one.
const MAX_BYTES: usize = 2 << 20;
const MAX_FORM: usize = 16 << 10;
/// Forms that are looked at to find the one that gives its place to a new one, and how far apart
/// they are: those of one client often follow each other.
const LOOKED_AT: usize = 64;
const APART: usize = 769;
/// Forms that one new one may push out.
const MAX_PUSHED_OUT: usize = 8;
/// Forms that a thread keeps at hand.
const AT_HAND: usize = 64;

/// The forms of all requests. Threads share it; none of them waits.
#[derive(Debug)]
pub(crate) struct Census {
    store: Mutex<Store>,
    seed: u64,
    /// Requests whose form was not kept.
    missed: AtomicU64,
    started: (Instant, SystemTime),
}

/// The counts of one form.
#[derive(Debug)]
pub(super) struct Counts {
    requests: AtomicU64,
    /// Seconds since the census began.
    last: AtomicU64,
    sizes: [AtomicU64; 6],
    /// Another form has taken its place.
    retired: AtomicBool,
}

/// The forms that a thread saw last, each in the place that its key gives it.
#[derive(Debug)]
pub(crate) struct Recently(RefCell<Box<[Option<AtHand>]>>);

/// A key and its counts.
type AtHand = (u64, Arc<Counts>);

/// A copy of a form with its counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counted {
    pub form: Form,
    pub requests: u64,
    pub first: SystemTime,
    pub last: SystemTime,
    pub sizes: Sizes,
}

#[derive(Debug, Default)]
struct Store {
    forms: Vec<Kept>,
    /// The place of each key in `forms`.
    places: HashMap<u64, u32>,
    /// How many forms each client has.
    clients: HashMap<u64, u32>,
    bytes: usize,
    /// Where the search for a place begins.
    hand: usize,
}

#[derive(Debug)]
struct Kept {
    key: u64,
    client: u64,
    form: Form,
    bytes: usize,
    first: u64,
    counts: Arc<Counts>,
}

impl Default for Recently {
    fn default() -> Self {
        Self(RefCell::new(std::iter::repeat_with(|| None).take(AT_HAND).collect()))
    }
}

impl Counts {
    fn new() -> Self {
        let sizes = Sizes::default();
        Self {
            requests: AtomicU64::new(0),
            last: AtomicU64::new(0),
            sizes: ranges(&sizes).map(AtomicU64::new),
            retired: AtomicBool::new(false),
        }
    }

    #[inline]
    fn add(&self, sizes: &Sizes, now: u64) {
        self.requests.fetch_add(1, Relaxed);
        if self.last.load(Relaxed) != now {
            self.last.store(now, Relaxed);
        }
        if *sizes == Sizes::default() {
            return;
        }
        for (at, (kept, seen)) in self.sizes.iter().zip(ranges(sizes)).enumerate() {
            let known = kept.load(Relaxed);
            if at % 2 == 0 && seen < known {
                kept.fetch_min(seen, Relaxed);
            } else if at % 2 == 1 && seen > known {
                kept.fetch_max(seen, Relaxed);
            }
        }
    }

    fn sizes(&self) -> Sizes {
        let range = |at: usize| {
            let [min, max] = [at, at + 1].map(|at| self.sizes[at].load(Relaxed));
            Range { min, max }
        };
        Sizes { rows: range(0), other_rows: range(2), open: range(4) }
    }
}

fn ranges(sizes: &Sizes) -> [u64; 6] {
    let Sizes { rows, other_rows, open } = sizes;
    [rows.min, rows.max, other_rows.min, other_rows.max, open.min, open.max]
}

impl Census {
    /// An empty census that begins now.
    pub(crate) fn new(now: Instant, time: SystemTime) -> Arc<Self> {
        Arc::new(Self {
            store: Mutex::default(),
            seed: RandomState::new().hash_one(0),
            missed: AtomicU64::new(0),
            started: (now, time),
        })
    }

    /// What makes keys unpredictable.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// A number for a client of this name.
    pub(crate) fn client(&self, name: &str) -> u64 {
        mix_text(self.seed, name)
    }

    /// Counts a request. `make` gives its form, if that is not known yet. Never waits: if another
    /// thread holds the lock, a new form is only counted as missed.
    #[inline]
    pub(crate) fn count(
        &self,
        recently: &Recently,
        client: u64,
        key: &Key,
        now: Instant,
        make: impl FnOnce() -> Option<Form>,
    ) {
        let at = key.hash as usize % AT_HAND;
        let now = now.saturating_duration_since(self.started.0).as_secs();
        if let Some(Some((hash, counts))) = recently.0.borrow().get(at)
            && *hash == key.hash
            && !counts.retired.load(Relaxed)
        {
            counts.add(&key.sizes, now);
            return;
        }
        match self.find(client, key.hash, now, make) {
            Some(counts) => {
                counts.add(&key.sizes, now);
                if let Some(kept) = recently.0.borrow_mut().get_mut(at) {
                    *kept = Some((key.hash, counts));
                }
            }
            None => drop(self.missed.fetch_add(1, Relaxed)),
        }
    }

    #[cold]
    fn find(
        &self,
        client: u64,
        key: u64,
        now: u64,
        make: impl FnOnce() -> Option<Form>,
    ) -> Option<Arc<Counts>> {
        let mut store = match self.store.try_lock() {
            Ok(store) => store,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        if let Some(kept) = store.places.get(&key).and_then(|at| store.forms.get(*at as usize)) {
            return Some(Arc::clone(&kept.counts));
        }
        let form = make()?;
        let bytes = form.size();
        if bytes > MAX_FORM {
            return None;
        }
        for _ in 0..MAX_PUSHED_OUT {
            if store.forms.len() < MAX_FORMS && store.bytes + bytes <= MAX_BYTES {
                let counts = Arc::new(Counts::new());
                let kept = Kept { key, client, form, bytes, first: now, counts: Arc::clone(&counts) };
                store.add(kept);
                return Some(counts);
            }
            store.push_out();
        }
        None
    }

    /// Requests whose form was not kept: it was too large, or another thread was busy.
    pub(crate) fn missed(&self) -> u64 {
        self.missed.load(Relaxed)
    }

    /// When the census began.
    pub(crate) fn since(&self) -> SystemTime {
        self.started.1
    }

    /// How many forms there are.
    pub(crate) fn len(&self) -> usize {
        self.lock().forms.len()
    }

    /// A copy of the forms that `which` wants, those with the most requests first.
    pub(crate) fn forms(&self, which: impl Fn(&Form) -> bool) -> Vec<Counted> {
        let time = |seconds| self.started.1 + Duration::from_secs(seconds);
        let store = self.lock();
        let copy = |kept: &Kept| Counted {
            form: kept.form.clone(),
            requests: kept.counts.requests.load(Relaxed),
            first: time(kept.first),
            last: time(kept.counts.last.load(Relaxed)),
            sizes: kept.counts.sizes(),
        };
        let mut all: Vec<Counted> = store.forms.iter().filter(|kept| which(&kept.form)).map(copy).collect();
        drop(store);
        all.sort_by_key(|counted| std::cmp::Reverse(counted.requests));
        all
    }

    /// For readers, who may wait.
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    fn add(&mut self, kept: Kept) {
        self.bytes += kept.bytes;
        *self.clients.entry(kept.client).or_default() += 1;
        self.places.insert(kept.key, self.forms.len() as u32);
        self.forms.push(kept);
    }

    /// Removes a form of a client that has more than its share, or else one with few requests. It
    /// is the best of some, not of all: that takes the same time however many there are.
    fn push_out(&mut self) {
        let count = self.forms.len();
        let weight = |at: &usize| {
            let kept = self.forms.get(*at)?;
            let within = self.clients.get(&kept.client).is_none_or(|forms| *forms < MAX_OF_CLIENT);
            Some((within, kept.counts.requests.load(Relaxed), kept.counts.last.load(Relaxed)))
        };
        let candidates = (0..LOOKED_AT.min(count)).map(|step| (self.hand + step * APART) % count);
        let Some(at) = candidates.min_by_key(weight) else { return };
        self.hand = (self.hand + LOOKED_AT * APART + 1) % count;
        self.remove(at);
    }

    fn remove(&mut self, at: usize) {
        let kept = self.forms.swap_remove(at);
        kept.counts.retired.store(true, Relaxed);
        self.bytes -= kept.bytes;
        self.places.remove(&kept.key);
        if let Some(moved) = self.forms.get(at) {
            self.places.insert(moved.key, at as u32);
        }
        if let Some(forms) = self.clients.get_mut(&kept.client) {
            *forms -= 1;
            if *forms == 0 {
                self.clients.remove(&kept.client);
            }
        }
    }
}

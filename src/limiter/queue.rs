//! The queue of waiters: fair by model, and by peer within a model.
//!
//! What is shared is the time of permits: a model's turn costs the learned time of its calls, so a
//! model of one second gets one call for a thousand of a model of one millisecond. Idle flows are
//! forgotten. All operations take a time that grows with the logarithm of the number of flows.
//!
//! A permit cannot be taken back from a call that runs. So a model of slow calls leaves as many
//! permits free as models of faster calls have used lately, up to their fair shares.
use std::collections::{BTreeMap, VecDeque};

use super::model::{EPOCH, Model};
use super::ranks::Ranks;
use crate::concurrency::Micros;

/// The cost of the first calls of a model, until the time they take is known.
const UNKNOWN_COST: Micros = 1_000;
/// A model leaves room for those whose calls are so many times faster.
const FASTER: Micros = 4;
/// The fewest available permits are those of this span and the one before.
const LOW_EPOCH: Micros = 10_000_000;
/// Idle models are looked through when there are so many.
const MIN_MODELS: usize = 64;

/// What a request is queued by. The keys are hashes of the model's name and the client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Flow {
    pub(super) model: u64,
    pub(super) peer: u64,
}

#[derive(Debug)]
pub(super) struct FairQueue<T> {
    /// Requests that had a permit and were refused by the server, in this order.
    again: VecDeque<(i64, Flow, T)>,
    models: BTreeMap<u64, Model<T>>,
    ranks: Ranks,
    purge_at: usize,
    len: usize,
    last_back: i64,
    last_again: i64,
    /// How many permits each model may hold, if that is fewer than all.
    caps: BTreeMap<u64, usize>,
    /// The fewest permits that were available in this epoch and in the one before.
    lows: [usize; 2],
    low_epoch: Micros,
    /// What the caps were computed for, and when; `stale` if a demand has changed since.
    capped_limit: usize,
    capped_at: Micros,
    stale: bool,
}

impl<T> FairQueue<T> {
    pub(super) fn new() -> Self {
        Self {
            again: VecDeque::new(),
            models: BTreeMap::new(),
            ranks: Ranks::default(),
            purge_at: MIN_MODELS,
            len: 0,
            last_back: 0,
            last_again: i64::MIN,
            caps: BTreeMap::new(),
            lows: [usize::MAX; 2],
            low_epoch: 0,
            capped_limit: 0,
            capped_at: 0,
            stale: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether a model must leave permits free, so that each grant has to be counted.
    pub(super) fn has_caps(&self) -> bool {
        !self.caps.is_empty()
    }

    /// A number behind all the others, or before those that had no permit yet.
    pub(super) fn number(&mut self, again: bool) -> i64 {
        let last = if again { &mut self.last_again } else { &mut self.last_back };
        *last += 1;
        *last
    }

    /// Inserts a waiter where its number belongs.
    pub(super) fn insert(&mut self, flow: Flow, number: i64, waiter: T) {
        self.len += 1;
        if number < 0 {
            let at = self.again.partition_point(|(other, ..)| *other < number);
            return self.again.insert(at, (number, flow, waiter));
        }
        self.purge();
        let model = self.models.entry(flow.model).or_default();
        let waiting = model.waiting;
        if waiting == 0 {
            model.tag = self.ranks.add(flow.model, model.tag);
        }
        model.insert(flow.peer, number, waiter);
        self.ranks.resize(flow.model, model.tag, waiting, waiting + 1);
    }

    /// The waiter, if it is still there.
    pub(super) fn remove(&mut self, flow: Flow, number: i64) -> Option<T> {
        let waiter = if number < 0 {
            let at = self.again.binary_search_by_key(&number, |(number, ..)| *number).ok()?;
            self.again.remove(at)?.2
        } else {
            let model = self.models.get_mut(&flow.model)?;
            let waiter = model.remove(flow.peer, number)?;
            self.ranks.resize(flow.model, model.tag, model.waiting + 1, model.waiting);
            waiter
        };
        self.len -= 1;
        Some(waiter)
    }

    /// Takes the next waiter that may have a permit of `limit`.
    pub(super) fn pop(&mut self, limit: usize, now: Micros) -> Option<(Flow, i64, T)> {
        let popped = self.take_next(limit, now)?;
        self.len -= 1;
        Some(popped)
    }

    fn take_next(&mut self, limit: usize, now: Micros) -> Option<(Flow, i64, T)> {
        if let Some((number, flow, waiter)) = self.again.pop_front() {
            return Some((flow, number, waiter));
        }
        self.update_caps(limit, now);
        let key = self.ranks.due().find(|key| self.may_hold_more(*key))?;
        let model = self.models.get_mut(&key)?;
        let waiting = model.waiting;
        let (peer, number, waiter) = model.pop()?;
        let cost = if model.cost == 0 { UNKNOWN_COST } else { model.cost };
        model.tag = self.ranks.serve(key, model.tag, cost);
        self.ranks.resize(key, model.tag, waiting, waiting - 1);
        Some((Flow { model: key, peer }, number, waiter))
    }

    fn may_hold_more(&self, key: u64) -> bool {
        let held = self.models.get(&key).map_or(0, |model| model.held);
        self.caps.get(&key).is_none_or(|cap| held < *cap)
    }

    /// The newest waiter of the flow with the longest backlog.
    pub(super) fn last_of_longest(&self) -> Option<(Flow, i64)> {
        let model = self.ranks.longest()?;
        let (peer, number) = self.models.get(&model)?.last_of_longest()?;
        Some((Flow { model, peer }, number))
    }

    /// Whether a new waiter of that flow would be the last of the longest backlog. All waiters are
    /// for its model.
    pub(super) fn is_longest(&self, flow: Flow) -> bool {
        self.models.get(&flow.model).is_some_and(|model| model.is_longest(flow.peer))
    }

    /// How many waiters would be granted a permit before a new one of that flow, and when its turn
    /// would come; `None` if too little is known.
    pub(super) fn estimate(&self, flow: Flow, now: Micros) -> (usize, Option<Micros>) {
        let Some(model) = self.models.get(&flow.model) else { return (0, None) };
        let ahead = model.ahead(flow.peer);
        (ahead, model.interval(now).map(|interval| interval * (ahead as Micros + 1)))
    }

    /// The model that all waiters are for, if there is only one.
    pub(super) fn only_model(&self) -> Option<u64> {
        let only = self.ranks.due().next()?;
        (self.ranks.len() == 1).then_some(only)
    }

    /// A permit was granted to a waiter of that flow.
    pub(super) fn granted(&mut self, flow: Flow, now: Micros) {
        let model = self.models.entry(flow.model).or_default();
        model.granted(now);
        self.stale |= model.update_demand(self.capped_limit, now);
    }

    /// A permit that was granted is released. `answered`: after what time, if the call ran.
    pub(super) fn released(&mut self, flow: Flow, answered: Option<Micros>) {
        if let Some(model) = self.models.get_mut(&flow.model) {
            model.released(answered);
        }
    }

    /// The permits that the server had threads for all the time lately. Permits that are withheld
    /// after refusals come back for a moment, but slow calls must not take the threads of others.
    fn steady(&mut self, available: usize, now: Micros) -> usize {
        let epoch = now / LOW_EPOCH;
        if epoch != self.low_epoch {
            let before = if epoch == self.low_epoch + 1 { self.lows[0] } else { available };
            self.lows = [available, before];
            self.low_epoch = epoch;
        }
        self.lows[0] = self.lows[0].min(available);
        self.lows[0].min(self.lows[1])
    }

    /// The server refused a request of that flow that it had refused before. If slower models hold
    /// the threads, they may hold one less: their calls have just shown that there are no more.
    pub(super) fn refused_again(&mut self, flow: Flow, now: Micros) {
        let cost = self.models.get(&flow.model).map_or(0, |model| model.cost);
        for model in self.models.values_mut().filter(|model| cost > 0 && model.cost > cost * FASTER) {
            model.leave_one(now);
            self.stale = true;
        }
    }

    /// Computes what each model may hold, if demands or the limit have changed.
    fn update_caps(&mut self, available: usize, now: Micros) {
        let limit = self.steady(available, now);
        if limit == self.capped_limit && !self.stale && now < self.capped_at + EPOCH / 10 {
            return;
        }
        (self.capped_limit, self.capped_at, self.stale) = (limit, now, false);
        for model in self.models.values_mut() {
            model.update_demand(limit, now);
        }
        self.caps.clear();
        let mut demands: Vec<(usize, u64, Micros)> = self
            .models
            .iter()
            .filter(|(_, model)| model.demand() > 0 && model.cost > 0)
            .map(|(key, model)| (model.demand(), *key, model.cost))
            .collect();
        if demands.len() < 2 {
            return;
        }
        demands.sort_unstable();
        // Fair shares: who needs less than an equal part leaves the rest to the others.
        let (mut left, mut shares) = (limit, Vec::new());
        for (at, (demand, key, cost)) in demands.iter().enumerate() {
            let share = (*demand).min((left / (demands.len() - at)).max(1));
            left = left.saturating_sub(share);
            shares.push((*key, share, *cost));
        }
        for (key, share, cost) in &shares {
            let faster = shares.iter().filter(|(_, _, other)| other * FASTER < *cost);
            let reserved: usize = faster.map(|(_, share, _)| share).sum();
            if reserved > 0 {
                let cap = limit.saturating_sub(reserved).max(*share).max(1);
                // Never less than an equal part.
                let least = (limit / shares.len()).max(1);
                let most = self.models.get(key).and_then(|model| model.most(now));
                self.caps.insert(*key, most.map_or(cap, |most| cap.min(most.max(least))));
            }
        }
    }

    /// Forgets models that are idle and have no time to make up for.
    fn purge(&mut self) {
        if self.models.len() >= self.purge_at {
            let ranks = &self.ranks;
            self.models.retain(|_, model| {
                model.waiting > 0 || model.held > 0 || model.demand() > 0 || !ranks.is_past(model.tag)
            });
            self.purge_at = (2 * self.models.len()).max(MIN_MODELS);
        }
    }

    #[cfg(test)]
    pub(super) fn models(&self) -> usize {
        self.models.len()
    }

    #[cfg(test)]
    pub(super) fn peers(&self) -> usize {
        self.models.values().map(Model::peers).sum()
    }
}

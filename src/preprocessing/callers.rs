//! What was seen of one signature: the windows of each of its callers, and of all together.
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use serde_json::{Value, json};

use super::answers::Answers;
use super::found::{Found, cut, time};
use super::window::{Decision, Rolling};
use crate::profile::{CallerFinding, Checks, Drift, Profile, Sample, TensorProfile, WORST};
use crate::repair::policy::ReadProfile;
use crate::sorting;
use crate::telemetry::clients::OTHER;

/// A caller that was not seen for this time makes room for another one.
const IDLE: Duration = Duration::from_secs(60);
/// So many requests are part of the drift, nearly all; then one in four.
const DRIFT_ALL: u64 = 4096;

/// What was seen of one signature since its profile is this one.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(super) model: Arc<str>,
    pub(super) signature: Arc<str>,
    digest: u64,
    pub(crate) profile: Arc<Profile>,
    /// In the order of the profile.
    inputs: Vec<Input>,
    /// By name. Read without a lock.
    callers: ArcSwap<HashMap<Arc<str>, Arc<Caller>>>,
    max_callers: usize,
    bytes: Arc<AtomicU64>,
    /// All callers together, for each input.
    all: Mutex<Vec<Option<Rolling>>>,
    requests: AtomicU64,
    rows: AtomicU64,
    missed: AtomicU64,
    found: Mutex<Found>,
    pub(crate) answers: Answers,
}

/// An input of the profile.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) name: Arc<str>,
    /// `None` for strings.
    pub(crate) checks: Option<Checks>,
}

/// Who sends requests for a signature.
#[derive(Debug)]
pub(crate) struct Caller {
    name: Arc<str>,
    /// What was found, until a later window takes it back.
    standing: ArcSwap<Vec<Standing>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// For each input of the profile; `None` for one that was not sent, or is too large.
    inputs: Vec<Option<Rolling>>,
    requests: u64,
    rows: u64,
    last: SystemTime,
}

/// A finding about a caller.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub(crate) input: Arc<str>,
    pub(crate) finding: CallerFinding,
    /// Whether every request that it is based on had a value beyond the training data.
    pub(crate) always_outside: bool,
    /// One line of ASCII without a value: who sends what, and what to do.
    pub(crate) text: String,
}

/// How far a feature is from the training data.
#[derive(Debug, Clone)]
pub(super) struct Drifting {
    pub(super) input: Arc<str>,
    pub(super) feature: String,
    pub(super) index: f64,
}

/// A request whose values are added.
#[derive(Debug)]
pub(crate) struct Seen<'a> {
    watched: &'a Watched,
    caller: Option<&'a Arc<Caller>>,
    state: Option<MutexGuard<'a, State>>,
    all: Option<MutexGuard<'a, Vec<Option<Rolling>>>>,
    rows: u64,
}

impl Watched {
    pub(super) fn new(
        model: &str,
        signature: &str,
        read: &ReadProfile,
        max_callers: usize,
        bytes: &Arc<AtomicU64>,
    ) -> Self {
        let profile = Arc::clone(&read.profile);
        let of = |(name, of): (&String, &TensorProfile)| Input {
            name: name.as_str().into(),
            checks: Checks::new(of),
        };
        let inputs: Vec<Input> = profile.inputs.iter().map(of).collect();
        Self {
            model: model.into(),
            signature: signature.into(),
            digest: read.digest,
            all: Mutex::new(std::iter::repeat_with(|| None).take(inputs.len()).collect()),
            answers: Answers::new(&profile, bytes),
            profile,
            inputs,
            callers: ArcSwap::default(),
            max_callers,
            bytes: Arc::clone(bytes),
            requests: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            found: Mutex::default(),
        }
    }

    pub(super) fn is_of(&self, read: &ReadProfile) -> bool {
        self.digest == read.digest
    }

    /// The place of an input in the profile, with what the profile says of it.
    pub(crate) fn input(&self, name: &str) -> Option<(usize, &Input, &TensorProfile)> {
        let at = self.inputs.binary_search_by(|known| (*known.name).cmp(name)).ok()?;
        Some((at, self.inputs.get(at)?, self.profile.inputs.get(name)?))
    }

    /// The caller of this name. `None` if there are too many, and for those not told apart.
    pub(crate) fn caller(&self, name: &str, now: SystemTime) -> Option<Arc<Caller>> {
        let name = cut(name);
        if let Some(caller) = self.callers.load().get(name) {
            return Some(Arc::clone(caller));
        }
        if name == OTHER {
            return None;
        }
        let caller = Arc::new(Caller::new(name, self.inputs.len(), now));
        self.callers.rcu(|callers| {
            let mut callers = HashMap::clone(callers);
            if callers.len() >= self.max_callers
                && let Some(idle) = callers.values().find(|caller| caller.is_idle(now)).cloned()
            {
                callers.remove(&idle.name);
            }
            if callers.len() < self.max_callers {
                callers.entry(Arc::clone(&caller.name)).or_insert_with(|| Arc::clone(&caller));
            }
            callers
        });
        self.callers.load().get(name).cloned()
    }

    /// Begins to add the values of a request. What another thread holds is left out.
    pub(crate) fn see<'a>(&'a self, caller: Option<&'a Arc<Caller>>, now: SystemTime) -> Seen<'a> {
        let number = self.requests.fetch_add(1, Relaxed);
        // Not in turns, as callers may send.
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61;
        let sampled = if number < DRIFT_ALL { mixed > 0 } else { mixed < 2 };
        let mut state = caller.and_then(|caller| try_lock(&caller.state));
        match &mut state {
            Some(state) => {
                state.requests += 1;
                state.last = now;
            }
            None => drop(self.missed.fetch_add(1, Relaxed)),
        }
        let all = if sampled { try_lock(&self.all) } else { None };
        Seen { watched: self, caller, state, all, rows: 0 }
    }

    /// Follows what a window says of the values of an input of a caller.
    fn follow(&self, caller: &Caller, at: usize, decision: Decision) {
        let Some(Input { name, .. }) = self.inputs.get(at) else { return };
        let known = caller.standing.load();
        let is_other = |old: &&Standing| old.input != *name;
        let mut standing: Vec<Standing> = known.iter().filter(is_other).cloned().collect();
        match decision {
            Decision::Open => return,
            Decision::Clear if standing.len() == known.len() => return,
            Decision::Clear => {
                let (model, signature, client) = (&*self.model, &*self.signature, &*caller.name);
                tracing::info!(
                    model,
                    signature,
                    client,
                    input = &**name,
                    "the client preprocesses as in training again"
                );
            }
            Decision::Found { finding, always_outside } => {
                let who = if caller.name.is_empty() { "a client" } else { &caller.name };
                let text = format!("caller {} {} (SHIFTED)", who.escape_default(), finding.text(name));
                let is_same = |old: &Standing| old.input == *name && old.finding.mistake == finding.mistake;
                if !known.iter().any(is_same) {
                    tracing::warn!(
                        model = &*self.model,
                        signature = &*self.signature,
                        client = &*caller.name,
                        input = &**name,
                        mistake = finding.mistake.name(),
                        rows = finding.rows,
                        "{text}"
                    );
                }
                standing.push(Standing { input: Arc::clone(name), finding, always_outside, text });
            }
        }
        caller.standing.store(Arc::new(standing));
    }

    /// Lists a finding of a request; whether it is the first of its client, input and kind. It is
    /// left out if another thread holds the list.
    pub(crate) fn list(
        &self,
        client: &str,
        input: &Arc<str>,
        kind: &'static str,
        text: &str,
        now: SystemTime,
    ) -> bool {
        let Some(mut found) = try_lock(&self.found) else {
            self.missed.fetch_add(1, Relaxed);
            return false;
        };
        found.add(client, input, kind, text, now)
    }

    pub(crate) fn model(&self) -> &str {
        &self.model
    }

    pub(crate) fn signature(&self) -> &str {
        &self.signature
    }

    /// The features that are farthest from the training data, all callers together.
    pub(super) fn drift(&self) -> Vec<Drifting> {
        let mut drift = drifting(&lock(&self.all), &self.inputs);
        for (output, of) in self.answers.drift() {
            let name = |feature| {
                self.profile.outputs.get(&*output).map_or_else(String::new, |it| it.name_of(feature))
            };
            extend(&mut drift, &output, of, name);
        }
        drift
    }

    pub(super) fn to_json(&self) -> Value {
        let (findings, unlisted) = lock(&self.found).to_json();
        let callers = self.callers.load();
        let mut clients: Vec<&Arc<Caller>> = callers.values().collect();
        sorting::by(&mut clients, |left, right| left.name.cmp(&right.name));
        let clients: Vec<Value> = clients.into_iter().map(|caller| caller.to_json(&self.inputs)).collect();
        let drift = self
            .drift()
            .into_iter()
            .map(|drift| json!({"input": *drift.input, "feature": drift.feature, "index": drift.index}));
        json!({
            "model": *self.model,
            "signature": *self.signature,
            "requests": self.requests.load(Relaxed),
            "rows": self.rows.load(Relaxed),
            "findings": findings,
            "unlisted": unlisted,
            "drift": drift.collect::<Vec<_>>(),
            "clients": clients,
            "missed": self.missed.load(Relaxed),
        })
    }
}

impl Caller {
    fn new(name: &str, inputs: usize, now: SystemTime) -> Self {
        let inputs = std::iter::repeat_with(|| None).take(inputs).collect();
        Self {
            name: name.into(),
            standing: ArcSwap::default(),
            state: Mutex::new(State { inputs, requests: 0, rows: 0, last: now }),
        }
    }

    /// What was found of it and is not taken back.
    pub(crate) fn standing(&self) -> Arc<Vec<Standing>> {
        self.standing.load_full()
    }

    fn is_idle(&self, now: SystemTime) -> bool {
        let idle =
            |state: MutexGuard<'_, State>| now.duration_since(state.last).is_ok_and(|idle| idle >= IDLE);
        try_lock(&self.state).is_some_and(idle)
    }

    fn to_json(&self, inputs: &[Input]) -> Value {
        let state = lock(&self.state);
        let drift = drifting(&state.inputs, inputs);
        let largest = drift.iter().map(|drift| drift.index).reduce(f64::max);
        let shifted: Vec<&str> = self.standing.load().iter().map(|of| of.finding.mistake.name()).collect();
        json!({
            "client": *self.name,
            "requests": state.requests,
            "rows": state.rows,
            "last": time(state.last),
            "shifted": shifted,
            "drift": largest,
        })
    }
}

impl Seen<'_> {
    /// Adds the values of an input, which is at this place in the profile. `is_outside`: whether
    /// any of them is beyond what the training data had.
    pub(crate) fn add(&mut self, at: usize, checks: &Checks, sample: &Sample, is_outside: bool) {
        let watched = self.watched;
        self.rows = self.rows.max(sample.rows as u64);
        if let (Some(state), Some(caller)) = (&mut self.state, self.caller)
            && let Some(rolling) = state.inputs.get_mut(at)
        {
            if rolling.is_none() {
                *rolling = Rolling::new(checks, &watched.bytes);
            }
            match rolling {
                Some(rolling) => {
                    let decision = rolling.add(checks, sample, is_outside);
                    if matches!(decision, Decision::Found { .. }) {
                        rolling.restart(checks);
                    }
                    watched.follow(caller, at, decision);
                }
                None => drop(watched.missed.fetch_add(1, Relaxed)),
            }
        }
        if let Some(all) = &mut self.all
            && let Some(rolling) = all.get_mut(at)
        {
            if rolling.is_none() {
                *rolling = Rolling::new(checks, &watched.bytes);
            }
            if let Some(rolling) = rolling {
                rolling.add(checks, sample, is_outside);
            }
        }
    }

    /// Ends the request.
    pub(crate) fn end(mut self) {
        self.watched.rows.fetch_add(self.rows, Relaxed);
        if let Some(state) = &mut self.state {
            state.rows += self.rows;
        }
    }
}

fn drifting(all: &[Option<Rolling>], inputs: &[Input]) -> Vec<Drifting> {
    let mut found = Vec::new();
    for (rolling, Input { name, checks }) in all.iter().zip(inputs) {
        let (Some(rolling), Some(checks)) = (rolling, checks) else { continue };
        if let Some(drift) = rolling.drift(checks) {
            extend(&mut found, name, drift, |feature| checks.name(feature));
        }
    }
    found
}

fn extend(found: &mut Vec<Drifting>, input: &Arc<str>, drift: Drift, name: impl Fn(usize) -> String) {
    let Drift { worst, others, .. } = drift;
    let of = |feature, index| Drifting { input: Arc::clone(input), feature, index };
    let is_all = worst.len() < WORST;
    found.extend(worst.into_iter().map(|(feature, index)| of(name(feature), index)));
    if !is_all && others > 0.0 {
        found.push(of(OTHER.to_owned(), others));
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The lock, if no other thread holds it.
pub(super) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

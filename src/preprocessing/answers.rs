//! Watches a share of the answers for one signature.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use super::callers::{lock, try_lock};
use super::window::Rolling;
use crate::profile::{AnswerWatch, Budget, By, Checks, Drift, Finding, Profile, Sample};
use crate::tensor::Class;
use crate::wire::Rope;
use crate::wire::reply::ReplyView;

/// Outputs that are watched.
const MAX_OUTPUTS: usize = 64;

/// The answers for one signature.
#[derive(Debug)]
pub(crate) struct Answers {
    profile: Arc<Profile>,
    number: AtomicU64,
    outputs: Mutex<BTreeMap<Arc<str>, Output>>,
    bytes: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Output {
    watch: AnswerWatch,
    /// For an output that has a profile.
    checks: Option<(Checks, Option<Rolling>)>,
}

impl Answers {
    pub(super) fn new(profile: &Arc<Profile>, bytes: &Arc<AtomicU64>) -> Self {
        Self {
            profile: Arc::clone(profile),
            number: AtomicU64::new(0),
            outputs: Mutex::default(),
            bytes: Arc::clone(bytes),
        }
    }

    /// Whether the answer to the next request is looked at: one in `one_in`, none for 0.
    pub(crate) fn is_due(&self, one_in: u32) -> bool {
        one_in > 0 && self.number.fetch_add(1, Relaxed).is_multiple_of(u64::from(one_in))
    }

    /// Looks at an answer to a request, whose values have this hash. Each finding comes with its
    /// output. Nothing is found while another thread looks at an answer.
    pub(crate) fn look(&self, request: u64, message: &Rope, sample: &mut Sample) -> Vec<(Arc<str>, Finding)> {
        let Ok(view) = ReplyView::scan(message) else { return Vec::new() };
        let Some(mut outputs) = try_lock(&self.outputs) else { return Vec::new() };
        let mut found = Vec::new();
        for answer in &view.outputs {
            let name = match outputs.get_key_value(answer.key.as_str()) {
                Some((name, _)) => Arc::clone(name),
                None if outputs.len() >= MAX_OUTPUTS => continue,
                None => answer.key.as_str().into(),
            };
            let output = outputs.entry(Arc::clone(&name)).or_insert_with(|| Output {
                watch: AnswerWatch::default(),
                checks: self.profile.outputs.get(&*name).and_then(Checks::new).map(|checks| (checks, None)),
            });
            let (by, features) =
                output.checks.as_ref().map_or((By::Whole, 1), |(checks, _)| (checks.by(), checks.width()));
            if !sample.read(message, &answer.tensor, by, features, Budget::default()) {
                continue;
            }
            let is_float = answer.tensor.dtype.info().is_some_and(|info| info.class == Class::Float);
            let mut findings = Vec::new();
            output.watch.add(request, &sample.values, is_float, &mut findings);
            if let Some((checks, rolling)) = &mut output.checks {
                if rolling.is_none() {
                    *rolling = Rolling::new(checks, &self.bytes);
                }
                if let Some(rolling) = rolling {
                    rolling.add(checks, sample, false);
                }
            }
            found.extend(findings.into_iter().map(|finding| (Arc::clone(&name), finding)));
        }
        found
    }

    /// How far the outputs that have a profile are from it.
    pub(super) fn drift(&self) -> Vec<(Arc<str>, Drift)> {
        let outputs = lock(&self.outputs);
        let of = |(name, output): (&Arc<str>, &Output)| {
            let (checks, rolling) = output.checks.as_ref()?;
            Some((Arc::clone(name), rolling.as_ref()?.drift(checks)?))
        };
        outputs.iter().filter_map(of).collect()
    }
}

//! The rules that a policy has switched on.
use std::fmt;

use super::{REPAIRS, Repair, Stage, Switch, Tier};

/// A set of rules: a bit for each, at its position in [`REPAIRS`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RuleSet(u64);

const _: () = assert!(REPAIRS.len() <= u64::BITS as usize, "RuleSet needs a wider integer");

impl RuleSet {
    /// Whether the rule is switched on. A rule that takes a value always is: it does nothing until
    /// the policy gives it one.
    pub fn contains(self, rule: &Repair) -> bool {
        bit(rule) & self.0 != 0
    }

    /// Switches a rule on or off.
    pub fn set(&mut self, rule: &Repair, on: bool) {
        if on {
            self.0 |= bit(rule);
        } else {
            self.0 &= !bit(rule);
        }
    }

    /// The rules of a stage to try on a request, in order: those that are switched on, and those
    /// that explain a refusal when they are off ([`Switch::Policy`]).
    pub(super) fn of(self, stage: Stage) -> impl Iterator<Item = &'static Repair> {
        iter((self.0 | EXPLAINING) & OF_STAGE[stage as usize])
    }

    /// The rules of a stage that are switched off, in order.
    pub(super) fn off(self, stage: Stage) -> impl Iterator<Item = &'static Repair> {
        iter(!self.0 & OF_STAGE[stage as usize])
    }
}

fn iter(mut left: u64) -> impl Iterator<Item = &'static Repair> {
    std::iter::from_fn(move || {
        let at = left.trailing_zeros() as usize;
        left &= left.wrapping_sub(1);
        REPAIRS.get(at).copied()
    })
}

/// Tier 1, and the rules of tier 2 that wait for a value.
impl Default for RuleSet {
    fn default() -> Self {
        Self(DEFAULT)
    }
}

impl fmt::Debug for RuleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(REPAIRS.iter().filter(|rule| self.contains(rule))).finish()
    }
}

const STAGES: usize = Stage::Rows as usize + 1;
static OF_STAGE: [u64; STAGES] = by_stage();
const EXPLAINING: u64 = explaining();
const DEFAULT: u64 = default();

/// 0 for a rule that is not registered.
fn bit(rule: &Repair) -> u64 {
    REPAIRS.iter().position(|known| std::ptr::eq(*known, rule)).map_or(0, |at| 1 << at)
}

const fn by_stage() -> [u64; STAGES] {
    let mut stages = [0; STAGES];
    let mut at = 0;
    while at < REPAIRS.len() {
        stages[REPAIRS[at].stage as usize] |= 1 << at;
        at += 1;
    }
    stages
}

const fn explaining() -> u64 {
    let (mut bits, mut at) = (0, 0);
    while at < REPAIRS.len() {
        if matches!(REPAIRS[at].switch, Switch::Policy) {
            bits |= 1 << at;
        }
        at += 1;
    }
    bits
}

const fn default() -> u64 {
    let (mut bits, mut at) = (0, 0);
    while at < REPAIRS.len() {
        let rule = REPAIRS[at];
        if matches!(
            (rule.tier, rule.switch),
            (Tier::One | Tier::Three, _)
                | (Tier::Two, Switch::Rules(_) | Switch::Input(_) | Switch::Signature(_))
        ) {
            bits |= 1 << at;
        }
        at += 1;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_can_be_switched_on_and_off_alone() {
        for rule in REPAIRS {
            let mut rules = RuleSet::default();
            let valued = rule.switch.is_valued();
            assert_eq!(rules.contains(rule), rule.tier == Tier::One || valued, "{}", rule.name);
            rules.set(rule, false);
            assert!(!rules.contains(rule));
            let off = rules;
            rules.set(rule, true);
            assert!(rules.contains(rule));
            for other in REPAIRS.iter().filter(|other| *other != rule) {
                assert_eq!(rules.contains(other), RuleSet::default().contains(other));
                assert_eq!(off.contains(other), rules.contains(other));
            }
        }
    }

    #[test]
    fn a_stage_yields_its_rules_in_the_order_of_the_registry() {
        let (mut all, mut none) = (RuleSet::default(), RuleSet::default());
        for rule in REPAIRS {
            all.set(rule, true);
            none.set(rule, false);
        }
        let stages = [
            Stage::Signature,
            Stage::Names,
            Stage::Encoding,
            Stage::Dtype,
            Stage::Shape,
            Stage::Missing,
            Stage::Rows,
        ];
        for stage in stages {
            let of_stage = |rule: &&&Repair| rule.stage == stage;
            let expected: Vec<&Repair> = REPAIRS.iter().filter(of_stage).copied().collect();
            assert_eq!(all.of(stage).collect::<Vec<_>>(), expected, "{stage:?}");
            let explaining = expected.into_iter().filter(|rule| rule.switch == Switch::Policy);
            assert_eq!(none.of(stage).collect::<Vec<_>>(), explaining.collect::<Vec<_>>(), "{stage:?}");
            assert_eq!(none.off(stage).collect::<Vec<_>>(), all.of(stage).collect::<Vec<_>>(), "{stage:?}");
            assert_eq!(all.off(stage).count(), 0, "{stage:?}");
        }
    }
}

//! Where the configuration spells each rule: read from the registry of repairs, so that a new rule
//! needs no line here.
use super::problem::any_of;
use crate::repair::{LATER, REPAIRS, Switch};
use crate::spelling::nearest;

/// One rule, as the configuration speaks of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    pub name: &'static str,
    pub spelled: Spelled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelled {
    /// As the rule itself says.
    Known(Switch),
    /// Tier 3: not available yet.
    Later,
}

pub(super) fn all() -> impl Iterator<Item = Rule> {
    let known =
        REPAIRS.iter().map(|repair| Rule { name: repair.name, spelled: Spelled::Known(repair.switch) });
    known.chain(LATER.iter().map(|(name, _)| Rule { name, spelled: Spelled::Later }))
}

pub(super) fn find(name: &str) -> Option<Rule> {
    all().find(|rule| rule.name == name)
}

/// What to say to somebody who named a rule that there is not: the nearest one, else all that
/// `rules` takes.
pub(super) fn hint(name: &str) -> String {
    if let Some(near) = nearest(name, all().map(|rule| rule.name)) {
        return format!("did you mean `{near}`?");
    }
    let known: Vec<&str> = all()
        .filter(|rule| !matches!(rule.spelled, Spelled::Known(Switch::Elsewhere(_)) | Spelled::Later))
        .map(|rule| rule.name)
        .collect();
    format!("known rules are {}", any_of(&known).replace(" or ", " and "))
}

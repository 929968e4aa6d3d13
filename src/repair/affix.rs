//! Names that differ from the signature's by one common prefix or suffix, told once instead of name
//! by name.
use std::collections::{HashMap, HashSet};

use super::problem::Problem;
use super::reason::Reason;
use super::report::ascii;
use crate::signature::TensorInfo;
use crate::wire::PredictView;

/// Fewer names than this are reported one by one.
const MIN_NAMES: usize = 4;

/// How a sent name becomes an input's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Affix<'a> {
    /// The sent name has a prefix or suffix that the input's lacks.
    Surplus(Side, &'a str),
    /// The input's name has a prefix or suffix that the sent one lacks.
    Absent(Side, &'a str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Side {
    Front,
    Back,
}

/// The names of one pattern.
#[derive(Debug)]
pub(super) struct Pattern {
    /// Indices in the request's inputs.
    pub sent: HashSet<usize>,
    /// Indices among the missing inputs.
    pub missing: HashSet<usize>,
    pub problem: Problem,
}

/// The pattern that most of the unknown names have in common with missing inputs.
pub(super) fn common(view: &PredictView, unknown: &[usize], missing: &[&TensorInfo]) -> Option<Pattern> {
    if unknown.len() < MIN_NAMES {
        return None;
    }
    let places: HashMap<&str, usize> =
        missing.iter().enumerate().map(|(at, info)| (info.alias.as_str(), at)).collect();
    let key = |index: usize| view.inputs[index].key.as_str();
    // One of the names may be unlike the others, so two are compared with the inputs.
    let probes = [unknown.first(), unknown.last()].into_iter().flatten();
    let affixes = probes.flat_map(|index| missing.iter().flat_map(|info| between(key(*index), &info.alias)));
    let mut votes: HashMap<Affix<'_>, usize> = HashMap::new();
    for affix in affixes {
        let count = || unknown.iter().filter(|index| affix.alias(key(**index), &places).is_some()).count();
        if votes.len() < MAX_AFFIXES {
            votes.entry(affix).or_insert_with(count);
        }
    }
    let (affix, count) = votes.into_iter().max_by_key(|(affix, count)| (*count, affix.text().len()))?;
    if count < MIN_NAMES {
        return None;
    }
    let pairs: Vec<(usize, usize)> =
        unknown.iter().filter_map(|index| Some((*index, affix.alias(key(*index), &places)?))).collect();
    let (first, place) = *pairs.first()?;
    let problem = affix.problem(count, unknown.len(), key(first), &missing[place].alias);
    let (sent, missing) = pairs.into_iter().unzip();
    Some(Pattern { sent, missing, problem })
}

/// Differences that are tried on all names; each takes one pass over them.
const MAX_AFFIXES: usize = 8;

/// How the sent name may be the input's.
fn between<'a>(key: &'a str, alias: &'a str) -> impl Iterator<Item = Affix<'a>> {
    let found = [
        key.strip_suffix(alias).map(|front| Affix::Surplus(Side::Front, front)),
        key.strip_prefix(alias).map(|back| Affix::Surplus(Side::Back, back)),
        alias.strip_suffix(key).map(|front| Affix::Absent(Side::Front, front)),
        alias.strip_prefix(key).map(|back| Affix::Absent(Side::Back, back)),
    ];
    found.into_iter().flatten().filter(|affix| !affix.text().is_empty())
}

impl<'a> Affix<'a> {
    fn text(self) -> &'a str {
        match self {
            Self::Surplus(_, text) | Self::Absent(_, text) => text,
        }
    }

    /// The place of the missing input that a sent name stands for.
    fn alias(self, key: &str, places: &HashMap<&str, usize>) -> Option<usize> {
        match self {
            Self::Surplus(Side::Front, text) => places.get(key.strip_prefix(text)?),
            Self::Surplus(Side::Back, text) => places.get(key.strip_suffix(text)?),
            Self::Absent(Side::Front, text) => places.get(format!("{text}{key}").as_str()),
            Self::Absent(Side::Back, text) => places.get(format!("{key}{text}").as_str()),
        }
        .copied()
    }

    fn problem(self, count: usize, unknown: usize, key: &str, alias: &str) -> Problem {
        let (verb, whose, which) = match self {
            Self::Surplus(Side::Front, _) => ("begin with", "", "unlike the signature's"),
            Self::Surplus(Side::Back, _) => ("end with", "", "unlike the signature's"),
            Self::Absent(Side::Front, _) => ("begin with", "of the signature's ", "unlike the sent names"),
            Self::Absent(Side::Back, _) => ("end with", "of the signature's ", "unlike the sent names"),
        };
        let how_many = match count {
            _ if count == unknown && whose.is_empty() => format!("all {count}"),
            _ => count.to_string(),
        };
        let what = format!(
            "{unknown} names are no inputs of the signature: {how_many} {whose}{verb} `{}`, {which}",
            ascii(self.text())
        );
        let hint = format!("send '{}', not '{}', and so on", ascii(alias), ascii(key));
        Problem::new(Reason::NameUnknown, "", what).hint(hint)
    }
}

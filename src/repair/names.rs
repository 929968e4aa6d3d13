//! Matches sent inputs with declared ones: by name, by the rules that rename, and what is left over
//! or missing.
use super::policy::{Limits, Policy};
use super::problem::Problem;
use super::reason::Reason;
use super::report::ascii;
use super::{Change, Propose, Repair, Stage, Step, affix};
use crate::signature::{Signature, Signatures, TensorInfo};
use crate::wire::{PredictView, Rope};

/// What a rule of the names stage sees.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NameCase<'a> {
    pub message: &'a Rope,
    pub view: &'a PredictView,
    pub signature: &'a Signature,
    /// All signatures of the model: a name that another signature has was meant for that one.
    pub signatures: &'a Signatures,
    pub policy: &'a Policy,
    pub limits: Limits,
    /// Indices of sent inputs whose key is not an alias of the signature and that no rule has bound
    /// yet.
    pub unbound: &'a [usize],
    /// Declared inputs that no sent input is bound to yet.
    pub missing: &'a [&'a TensorInfo],
}

/// What a rule of the names stage proposes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Naming {
    /// The rule does not apply.
    No,
    /// Rename sent inputs: index and alias.
    Rename(Vec<(usize, String)>),
    /// Remove sent inputs.
    Drop(Vec<usize>),
    /// The rule found two interpretations.
    Ambiguous(Problem),
}

/// With more unknown names than this, no rule is tried.
const MAX_UNKNOWN: usize = 512;
/// With more unknown names than this, they are one problem instead of one each: a hostile request
/// could have thousands.
const MAX_REPORTED: usize = 32;
/// How many missing inputs are reported with a list of all inputs, which is the same for each.
const MAX_LISTS: usize = 8;

/// The outcome of the names stage.
#[derive(Debug, Default)]
pub(super) struct Names<'a> {
    /// Index of the sent input and its declaration.
    pub bound: Vec<(usize, &'a TensorInfo)>,
    pub steps: Vec<Step>,
    pub problems: Vec<Problem>,
}

pub(super) fn bind<'a>(
    message: &Rope,
    view: &PredictView,
    signature: &'a Signature,
    signatures: &Signatures,
    policy: &Policy,
    limits: Limits,
) -> Names<'a> {
    let mut names = Names::default();
    let mut unbound = Vec::new();
    let mut taken = vec![false; signature.inputs.len()];
    for (index, input) in view.inputs.iter().enumerate() {
        match signature.input_index(&input.key) {
            Some(at) => {
                taken[at] = true;
                names.bound.push((index, &signature.inputs[at]));
            }
            None => unbound.push(index),
        }
    }
    if unbound.is_empty() && names.bound.len() == signature.inputs.len() {
        return names;
    }
    let missing = |taken: &[bool]| -> Vec<&'a TensorInfo> {
        signature.inputs.iter().zip(taken).filter(|(_, taken)| !**taken).map(|(info, _)| info).collect()
    };
    let request =
        NameCase { message, view, signature, signatures, policy, limits, unbound: &[], missing: &[] };
    for rule in policy.rules.of(Stage::Names) {
        let Propose::Names(propose) = rule.propose else { continue };
        // So many unknown names are not a mistake, and comparing them all would be quadratic.
        if unbound.len() > MAX_UNKNOWN {
            break;
        }
        let open = missing(&taken);
        let case = NameCase { unbound: &unbound, missing: &open, ..request };
        match propose(&case) {
            Naming::No => {}
            Naming::Rename(renames) => {
                for (index, alias) in renames {
                    let Some(at) = signature.input_index(&alias) else { continue };
                    taken[at] = true;
                    let old = view.inputs[index].key.clone();
                    let fixes = unknown(&old, signature, true);
                    unbound.retain(|open| *open != index);
                    names.bound.push((index, &signature.inputs[at]));
                    let change = Change::Key { old, new: alias.clone() };
                    names.steps.push(Step { rule, input: alias, index: Some(index), change, fixes });
                }
            }
            Naming::Drop(dropped) => {
                for index in dropped {
                    let key = view.inputs[index].key.clone();
                    let fixes = unknown(&key, signature, false);
                    unbound.retain(|open| *open != index);
                    let change = Change::Dropped { key: key.clone() };
                    names.steps.push(Step { rule, input: key, index: Some(index), change, fixes });
                }
            }
            Naming::Ambiguous(problem) => names.problems.push(problem),
        }
    }
    let mut open: Vec<_> = missing(&taken).into_iter().filter(|info| !info.has_default).collect();
    if names.problems.is_empty() {
        // If one input is declared and one was sent, they are compared even if no rename is
        // allowed, so that all problems are reported at once.
        if let ([index], [info]) = (unbound.as_slice(), open.as_slice())
            && signature.inputs.len() == 1
        {
            names.bound.push((*index, info));
            names.problems.push(unknown(&view.inputs[*index].key, signature, true));
            return names;
        }
        let switch = (unbound.len() <= MAX_UNKNOWN)
            .then(|| {
                let open = missing(&taken);
                let case = NameCase { unbound: &unbound, missing: &open, ..request };
                let renames = |rule: &&'static Repair| match rule.propose {
                    Propose::Names(propose) => matches!(propose(&case), Naming::Rename(_)),
                    _ => false,
                };
                policy.rules.off(Stage::Names).find(renames)
            })
            .flatten();
        let is_missing = !open.is_empty();
        if let Some(pattern) = affix::common(view, &unbound, &open) {
            names.problems.push(pattern.problem.switch(switch));
            unbound.retain(|index| !pattern.sent.contains(index));
            let mut at = 0..;
            open.retain(|_| !at.next().is_some_and(|at| pattern.missing.contains(&at)));
        }
        if unbound.len() > MAX_REPORTED {
            names.problems.push(crowd(view, &unbound, signature, is_missing));
            unbound.clear();
        }
        for index in unbound {
            let problem = unknown(&view.inputs[index].key, signature, is_missing);
            names.problems.push(problem.switch(switch));
        }
    }
    for (at, info) in open.into_iter().enumerate() {
        let what = match at {
            MAX_LISTS.. => "not sent".to_owned(),
            _ => format!("not sent, the signature takes {}", list(signature)),
        };
        names.problems.push(Problem::new(Reason::InputMissing, &info.alias, what));
    }
    names
}

/// The problem of many unknown names.
fn crowd(view: &PredictView, unknown: &[usize], signature: &Signature, missing: bool) -> Problem {
    let reason = if missing { Reason::NameUnknown } else { Reason::InputExtra };
    let names = unknown.iter().map(|index| view.inputs[*index].key.as_str());
    let what = format!(
        "{} names are no inputs of the signature: {}; it takes {}",
        unknown.len(),
        quoted(names),
        list(signature)
    );
    Problem::new(reason, "", what)
}

fn unknown(key: &str, signature: &Signature, missing: bool) -> Problem {
    let reason = if missing { Reason::NameUnknown } else { Reason::InputExtra };
    let problem =
        Problem::new(reason, key, format!("no such input, the signature takes {}", list(signature)));
    if key == "examples" && signature.inputs.iter().all(|info| info.dtype != crate::tensor::DataType::STRING)
    {
        return problem
            .hint("`examples` is the input of serialized-tf.Example signatures; this one takes tensors");
    }
    problem
}

/// The names of the declared inputs, up to a limit.
pub(super) fn list(signature: &Signature) -> String {
    quoted(signature.inputs.iter().map(|info| info.alias.as_str()))
}

fn quoted<'a>(mut names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 12;
    let mut text: Vec<String> = names.by_ref().take(SHOWN).map(|name| format!("'{}'", ascii(name))).collect();
    match names.count() {
        0 if text.is_empty() => text.push("none".to_owned()),
        0 => {}
        left => text.push(format!("and {left} more")),
    }
    text.join(", ")
}

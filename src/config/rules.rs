//! The names of all rules and where the configuration spells them; what they do is `repair`'s business.
use super::problem::{any_of, nearest};

/// One rule of repair.md.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    pub name: &'static str,
    pub spelled: Spelled,
}

/// Where the configuration says something about a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelled {
    /// Tier 1, on by itself: `rules: {name: off}`.
    Off,
    /// Tier 1 with a policy key of its own, of that name.
    Policy,
    /// Tier 2 without a value: `rules: {name: on}`.
    On,
    /// Tier 2: `rules: {name: [input, ...]}`.
    Inputs,
    /// Tier 2 with a value, spelled elsewhere in a signature.
    Elsewhere(&'static str),
    /// Tier 3.
    Later,
}

const fn rule(name: &'static str, spelled: Spelled) -> Rule {
    Rule { name, spelled }
}

pub(super) const RULES: &[Rule] = &[
    rule("only_signature", Spelled::Off),
    rule("rename_tensor_name", Spelled::Off),
    rule("rename_single", Spelled::Off),
    rule("infer_dim", Spelled::Off),
    rule("add_batch_dim", Spelled::Off),
    rule("batch_first", Spelled::Policy),
    rule("drop_unit_dims", Spelled::Off),
    rule("insert_unit_dims", Spelled::Off),
    rule("column_vector", Spelled::Policy),
    rule("scalar_shape", Spelled::Off),
    rule("cast_widen", Spelled::Off),
    rule("cast_checked", Spelled::Off),
    rule("cast_round", Spelled::Off),
    rule("move_values", Spelled::Off),
    rule("string_content", Spelled::Off),
    rule("flatten", Spelled::On),
    rule("unflatten", Spelled::On),
    rule("singleton_move", Spelled::On),
    rule("rank1_is", Spelled::Elsewhere("inputs: {NAME: {rank1_is: row}}")),
    rule("suffix_match", Spelled::On),
    rule("aliases", Spelled::Elsewhere("aliases: {SENT: DECLARED}")),
    rule("drop_extra", Spelled::Inputs),
    rule("input_defaults", Spelled::Elsewhere("inputs: {NAME: {default: VALUE}}")),
    rule("scalar_inputs", Spelled::Elsewhere("inputs: {NAME: {scalar: true}}")),
    rule("integral_floats", Spelled::On),
    rule("bool_numbers", Spelled::On),
    rule("round_ints", Spelled::On),
    rule("pad_static_batch", Spelled::On),
    rule("split_oversize", Spelled::On),
    rule("fan_out", Spelled::On),
    rule("pad_ragged", Spelled::Elsewhere("inputs: {NAME: {pad: {value: 0}}}")),
    rule("transpose_layout", Spelled::Later),
    rule("decode_base64", Spelled::Later),
    rule("decode_image", Spelled::Later),
    rule("resize", Spelled::Later),
    rule("scale", Spelled::Later),
    rule("standardize", Spelled::Later),
    rule("relabel_dtype", Spelled::Later),
    rule("rename_model", Spelled::Later),
];

pub(super) fn find(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

/// What to say to somebody who named a rule that there is not: the nearest one, else all that `rules` takes.
pub(super) fn hint(name: &str) -> String {
    if let Some(near) = nearest(name, RULES.iter().map(|rule| rule.name)) {
        return format!("did you mean `{near}`?");
    }
    let known: Vec<&str> = RULES
        .iter()
        .filter(|rule| !matches!(rule.spelled, Spelled::Elsewhere(_) | Spelled::Later))
        .map(|rule| rule.name)
        .collect();
    format!("known rules are {}", any_of(&known).replace(" or ", " and "))
}

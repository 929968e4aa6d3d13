//! The policies in the file: `defaults`, then each model over it, then each signature over its
//! model.
use super::Config;
use super::problem::Problem;
use super::rules::{self, Spelled};
use super::section::{Key, Section, duration, key, number, switch};
use super::yaml::{Entry, Node, Value};
use crate::repair::policy::{
    InputPolicy, Literal, MissingInputs, Mode, ModelPolicy, Pad, Policy, Rank1, ShortLists, Unrepairable,
};
use crate::repair::{REPAIRS, Repair, Switch};

pub(super) const MODES: &[(&str, Mode)] =
    &[("off", Mode::Off), ("observe", Mode::Observe), ("repair", Mode::Repair), ("strict", Mode::Strict)];

const MODE: Key = key(
    "mode",
    "`off`, `observe`, `repair`, `strict`",
    "repair",
    "How far the sidecar goes: forward unread; count only; repair what has one right reading; refuse all that does not conform.",
);
const UNREPAIRABLE: Key = key(
    "unrepairable",
    "`reject`, `forward`",
    "reject",
    "In mode `repair`, what happens to a request that no rule can mend.",
);
const MISSING_INPUTS: Key = key(
    "missing_inputs",
    "`forward`, `refuse`",
    "forward",
    "A request whose only fault is a missing input. The signature may have defaults that nobody can see from outside.",
);
const BATCH_FIRST: Key = key(
    "batch_first",
    "`on`, `off`",
    "on",
    "Reads a tensor of one rank too few as one row even where a 1 would also fit at an inner axis.",
);
const COLUMN_VECTOR: Key =
    key("column_vector", "`on`, `off`", "on", "Reads `[k,1]` as `[1,k]` where `[-1,k]` is declared.");
const ROUND_F64: Key = key(
    "round_f64",
    "`allow`, `refuse`",
    "allow",
    "Whether float64 is rounded to float32; `refuse` casts only values that survive exactly.",
);
const SHORT_LISTS: Key = key(
    "short_lists",
    "`refuse`, `allow`",
    "refuse",
    "A list of several values that is shorter than its shape: TensorFlow repeats the last one.",
);
const EXPLAIN_UPSTREAM: Key = key(
    "explain_upstream",
    "`on`, `off`",
    "on",
    "Puts behind the text of an error that TF Serving answers what it means and who must act (docs/errors.md). Never in mode `off`.",
);
const RULES: Key = key(
    "rules",
    "rule: `on`, `off`",
    "",
    "Rules of tier 2 switched on, rules of tier 1 switched off, by name. `drop_extra` takes a list of inputs. Tier 2 is not for `defaults`: it assumes something about one model.",
);

pub(super) const DEFAULTS: &[Key] = &[
    MODE,
    UNREPAIRABLE,
    MISSING_INPUTS,
    BATCH_FIRST,
    COLUMN_VECTOR,
    ROUND_F64,
    SHORT_LISTS,
    EXPLAIN_UPSTREAM,
    RULES,
];
const MODEL: &[Key] = &[
    MODE,
    UNREPAIRABLE,
    MISSING_INPUTS,
    BATCH_FIRST,
    COLUMN_VECTOR,
    ROUND_F64,
    SHORT_LISTS,
    EXPLAIN_UPSTREAM,
    RULES,
    key("signatures", "signature: policy", "", "What differs for a signature of this model."),
];
const SIGNATURE: &[Key] = &[
    MODE,
    UNREPAIRABLE,
    MISSING_INPUTS,
    BATCH_FIRST,
    COLUMN_VECTOR,
    ROUND_F64,
    SHORT_LISTS,
    EXPLAIN_UPSTREAM,
    RULES,
    key(
        "aliases",
        "sent: declared",
        "",
        "Names that clients send, and the inputs they mean (rule `aliases`).",
    ),
    key("inputs", "input: settings", "", "What only the owner of the model knows about an input."),
    key("batching", "section", "", "Batching of concurrent requests; comes with a later release."),
];
const INPUT: &[Key] = &[
    key("default", "value", "", "Sent when the request leaves the input out (rule `input_defaults`)."),
    key(
        "scalar",
        "`on`, `off`",
        "off",
        "The input takes a scalar although its rank is unknown (rule `scalar_inputs`).",
    ),
    key(
        "rank1_is",
        "`single_row`, `one_per_row`",
        "",
        "How a vector is read where `[-1,-1]` is declared: one row, or a row a value.",
    ),
    key("pad", "section", "", "How short rows are filled up (rule `pad_ragged`)."),
];
const PAD: &[Key] = &[
    key("value", "value", "", "What fills them up."),
    key("mask", "input", "", "The input that says which values are real."),
];
const BATCHING: &[Key] = &[
    key("enabled", "`off`", "off", "`on` is a problem until batching is there."),
    key("max_rows", "number", "", "Rows of one run; also what `split_oversize` splits at."),
    key("max_queue_rows", "number", "", "Rows that may wait."),
    key("max_delay", "time", "0ms", "How long a lone request may wait for others."),
    key("slo_p99", "time", "", "The latency that the batch size adapts to."),
    key("verify_sample", "0 to 1", "", "The share of batched requests that is also run alone and compared."),
];

#[cfg(test)]
pub(super) const SECTIONS: &[(&str, &[Key])] = &[
    ("defaults", DEFAULTS),
    ("models.MODEL", MODEL),
    ("models.MODEL.signatures.SIGNATURE", SIGNATURE),
    ("models.MODEL.signatures.SIGNATURE.inputs.INPUT", INPUT),
    ("models.MODEL.signatures.SIGNATURE.inputs.INPUT.pad", PAD),
    ("models.MODEL.signatures.SIGNATURE.batching", BATCHING),
];

/// Reads `defaults` and `models`.
pub(super) fn apply(root: &Section<'_>, config: &mut Config) {
    if let Some(defaults) = root.section("defaults", DEFAULTS) {
        apply_policy(&defaults, &mut config.defaults.defaults, Level::Defaults);
    }
    let Some(models) = root.named("models") else { return };
    for Entry { key: name, place, node } in models.entries {
        if name.is_empty() {
            models.push(Problem::at(
                *place,
                models.at(name),
                "expected the name of a model, found an empty one",
            ));
        }
        let mut model = ModelPolicy { defaults: config.defaults.defaults.clone(), ..ModelPolicy::default() };
        if let Some(section) = Section::open(node, models.at(name), MODEL, models.problems) {
            apply_policy(&section, &mut model.defaults, Level::Model);
            if let Some(signatures) = section.named("signatures") {
                for Entry { key, node, .. } in signatures.entries {
                    let mut policy = model.defaults.clone();
                    if let Some(section) = Section::open(node, signatures.at(key), SIGNATURE, models.problems)
                    {
                        apply_signature(&section, &mut policy);
                    }
                    model.signatures.insert(key.clone(), policy);
                }
            }
        }
        config.models.insert(name.clone(), model);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Defaults,
    Model,
    Signature,
}

fn apply_policy(section: &Section<'_>, policy: &mut Policy, level: Level) {
    section.choice("mode", &mut policy.mode, MODES);
    section.choice(
        "unrepairable",
        &mut policy.unrepairable,
        &[("reject", Unrepairable::Reject), ("forward", Unrepairable::Forward)],
    );
    section.choice(
        "missing_inputs",
        &mut policy.missing_inputs,
        &[("forward", MissingInputs::Forward), ("refuse", MissingInputs::Refuse)],
    );
    for rule in REPAIRS.iter().filter(|rule| rule.switch == Switch::Policy) {
        let mut on = policy.rules.contains(rule);
        section.value(rule.name, &mut on, switch);
        policy.rules.set(rule, on);
    }
    section.choice("round_f64", &mut policy.round_f64, &[("allow", true), ("refuse", false)]);
    section.choice(
        "short_lists",
        &mut policy.short_lists,
        &[("refuse", ShortLists::Refuse), ("allow", ShortLists::Allow)],
    );
    section.value("explain_upstream", &mut policy.explain_upstream, switch);
    if let Some(rules) = section.named("rules") {
        for entry in rules.entries {
            apply_rule(&rules, entry, policy, level);
        }
    }
}

fn apply_rule(
    section: &Section<'_>,
    Entry { key: name, place, node }: &Entry,
    policy: &mut Policy,
    level: Level,
) {
    let path = section.at(name);
    let Some(rule) = rules::find(name) else {
        section.push(
            Problem::at(*place, path, "expected a known rule, found an unknown one").hint(rules::hint(name)),
        );
        return;
    };
    if level == Level::Defaults && matches!(rule.spelled, Spelled::Known(Switch::On | Switch::Inputs)) {
        let text = "expected a rule of tier 1: one of tier 2 assumes something about its model";
        section
            .push(Problem::at(*place, path, text).hint(format!("say it under `models.MODEL.rules.{name}`")));
        return;
    }
    match rule.spelled {
        Spelled::Known(Switch::Off | Switch::On | Switch::Policy) => {
            let Some(on) = section.scalar(&path, node, switch) else { return };
            if let Some(repair) = Repair::find(rule.name) {
                policy.rules.set(repair, on);
            }
        }
        Spelled::Known(Switch::Inputs) => match &node.value {
            Value::List(items) => {
                policy.drop_extra = items
                    .iter()
                    .filter_map(|item| section.scalar(&path, item, |text| Ok(text.to_owned())))
                    .collect();
            }
            Value::Scalar { text, .. } if switch(text) == Ok(false) => policy.drop_extra.clear(),
            _ => {
                let text = format!("expected a list of inputs, found {}", node.found());
                section.push(
                    Problem::at(node.place, path, text)
                        .hint("name what may be dropped: `drop_extra: [user_id]`"),
                );
            }
        },
        Spelled::Known(Switch::Elsewhere(spelling)) => {
            let text = "expected a rule without a value here";
            section.push(Problem::at(*place, path, text).hint(format!("in a signature, write `{spelling}`")));
        }
        Spelled::Later => {
            section.push(Problem::at(
                *place,
                path,
                "expected a rule that there is already: this one is not available yet",
            ));
        }
    }
}

fn apply_signature(section: &Section<'_>, policy: &mut Policy) {
    apply_policy(section, policy, Level::Signature);
    if let Some(aliases) = section.named("aliases") {
        for Entry { key: sent, place, node } in aliases.entries {
            let path = aliases.at(sent);
            let Some(declared) = aliases.scalar(&path, node, |text| Ok(text.to_owned())) else { continue };
            if *sent == declared {
                aliases.push(Problem::at(
                    *place,
                    path,
                    "expected the name of another input, found the same name",
                ));
            } else {
                policy.aliases.insert(sent.clone(), declared);
            }
        }
    }
    if let Some(inputs) = section.named("inputs") {
        for Entry { key: name, node, .. } in inputs.entries {
            let Some(section) = Section::open(node, inputs.at(name), INPUT, inputs.problems) else {
                continue;
            };
            apply_input(&section, policy.inputs.entry(name.clone()).or_default());
        }
    }
    if let Some(batching) = section.section("batching", BATCHING) {
        apply_batching(&batching, policy);
    }
    let splits = Repair::find("split_oversize").is_some_and(|rule| policy.rules.contains(rule));
    if splits && policy.max_rows == 0 {
        let problem = Problem::at(
            section.place,
            section.at("rules.split_oversize"),
            "expected `batching.max_rows` to split at, found none",
        );
        section.push(problem.hint("write `batching: {max_rows: 64}` beside it"));
    }
}

fn apply_input(section: &Section<'_>, input: &mut InputPolicy) {
    if let Some(node) = section.get("default") {
        input.default = literal(section, "default", node);
    }
    section.value("scalar", &mut input.scalar, switch);
    let mut rank1_is = input.rank1_is.unwrap_or(Rank1::SingleRow);
    if section.get("rank1_is").is_some() {
        section.choice(
            "rank1_is",
            &mut rank1_is,
            &[("single_row", Rank1::SingleRow), ("one_per_row", Rank1::OnePerRow)],
        );
        input.rank1_is = Some(rank1_is);
    }
    if let Some(pad) = section.section("pad", PAD) {
        let mut mask = None;
        pad.value("mask", &mut mask, |text| Ok(Some(text.to_owned())));
        match pad.get("value") {
            Some(node) => input.pad = literal(&pad, "value", node).map(|value| Pad { value, mask }),
            None => pad.problem("expected a `value` to fill up with, found none"),
        }
    }
}

/// A value as the file writes it: quotes make it text.
fn literal(section: &Section<'_>, name: &str, node: &Node) -> Option<Literal> {
    let Value::Scalar { text, plain } = &node.value else {
        return section.scalar(&section.at(name), node, |_| Err(String::new()));
    };
    if !plain {
        return Some(Literal::Text(text.clone()));
    }
    Some(match text.as_str() {
        "true" | "True" => Literal::Bool(true),
        "false" | "False" => Literal::Bool(false),
        ".nan" | ".NaN" => Literal::Float(f64::NAN),
        ".inf" | "+.inf" => Literal::Float(f64::INFINITY),
        "-.inf" => Literal::Float(f64::NEG_INFINITY),
        text if text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) => {
            match (text.parse(), text.parse()) {
                (Ok(int), _) => Literal::Int(int),
                (_, Ok(float)) => Literal::Float(float),
                _ => Literal::Text(text.to_owned()),
            }
        }
        text => Literal::Text(text.to_owned()),
    })
}

/// Checked in full, so that a configuration written for a later release is understood or refused,
/// never half read.
fn apply_batching(section: &Section<'_>, policy: &mut Policy) {
    let mut enabled = false;
    section.value("enabled", &mut enabled, switch);
    if enabled && let Some(node) = section.get("enabled") {
        let problem = Problem::at(
            node.place,
            section.at("enabled"),
            "expected `off`: batching comes with a later release",
        );
        section.push(problem.hint(
            "TF Serving can batch by itself: `--enable_batching`, and then `server_batching: on` here",
        ));
    }
    let (mut rows, mut time, mut share) = (0_u64, std::time::Duration::ZERO, 0.0_f64);
    section.value("max_rows", &mut policy.max_rows, |text| number(text, 1, 1 << 31));
    section.value("max_queue_rows", &mut rows, |text| number(text, 1, 1 << 31));
    section.value("max_delay", &mut time, duration);
    section.value("slo_p99", &mut time, duration);
    section.value("verify_sample", &mut share, |text| match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(format!("expected a number from 0 to 1, found `{text}`")),
    });
}

//! The configuration held against the served signatures: names that they do not have, and values
//! that their dtypes cannot hold.
use std::fmt;

use crate::profile::By;
use crate::repair::RuleValues;
use crate::repair::notation;
use crate::repair::policy::{Literal, ModelPolicy, Policy, ProfileFile, ReadProfile};
use crate::repair::report::ascii;
use crate::repair::rules::{ALIASES, DEFAULT, DROP_EXTRA, PAD, PAD_MASK, PAD_VALUE};
use crate::repair::transform::{Bound, CERTAIN, When, unsuited};
use crate::signature::{Signature, Signatures, TensorInfo};
use crate::spelling;
use crate::tensor::DataType;

/// A setting that has no effect, because it does not match what the model declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigProblem {
    /// The key in the configuration: `models.churn.signatures.serving_default.aliases.input_3`.
    pub(crate) path: String,
    /// What does not match: `` signature `serving_default` has no input `ages` (did you mean
    /// `age`?) ``.
    pub(crate) what: String,
}

/// The settings of a model that do not match these signatures, in the order of the configuration.
///
/// Requests are never refused because of them. A setting that matches no signature is ignored.
pub(crate) fn config_problems(
    model: &str,
    policy: &ModelPolicy,
    signatures: &Signatures,
) -> Vec<ConfigProblem> {
    let mut found = Found { path: format!("models.{model}"), problems: Vec::new() };
    let declares = |name: &String| {
        let mut servable = signatures.servable().peekable();
        servable.peek().is_some() && servable.all(|signature| signature.input(name).is_some())
    };
    for name in policy.defaults.values.inputs(&DROP_EXTRA).filter(|name| declares(name)) {
        found.add(&format!("rules.drop_extra.{name}"), "every signature has this input: it is never dropped");
    }
    found.profile_of_model(&policy.defaults, signatures);
    for (name, settings) in &policy.signatures {
        let Some(signature) = signatures.get(name) else {
            let known: Vec<&str> = signatures.servable().map(|signature| signature.name.as_str()).collect();
            found.add(&format!("signatures.{name}"), &unknown("the model", "signature", name, &known));
            continue;
        };
        found.signature(signature, settings, &policy.defaults);
    }
    found.problems
}

struct Found {
    path: String,
    problems: Vec<ConfigProblem>,
}

impl Found {
    fn add(&mut self, key: &str, what: &str) {
        self.problems.push(ConfigProblem { path: format!("{}.{key}", self.path), what: what.to_owned() });
    }

    /// `inherited` is what is set for the model; the inputs that it drops are checked there.
    fn signature(&mut self, signature: &Signature, settings: &Policy, model: &Policy) {
        let (inherited, inherited_profile) = (&model.values, model.profile.as_ref());
        let at = format!("signatures.{}", signature.name);
        if let Some(file) = settings.profile.as_ref().filter(|file| inherited_profile != Some(file)) {
            self.profile(&format!("{at}.profile"), signature, file);
        }
        for name in settings.values.inputs(&DROP_EXTRA) {
            if !inherited.has_input(&DROP_EXTRA, name) && signature.input(name).is_some() {
                let what = "the signature has this input: it is never dropped";
                self.add(&format!("{at}.rules.drop_extra.{name}"), what);
            }
        }
        for (sent, declared) in settings.values.renames(&ALIASES) {
            let key = format!("{at}.aliases.{sent}");
            if signature.input(declared).is_none() {
                self.add(&key, &no_input(signature, declared));
            } else if signature.input(sent).is_some() {
                self.add(&key, "the signature has an input of this name: the alias is never used");
            }
        }
        for (name, input) in &settings.inputs {
            let key = format!("{at}.inputs.{name}");
            match signature.input(name) {
                None => self.add(&key, &no_input(signature, name)),
                Some(info) => {
                    self.input(&key, signature, info.dtype, input);
                    self.transforms(&key, info, input);
                }
            }
        }
    }

    fn transforms(&mut self, key: &str, info: &TensorInfo, input: &RuleValues) {
        let Some(transforms) = input.transforms() else { return };
        let key = |name: &str| format!("{key}.{name}");
        if let Some(why) = unsuited(transforms, info) {
            self.add(&key("transform"), &not_made(&why));
            return;
        }
        let bound = transforms.bound.as_deref();
        if transforms.needs_profile() && bound.is_none_or(|bound| bound.scaler.is_none()) {
            let what =
                "`standardize: {from: profile}` needs a `profile` with a scaler or a raw side of this input";
            self.add(&key("transform"), &not_made(what));
        }
        if input.when() != When::Raw {
            return;
        }
        match bound {
            Some(Bound { ratio: Some(_), one_row, .. }) => {
                if let Some(one_row) = one_row.filter(|one_row| *one_row < CERTAIN) {
                    let decimal = one_row.max(0.0) / std::f64::consts::LN_10;
                    let what = format!(
                        "a usual raw row is only 10^{decimal:.1} times as likely raw, expected at least 10^6: \
                         requests need more rows, or the input more features, and the rest stays as it is"
                    );
                    self.add(&key("when"), &what);
                }
            }
            _ => {
                let what = "`when: raw` needs a `profile` with a raw side of this input";
                self.add(&key("when"), &not_made(what));
            }
        }
    }

    /// The profile of a model is of the signature that it names, or of the only one.
    fn profile_of_model(&mut self, settings: &Policy, signatures: &Signatures) {
        let Some(file) = &settings.profile else { return };
        let named = file.read.as_ref().and_then(|read| read.profile.signature.as_deref());
        let known: Vec<&str> = signatures.servable().map(|signature| signature.name.as_str()).collect();
        match (named, &known[..]) {
            (Some(name), _) => match signatures.get(name) {
                Some(signature) => self.profile("profile", signature, file),
                None => self.add("profile", &unknown("the model", "signature", name, &known)),
            },
            (None, [only]) => {
                if let Some(signature) = signatures.get(only) {
                    self.profile("profile", signature, file);
                }
            }
            (None, _) => {}
        }
    }

    /// What a profile says of inputs that the signature does not have, or declares otherwise.
    fn profile(&mut self, key: &str, signature: &Signature, file: &ProfileFile) {
        let Some(ReadProfile { profile, .. }) = &file.read else { return };
        if let Some(name) = profile.signature.as_ref().filter(|name| **name != signature.name) {
            self.add(key, &format!("the profile is of signature `{}`: it is ignored", ascii(name)));
            return;
        }
        for (name, of) in &profile.inputs {
            let Some(info) = signature.input(name) else {
                self.add(key, &format!("the profile has another input: {}", no_input(signature, name)));
                continue;
            };
            let declared = info.shape.dims().and_then(|dims| dims.last()).filter(|size| **size >= 0);
            let name = ascii(name);
            if (info.dtype == DataType::STRING) != of.text.is_some() {
                let what =
                    format!("the profile has {} for input `{name}`, which is {}", of.dtype, info.dtype);
                self.add(key, &format!("{what}: it is ignored"));
            } else if of.by != By::Whole
                && let Some(declared) = declared
                && *declared != of.features.len() as i64
            {
                let features = of.features.len();
                let what =
                    format!("the profile has {features} features of input `{name}`, which has {declared}");
                self.add(key, &format!("{what}: it is ignored"));
            }
        }
    }

    fn input(&mut self, key: &str, signature: &Signature, dtype: DataType, input: &RuleValues) {
        let fits = |literal: &Literal| notation::element(dtype, literal).is_ok();
        let what = format!("{dtype}, the dtype of the input, cannot hold the value: it is ignored");
        if input.literal(&DEFAULT).is_some_and(|default| !fits(default)) {
            self.add(&format!("{key}.default"), &what);
        }
        let Some(pad) = input.section(&PAD) else { return };
        if pad.literal(&PAD_VALUE).is_some_and(|value| !fits(value)) {
            self.add(&format!("{key}.pad.value"), &what);
        }
        if let Some(mask) = pad.text(&PAD_MASK).filter(|mask| signature.input(mask).is_none()) {
            self.add(&format!("{key}.pad.mask"), &no_input(signature, mask));
        }
    }
}

fn not_made(what: &str) -> String {
    format!("{what}: it is not made")
}

fn no_input(signature: &Signature, name: &str) -> String {
    let known: Vec<&str> = signature.inputs.iter().map(|info| info.alias.as_str()).collect();
    unknown(&format!("signature `{}`", ascii(&signature.name)), "input", name, &known)
}

/// `` the model has no signature `x` (did you mean `y`?) ``, or with a list of what it has.
fn unknown(owner: &str, kind: &str, name: &str, known: &[&str]) -> String {
    const SHOWN: usize = 8;
    let hint = match spelling::close(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{}`?", ascii(near)),
        None if known.is_empty() => "it has none".to_owned(),
        None => {
            let mut names: Vec<String> =
                known.iter().take(SHOWN).map(|name| format!("`{}`", ascii(name))).collect();
            if known.len() > SHOWN {
                names.push(format!("and {} more", known.len() - SHOWN));
            }
            format!("it has {}", names.join(", "))
        }
    };
    format!("{owner} has no {kind} `{}` ({hint})", ascii(name))
}

/// `` `models.m.signatures.s`: the model has no signature `s` (it has `t`) ``.
impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", ascii(&self.path), self.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::{File, Settings, load};

    fn problems(model: &str, signature: &str) -> Vec<String> {
        let text = format!("models: {{m: {{{model}}}}}");
        let config = load(&Settings::default(), Some(File { name: "test", text: &text }))
            .unwrap_or_else(|problems| panic!("{problems}"));
        let signatures = notation::signature(signature).unwrap();
        let found = config_problems("m", config.policy("m"), &signatures);
        found.iter().map(ToString::to_string).collect()
    }

    fn of_signature(settings: &str, signature: &str) -> Vec<String> {
        problems(&format!("signatures: {{serving_default: {{{settings}}}}}"), signature)
    }

    #[test]
    fn settings_that_match_the_signature_are_no_problem() {
        let settings = "rules: {drop_extra: [user_id]}, aliases: {input_3: x}, \
            inputs: {x: {default: 1.5, pad: {value: 0, mask: mask}}, mask: {scalar: true}}";
        assert_eq!(of_signature(settings, "x:float[-1,4] mask:int32[-1,4]"), [""; 0]);
        assert_eq!(problems("rules: {drop_extra: [x]}", "y:float[-1]"), [""; 0]);
        assert_eq!(problems("", "x:float[-1]"), [""; 0]);
    }

    #[test]
    fn an_unknown_signature_or_input_is_named_with_what_there_is() {
        let text = problems("signatures: {serving_defualt: {mode: strict}, other: {}}", "x:float[-1]");
        insta::assert_snapshot!(text.join("\n"), @r"
        `models.m.signatures.other`: the model has no signature `other` (it has `serving_default`)
        `models.m.signatures.serving_defualt`: the model has no signature `serving_defualt` (did you mean `serving_default`?)
        ");
        let settings = "aliases: {input_3: amuont}, inputs: {age: {scalar: true}, \
            amount: {pad: {value: 0, mask: padding}}}";
        let text = of_signature(settings, "amount:float[-1,4] user:int64[-1]");
        insta::assert_snapshot!(text.join("\n"), @r"
        `models.m.signatures.serving_default.aliases.input_3`: signature `serving_default` has no input `amuont` (did you mean `amount`?)
        `models.m.signatures.serving_default.inputs.age`: signature `serving_default` has no input `age` (it has `amount`, `user`)
        `models.m.signatures.serving_default.inputs.amount.pad.mask`: signature `serving_default` has no input `padding` (it has `amount`, `user`)
        ");
    }

    #[test]
    fn transforms_that_do_not_suit_the_model_are_problems() {
        let settings = "inputs: {a: {transform: [{scale: {factor: [1, 2]}}]}, b: {transform: [{transpose: [1, 0]}]}, \
            c: {transform: [{standardize: {from: profile}}], when: raw}, d: {transform: [{clip: [0, 1]}]}}";
        let text = of_signature(settings, "a:float[-1,3] b:float[-1,2,2] c:float[-1] d:int32[-1]");
        insta::assert_snapshot!(text.join("\n"), @r"
        `models.m.signatures.serving_default.inputs.a.transform`: `scale` has numbers for 2 features, and this input has 3: it is not made
        `models.m.signatures.serving_default.inputs.b.transform`: `transpose` has 2 axes, and this input is [-1,2,2]: it is not made
        `models.m.signatures.serving_default.inputs.c.transform`: `standardize: {from: profile}` needs a `profile` with a scaler or a raw side of this input: it is not made
        `models.m.signatures.serving_default.inputs.c.when`: `when: raw` needs a `profile` with a raw side of this input: it is not made
        `models.m.signatures.serving_default.inputs.d.transform`: `clip` is for floats, and this input is int32: it is not made
        ");
    }

    #[test]
    fn settings_that_never_apply_are_problems() {
        let settings = "rules: {drop_extra: [x, gone]}, aliases: {x: y}, \
            inputs: {x: {default: 1.5}, y: {pad: {value: pad}}}";
        let text = of_signature(settings, "x:string[-1] y:int32[-1,4]");
        insta::assert_snapshot!(text.join("\n"), @r"
        `models.m.signatures.serving_default.rules.drop_extra.x`: the signature has this input: it is never dropped
        `models.m.signatures.serving_default.aliases.x`: the signature has an input of this name: the alias is never used
        `models.m.signatures.serving_default.inputs.x.default`: string, the dtype of the input, cannot hold the value: it is ignored
        `models.m.signatures.serving_default.inputs.y.pad.value`: int32, the dtype of the input, cannot hold the value: it is ignored
        ");
        assert_eq!(
            problems("rules: {drop_extra: [x]}, signatures: {serving_default: {}}", "x:float[-1]"),
            ["`models.m.rules.drop_extra.x`: every signature has this input: it is never dropped"]
        );
    }
}

//! What the signatures that clients call answered, so that outputs which are gone are noticed.
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::form::Form;
use super::store::Counted;
use crate::signature::Signatures;

/// The outputs of a signature of a version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct SignatureOutputs {
    pub model: String,
    pub version: i64,
    pub signature: String,
    pub outputs: Vec<String>,
}

impl SignatureOutputs {
    /// The outputs of the signatures that forms ask for. `outputs` are those of a signature of a
    /// version of a model, if it is served.
    pub(super) fn of(
        forms: &[Counted],
        outputs: impl Fn(&str, i64, &str) -> Option<Vec<String>>,
    ) -> Vec<Self> {
        let asked = forms.iter().flat_map(|counted| {
            let Form { model, version, signatures, .. } = &counted.form;
            signatures.iter().map(move |signature| (model.as_str(), *version, signature.as_str()))
        });
        let asked: BTreeSet<_> = asked.collect();
        let served = asked.into_iter().filter_map(|(model, version, signature)| {
            let outputs = outputs(model, version, signature)?;
            Some(Self { model: model.to_owned(), version, signature: signature.to_owned(), outputs })
        });
        served.collect()
    }

    /// The outputs of a model that new signatures of the same names do not have any more. Of
    /// several versions, the last one counts.
    pub(crate) fn gone(all: &[Self], model: &str, new: &Signatures) -> Vec<String> {
        let mut latest: BTreeMap<&str, &Self> = BTreeMap::new();
        for served in all.iter().filter(|served| served.model == model) {
            let known = latest.entry(&served.signature).or_insert(served);
            if known.version < served.version {
                *known = served;
            }
        }
        let of = |served: &Self| {
            let now = new.get(&served.signature)?;
            let gone = served.outputs.iter().filter(|output| now.output(output).is_none());
            Some(gone.cloned().collect::<Vec<_>>())
        };
        let gone: BTreeSet<String> = latest.into_values().filter_map(of).flatten().collect();
        gone.into_iter().collect()
    }
}

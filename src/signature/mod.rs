//! Layer 1: the signatures of a model, with the name, dtype and shape of each input and output.
pub mod metadata;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use metadata::MetadataError;

use crate::sorting;
use crate::tensor::{DataType, PartialShape};
pub use crate::wire::DEFAULT_SIGNATURE;

/// One input or output of a signature (`tensorflow.TensorInfo`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name in requests: the key in the signature's map.
    pub alias: String,
    /// The graph tensor, such as `serving_default_x:0`. Empty for sparse and composite tensors,
    /// which Predict cannot feed.
    pub tensor_name: String,
    pub dtype: DataType,
    pub shape: PartialShape,
    /// Whether the signature has a default value for it (`SignatureDef.defaults`).
    pub has_default: bool,
}

impl TensorInfo {
    /// Whether dim 0 is declared -1. A batch dimension is, but the reverse is not certain: an image
    /// can be declared as `[-1,-1,3]`.
    pub fn has_rows(&self) -> bool {
        self.shape.dims().and_then(|dims| dims.first()) == Some(&-1)
    }
}

/// One signature. Inputs and outputs are sorted by alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    pub name: String,
    pub inputs: Vec<TensorInfo>,
    pub outputs: Vec<TensorInfo>,
    pub method_name: String,
}

impl Signature {
    pub fn input(&self, alias: &str) -> Option<&TensorInfo> {
        find(&self.inputs, alias)
    }

    /// The index of an input in `inputs`.
    pub fn input_index(&self, alias: &str) -> Option<usize> {
        self.inputs.binary_search_by(|info| info.alias.as_str().cmp(alias)).ok()
    }

    /// The index of an output in `outputs`.
    pub fn output_index(&self, alias: &str) -> Option<usize> {
        self.outputs.binary_search_by(|info| info.alias.as_str().cmp(alias)).ok()
    }

    pub fn output(&self, alias: &str) -> Option<&TensorInfo> {
        find(&self.outputs, alias)
    }

    /// Whether an output is the tensor of an input, which TensorFlow does not return
    /// (`is both fed and fetched`, `subgraph.cc`).
    pub fn is_fed(&self, output: &TensorInfo) -> bool {
        let name = output.tensor_name.as_str();
        !name.is_empty() && self.inputs.iter().any(|input| input.tensor_name == name)
    }
}

fn find<'a>(infos: &'a [TensorInfo], alias: &str) -> Option<&'a TensorInfo> {
    let at = infos.binary_search_by(|info| info.alias.as_str().cmp(alias)).ok()?;
    infos.get(at)
}

/// All signatures of one version of one model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signatures {
    by_name: BTreeMap<String, Arc<Signature>>,
}

impl Signatures {
    pub fn get(&self, name: &str) -> Option<&Arc<Signature>> {
        self.by_name.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Signature>> {
        self.by_name.values()
    }

    /// How many inputs and outputs they have together.
    pub fn tensors(&self) -> usize {
        self.iter().map(|signature| signature.inputs.len() + signature.outputs.len()).sum()
    }

    /// The signatures that clients may use: all but the pseudo-signatures of TF2 exports, such as
    /// `__saved_model_init_op`.
    pub fn servable(&self) -> impl Iterator<Item = &Arc<Signature>> {
        self.iter().filter(|signature| !signature.name.starts_with("__"))
    }

    /// The differences from another version, one line each, for the log.
    pub fn changes_to(&self, newer: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        for signature in self.iter() {
            match newer.get(&signature.name) {
                None => changes.push(format!("signature '{}' is gone", signature.name)),
                Some(new) => {
                    compare(&mut changes, &signature.name, "input", &signature.inputs, &new.inputs);
                    compare(&mut changes, &signature.name, "output", &signature.outputs, &new.outputs);
                }
            }
        }
        for signature in newer.iter().filter(|signature| self.get(&signature.name).is_none()) {
            changes.push(format!("signature '{}' is new", signature.name));
        }
        changes
    }
}

impl FromIterator<Signature> for Signatures {
    fn from_iter<T: IntoIterator<Item = Signature>>(signatures: T) -> Self {
        let sorted = |mut infos: Vec<TensorInfo>| {
            sorting::by(&mut infos, |left, right| left.alias.cmp(&right.alias));
            infos
        };
        let by_name = signatures.into_iter().map(|signature| {
            let Signature { name, inputs, outputs, method_name } = signature;
            let signature = Signature {
                inputs: sorted(inputs),
                outputs: sorted(outputs),
                name: name.clone(),
                method_name,
            };
            (name, Arc::new(signature))
        });
        Self { by_name: by_name.collect() }
    }
}

fn compare(changes: &mut Vec<String>, signature: &str, kind: &str, old: &[TensorInfo], new: &[TensorInfo]) {
    for info in old {
        match find(new, &info.alias) {
            None => changes.push(format!("signature '{signature}': {kind} '{}' is gone", info.alias)),
            Some(now) if (now.dtype, &now.shape) != (info.dtype, &info.shape) => changes.push(format!(
                "signature '{signature}': {kind} '{}' was {} {}, is {} {}",
                info.alias, info.dtype, info.shape, now.dtype, now.shape
            )),
            Some(_) => {}
        }
    }
    for info in new.iter().filter(|info| find(old, &info.alias).is_none()) {
        changes.push(format!("signature '{signature}': {kind} '{}' is new", info.alias));
    }
}

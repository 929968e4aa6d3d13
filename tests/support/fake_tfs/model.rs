//! The models of the fake server, described in code: versions, labels, signatures, computations.
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, OnceLock};

use tfs_sidecar::proto::tensorflow::serving::PredictRequest;
use tfs_sidecar::proto::tensorflow::serving::model_version_status::State;
use tfs_sidecar::proto::tensorflow::{
    SignatureDef, TensorInfo, TensorProto, TensorShapeProto, tensor_info::Encoding,
};

use super::super::requests::{dtype_name, shape};

/// A refusal: gRPC code and text.
pub type Refusal = (i32, String);
/// The inputs by alias in, the outputs by alias out.
pub type Compute = Arc<dyn Fn(&PredictRequest, &SignatureDef) -> Result<Outputs, Refusal> + Send + Sync>;
pub type Outputs = HashMap<String, TensorProto>;

#[derive(Clone, Debug)]
pub struct Model {
    pub name: String,
    pub versions: BTreeMap<i64, Version>,
    pub labels: BTreeMap<String, i64>,
}

#[derive(Clone)]
pub struct Version {
    pub state: State,
    /// Why it failed to load: gRPC code and text.
    pub error: Option<Refusal>,
    pub signatures: BTreeMap<String, SignatureDef>,
    pub compute: Compute,
    /// The signatures as they are sent.
    pub encoded: OnceLock<Vec<u8>>,
}

/// Builds a signature. Tensor names are `serving_default_<alias>:0` and
/// `StatefulPartitionedCall:<n>`, as in exports of TF 2.
#[derive(Clone, Debug)]
pub struct Sig {
    name: String,
    def: SignatureDef,
}

impl Model {
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), versions: BTreeMap::new(), labels: BTreeMap::new() }
    }

    /// Adds an AVAILABLE version that echoes (see [`echo`]).
    pub fn version(self, number: i64, signatures: impl IntoIterator<Item = Sig>) -> Self {
        self.computing(number, signatures, Arc::new(echo))
    }

    /// Adds an AVAILABLE version that answers with `compute`.
    pub fn computing(
        mut self,
        number: i64,
        signatures: impl IntoIterator<Item = Sig>,
        compute: Compute,
    ) -> Self {
        let signatures = signatures.into_iter().map(|sig| (sig.name, sig.def)).collect();
        let (state, encoded) = (State::Available, OnceLock::new());
        self.versions.insert(number, Version { state, error: None, signatures, compute, encoded });
        self
    }

    /// Adds a version that is still loading.
    pub fn loading(mut self, number: i64) -> Self {
        self = self.version(number, []);
        self.versions.entry(number).and_modify(|version| version.state = State::Loading);
        self
    }

    /// Adds a version that failed to load.
    pub fn failed(mut self, number: i64, code: i32, text: &str) -> Self {
        self = self.version(number, []);
        self.versions.entry(number).and_modify(|version| {
            version.state = State::End;
            version.error = Some((code, text.to_owned()));
        });
        self
    }

    pub fn label(mut self, label: &str, version: i64) -> Self {
        self.labels.insert(label.to_owned(), version);
        self
    }

    /// The version for a request that names none: the highest available one.
    pub fn latest(&self) -> Option<i64> {
        self.versions.iter().rev().find(|(_, version)| version.serves()).map(|(number, _)| *number)
    }
}

impl Version {
    pub fn serves(&self) -> bool {
        matches!(self.state, State::Available)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.signatures.keys().collect();
        formatter.debug_struct("Version").field("state", &self.state).field("signatures", &names).finish()
    }
}

impl Sig {
    /// A predict signature.
    pub fn new(name: &str) -> Self {
        let method_name = "tensorflow/serving/predict".to_owned();
        Self { name: name.to_owned(), def: SignatureDef { method_name, ..Default::default() } }
    }

    pub fn method(mut self, method_name: &str) -> Self {
        method_name.clone_into(&mut self.def.method_name);
        self
    }

    pub fn input(self, alias: &str, dtype: i32, dims: &[i64]) -> Self {
        let tensor = format!("{}_{alias}:0", self.name);
        self.input_as(alias, &tensor, dtype, Some(dims))
    }

    /// An input with the name of its graph tensor; `dims` is `None` for an unknown rank.
    pub fn input_as(mut self, alias: &str, tensor: &str, dtype: i32, dims: Option<&[i64]>) -> Self {
        self.def.inputs.insert(alias.to_owned(), info(tensor, dtype, dims));
        self
    }

    pub fn output(mut self, alias: &str, dtype: i32, dims: &[i64]) -> Self {
        let tensor = format!("StatefulPartitionedCall:{}", self.def.outputs.len());
        self.def.outputs.insert(alias.to_owned(), info(&tensor, dtype, Some(dims)));
        self
    }

    /// The value of an input that a request leaves out.
    pub fn default(mut self, alias: &str, tensor: TensorProto) -> Self {
        self.def.defaults.insert(alias.to_owned(), tensor);
        self
    }
}

fn info(tensor: &str, dtype: i32, dims: Option<&[i64]>) -> TensorInfo {
    let unknown = TensorShapeProto { dim: Vec::new(), unknown_rank: true };
    TensorInfo {
        encoding: Some(Encoding::Name(tensor.to_owned())),
        dtype,
        tensor_shape: Some(dims.map_or(unknown, shape)),
    }
}

/// The name of the graph tensor that an input feeds; empty for sparse and composite inputs.
pub fn feed_name(info: &TensorInfo) -> &str {
    match &info.encoding {
        Some(Encoding::Name(name)) => name,
        _ => "",
    }
}

/// Answers each output with a copy of the first input, in the order of the aliases. Accepts every
/// shape, because TensorFlow Serving does not check shapes either.
#[expect(clippy::unnecessary_wraps, reason = "it has the signature of `Compute`")]
pub fn echo(request: &PredictRequest, signature: &SignatureDef) -> Result<Outputs, Refusal> {
    let first = signature.inputs.keys().min().and_then(|alias| request.inputs.get(alias));
    let tensor = first.cloned().unwrap_or_default();
    Ok(signature.outputs.keys().map(|alias| (alias.clone(), tensor.clone())).collect())
}

/// The dtype check of the session: in the order of the graph tensors; reports the first mismatch.
pub fn check_dtypes(request: &PredictRequest, signature: &SignatureDef) -> Result<(), Refusal> {
    let mut feeds: Vec<_> = signature.inputs.iter().collect();
    feeds.sort_by_key(|(_, info)| feed_name(info));
    for (at, (alias, info)) in feeds.into_iter().enumerate() {
        let Some(tensor) = request.inputs.get(alias) else { continue };
        if tensor.dtype != info.dtype {
            let (wanted, sent) = (dtype_name(info.dtype), dtype_name(tensor.dtype));
            return Err((3, format!("Expects arg[{at}] to be {wanted} but {sent} is provided")));
        }
    }
    Ok(())
}

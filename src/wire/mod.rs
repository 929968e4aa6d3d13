//! STUB until the wire floor lands: ropes, and a scan that decodes the whole message.
pub mod rope;
pub use rope::Rope;

#[derive(Debug, thiserror::Error)]
#[error("expected a protobuf message, found bytes that are none")]
pub struct WireError;

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum VersionChoice {
    #[default]
    Latest,
    Version(i64),
    Label(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModelSpec {
    pub present: bool,
    pub name: String,
    pub version: VersionChoice,
    pub signature_name: String,
}

impl ModelSpec {
    pub fn effective_signature(&self) -> &str {
        if self.signature_name.is_empty() { "serving_default" } else { &self.signature_name }
    }
}

#[derive(Debug)]
pub struct PredictView(ModelSpec);

impl PredictView {
    pub fn scan(message: &Rope) -> Result<Self, WireError> {
        use prost::Message as _;
        let request = crate::proto::tensorflow::serving::PredictRequest::decode(message.to_bytes()).map_err(|_| WireError)?;
        let spec = request.model_spec;
        let present = spec.is_some();
        let spec = spec.unwrap_or_default();
        use crate::proto::tensorflow::serving::model_spec::VersionChoice as V;
        let version = match spec.version_choice {
            None => VersionChoice::Latest,
            Some(V::Version(v)) => VersionChoice::Version(v),
            Some(V::VersionLabel(l)) => VersionChoice::Label(l),
        };
        Ok(Self(ModelSpec { present, name: spec.name, version, signature_name: spec.signature_name }))
    }

    pub fn model_spec(&self) -> &ModelSpec {
        &self.0
    }
}

//! STUB until telemetry lands: handles that count nothing.
use std::sync::{Arc, OnceLock};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Predict,
    Classify,
    Regress,
    MultiInference,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutcomeLabel {
    Conforming,
    Repaired,
    Rejected,
    Passed,
    Failed,
}

#[derive(Debug)]
pub struct ModelMetrics;

impl ModelMetrics {
    pub fn new(_model: &str, _signature: &str) -> Self {
        Self
    }
    pub fn request(&self, _method: Method, _outcome: OutcomeLabel, _code: tonic::Code) {}
    pub fn repair(&self, _input: &str, _rule: &'static str) {}
    pub fn rejection(&self, _reason: &'static str) {}
    pub fn would_repair(&self, _input: &str, _rule: &'static str) {}
    pub fn would_reject(&self, _reason: &'static str) {}
    pub fn request_seconds(&self, _method: Method, _seconds: f64) {}
    pub fn upstream_seconds(&self, _method: Method, _seconds: f64) {}
}

pub fn unknown() -> &'static Arc<ModelMetrics> {
    static UNKNOWN: OnceLock<Arc<ModelMetrics>> = OnceLock::new();
    UNKNOWN.get_or_init(|| Arc::new(ModelMetrics::new("__unknown__", "__unknown__")))
}

pub fn signature_change(_model: &str) {}
pub fn signature_refresh(_model: &str, _ok: bool) {}

//! stub
pub const DEFAULT_SIGNATURE: &str = "serving_default";

//! Which part of the program each method is for.
use crate::telemetry::metrics::Method;

/// How a method is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// Judged by the signature: Predict, Classify, Regress, MultiInference.
    Judged(Method),
    /// HandleReloadConfigRequest.
    Reload,
    /// Streamed through, untouched.
    Other(Method),
}

impl Route {
    pub(super) fn of(path: &str) -> Self {
        let Some((service, method)) =
            path.strip_prefix("/tensorflow.serving.").and_then(|path| path.split_once('/'))
        else {
            return Self::Other(Method::Other);
        };
        match (service, method) {
            ("PredictionService", "Predict") => Self::Judged(Method::Predict),
            ("PredictionService", "Classify") => Self::Judged(Method::Classify),
            ("PredictionService", "Regress") => Self::Judged(Method::Regress),
            ("PredictionService", "MultiInference") => Self::Judged(Method::MultiInference),
            ("PredictionService", "GetModelMetadata") => Self::Other(Method::GetModelMetadata),
            ("ModelService", "GetModelStatus") => Self::Other(Method::GetModelStatus),
            ("ModelService", "HandleReloadConfigRequest") => Self::Reload,
            _ => Self::Other(Method::Other),
        }
    }

    pub(super) fn method(self) -> Method {
        match self {
            Self::Judged(method) | Self::Other(method) => method,
            Self::Reload => Method::HandleReloadConfigRequest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_its_route() {
        assert_eq!(
            Route::of("/tensorflow.serving.PredictionService/Predict"),
            Route::Judged(Method::Predict)
        );
        assert_eq!(
            Route::of("/tensorflow.serving.PredictionService/Regress"),
            Route::Judged(Method::Regress)
        );
        assert_eq!(Route::of("/tensorflow.serving.ModelService/HandleReloadConfigRequest"), Route::Reload);
        assert_eq!(
            Route::of("/tensorflow.serving.ModelService/GetModelStatus"),
            Route::Other(Method::GetModelStatus)
        );
        for path in [
            "/tensorflow.serving.PredictionService/Predict/",
            "/predict",
            "",
            "/tensorflow.serving.X/Predict",
        ] {
            assert_eq!(Route::of(path), Route::Other(Method::Other), "{path}");
        }
    }
}

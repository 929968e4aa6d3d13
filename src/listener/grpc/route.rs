//! Which part of the program each method is for.
use http::Uri;

use crate::telemetry::metrics::Method;

/// How a method is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// Judged by the signature: Predict, Classify, Regress, MultiInference.
    Judged(Method),
    /// HandleReloadConfigRequest.
    Reload,
    /// Another method of TF Serving with one request and one answer: sent on as it is.
    Unary(Method),
    /// Streamed through, untouched.
    Other(Method),
}

impl Route {
    /// A path with a query is a method that nobody has, as in other gRPC servers. TF Serving is to
    /// say so.
    pub(super) fn of(uri: &Uri) -> Self {
        match Self::of_path(uri.path()) {
            Self::Judged(_) | Self::Unary(_) if uri.query().is_some() => Self::Other(Method::Other),
            route => route,
        }
    }

    fn of_path(path: &str) -> Self {
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
            ("PredictionService", "GetModelMetadata") => Self::Unary(Method::GetModelMetadata),
            ("ModelService", "GetModelStatus") => Self::Unary(Method::GetModelStatus),
            ("ModelService", "HandleReloadConfigRequest") => Self::Reload,
            _ => Self::Other(Method::Other),
        }
    }

    pub(super) fn method(self) -> Method {
        match self {
            Self::Judged(method) | Self::Unary(method) | Self::Other(method) => method,
            Self::Reload => Method::HandleReloadConfigRequest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(path: &str) -> Route {
        Route::of(&path.parse().unwrap())
    }

    #[test]
    fn every_method_has_its_route() {
        assert_eq!(route("/tensorflow.serving.PredictionService/Predict"), Route::Judged(Method::Predict));
        assert_eq!(route("/tensorflow.serving.PredictionService/Regress"), Route::Judged(Method::Regress));
        assert_eq!(route("/tensorflow.serving.ModelService/HandleReloadConfigRequest"), Route::Reload);
        assert_eq!(
            route("/tensorflow.serving.ModelService/GetModelStatus"),
            Route::Unary(Method::GetModelStatus)
        );
        for path in
            ["/tensorflow.serving.PredictionService/Predict/", "/predict", "/tensorflow.serving.X/Predict"]
        {
            assert_eq!(route(path), Route::Other(Method::Other), "{path}");
        }
    }

    #[test]
    fn a_path_with_a_query_is_no_known_method() {
        let predict = "/tensorflow.serving.PredictionService/Predict";
        for query in ["?", "?x=1"] {
            assert_eq!(route(&format!("{predict}{query}")), Route::Other(Method::Other));
        }
        // Never forwarded by accident, however the server reads the path.
        let reload = "/tensorflow.serving.ModelService/HandleReloadConfigRequest?x";
        assert_eq!(route(reload), Route::Reload);
    }
}

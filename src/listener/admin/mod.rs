//! The admin listener: metrics, probes, drain, a small API and a page, over HTTP/1.1 on its own
//! address.
//!
//! It sees the rest of the sidecar only through [`View`], so that tests can run it alone.
mod api;
mod page;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;

use crate::telemetry::metrics::Exporter;

/// What the admin listener shows of the sidecar.
pub(crate) trait View: Send + Sync + 'static {
    fn ready(&self) -> Readiness;
    /// `{"readiness": {..}, "upstream": {"address", "up", "problem"}, "advice", "model_problems":
    /// [{"model", "version", "kind", "problem"}], "config_problems": [text]}`; `readiness` is what
    /// `/readyz` answers. The upstream's `problem` and `advice`, what the operator should change,
    /// are text or null.
    fn status(&self) -> serde_json::Value;
    /// The names of models that only clients know, in the form of
    /// [`Recent::to_json`](crate::telemetry::recent::Recent::to_json).
    fn unknown_models(&self) -> serde_json::Value;
    /// A list: `[{"name", "declared", "mode", "versions": [{"version", "labels", "state",
    /// "signatures": [{"name", "method_name", "inputs": [{"name", "dtype", "shape"}], "outputs":
    /// [..]}]}], "problem"}]`; `problem` is text or absent.
    fn models(&self) -> serde_json::Value;
    /// Sets the gauges that are not updated elsewhere. Called before each scrape.
    fn measure(&self);
    /// The value of [`Recent::to_json`](crate::telemetry::recent::Recent::to_json).
    fn recent(&self) -> serde_json::Value;
    /// The effective configuration as YAML.
    fn config(&self) -> String;
    /// Starts the drain when called, not when polled. The future ends when nothing is in flight or
    /// the drain times out. Dropping it ends only the wait, and further calls are allowed.
    fn drain(&self) -> Pin<Box<dyn Future<Output = Drained> + Send>>;
}

/// Whether the sidecar is ready for requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Readiness {
    pub(crate) ready: bool,
    /// What is missing, one text each: `` signatures of model 'churn' not read yet ``.
    pub(crate) missing: Vec<String>,
    /// What else is wrong, one text each.
    pub(crate) problems: Vec<String>,
}

impl Readiness {
    /// Ready if nothing is missing.
    pub(crate) fn new(missing: Vec<String>, problems: Vec<String>) -> Self {
        Self { ready: missing.is_empty(), missing, problems }
    }
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Drained {
    /// Requests that were still in flight when the drain timed out.
    pub(crate) in_flight: usize,
}

/// The state that the handlers share.
#[derive(Clone)]
pub(crate) struct AdminState {
    pub(crate) view: Arc<dyn View>,
    pub(crate) metrics: Exporter,
}

impl fmt::Debug for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminState").finish_non_exhaustive()
    }
}

/// The routes of the admin listener.
pub(crate) fn router(state: AdminState) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/drain", get(api::drain).post(api::drain))
        .route("/api/models", get(api::models))
        .route("/api/repairs", get(api::repairs))
        .route("/api/config", get(api::config))
        .route("/api/status", get(api::status))
        .route("/api/unknown_models", get(api::unknown_models))
        .merge(page::routes())
        .fallback(not_found)
        .layer(map_response(harden))
        .with_state(state)
}

async fn metrics(State(state): State<AdminState>) -> impl IntoResponse {
    state.view.measure();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.metrics.render())
}

/// 200 or 503, both with the list of what is missing and of what else is wrong.
async fn readyz(State(state): State<AdminState>) -> impl IntoResponse {
    let readiness = state.view.ready();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(readiness))
}

async fn not_found() -> impl IntoResponse {
    let paths = "/ /metrics /livez /readyz /drain /api/models /api/repairs /api/config /api/status /api/unknown_models";
    (StatusCode::NOT_FOUND, format!("not found; available paths: {paths}\n"))
}

/// Forbids caching, framing, content sniffing and loading anything from other origins.
async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::body::{Body, to_bytes};
    use axum::http::{Request, request};
    use serde_json::{Value, json};
    use tower::ServiceExt;

    use super::*;
    use crate::telemetry::metrics::install;

    #[derive(Default)]
    struct Fake {
        missing: Vec<String>,
        problems: Vec<String>,
        in_flight: usize,
        drains: AtomicUsize,
    }

    impl View for Fake {
        fn measure(&self) {}

        fn ready(&self) -> Readiness {
            Readiness::new(self.missing.clone(), self.problems.clone())
        }

        fn status(&self) -> Value {
            json!({"upstream": {"up": true}})
        }

        fn unknown_models(&self) -> Value {
            json!({"missed": 0, "entries": [{"model": "chrun"}]})
        }

        fn models(&self) -> Value {
            json!([{"name": "churn"}])
        }

        fn recent(&self) -> Value {
            json!({"missed": 0, "entries": []})
        }

        fn config(&self) -> String {
            "upstream: 127.0.0.1:8500\n".to_owned()
        }

        fn drain(&self) -> Pin<Box<dyn Future<Output = Drained> + Send>> {
            self.drains.fetch_add(1, Ordering::Relaxed);
            let drained = Drained { in_flight: self.in_flight };
            Box::pin(async move { drained })
        }
    }

    struct Answer {
        status: u16,
        headers: axum::http::HeaderMap,
        body: String,
    }

    fn request(method: &str, path: &str) -> request::Builder {
        Request::builder().method(method).uri(path).header("host", "127.0.0.1:8602")
    }

    fn answer(view: &Arc<Fake>, request: request::Builder) -> Answer {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let state = AdminState { view: view.clone(), metrics: install() };
            let response = router(state).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            let (parts, body) = response.into_parts();
            let body = to_bytes(body, 1 << 24).await.unwrap();
            Answer {
                status: parts.status.as_u16(),
                headers: parts.headers,
                body: String::from_utf8_lossy(&body).into_owned(),
            }
        })
    }

    fn get_path(view: &Arc<Fake>, path: &str) -> Answer {
        answer(view, request("GET", path))
    }

    #[test]
    fn metrics_are_in_the_prometheus_text_format() {
        let answer = get_path(&Arc::default(), "/metrics");
        assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        assert!(answer.body.contains("tfs_sidecar_build_info{version="));
    }

    #[test]
    fn readiness_lists_what_is_missing() {
        let ready = get_path(&Arc::default(), "/readyz");
        assert_eq!(
            (ready.status, ready.body.as_str()),
            (200, r#"{"ready":true,"missing":[],"problems":[]}"#)
        );
        let missing = vec!["signatures of model 'churn' not read yet".to_owned()];
        let view = Arc::new(Fake { missing, ..Fake::default() });
        let waiting = get_path(&view, "/readyz");
        assert_eq!(waiting.status, 503);
        assert!(waiting.body.contains("model 'churn'"));
        assert_eq!(get_path(&view, "/livez").status, 200, "live, although not ready");
        let view = Arc::new(Fake { problems: vec!["a setting".to_owned()], ..Fake::default() });
        let ready = get_path(&view, "/readyz");
        assert_eq!((ready.status, ready.body.contains("a setting")), (200, true));
    }

    #[test]
    fn drain_reports_the_requests_left_in_flight() {
        let view = Arc::new(Fake::default());
        assert_eq!(answer(&view, request("POST", "/drain")).status, 200);
        let kubelet = answer(&view, request("GET", "/drain").header("user-agent", "kube-lifecycle/1.33"));
        assert_eq!((kubelet.status, kubelet.body.as_str()), (200, r#"{"in_flight":0}"#));
        let busy = Arc::new(Fake { in_flight: 3, ..Fake::default() });
        assert_eq!(answer(&busy, request("POST", "/drain")).status, 504);
    }

    #[test]
    fn a_page_from_another_site_cannot_drain() {
        let view = Arc::new(Fake::default());
        for (method, name, value) in [
            ("POST", "origin", "https://evil.example"),
            ("POST", "origin", "null"),
            ("POST", "sec-fetch-site", "cross-site"),
            ("GET", "sec-fetch-site", "none"),
            ("GET", "sec-fetch-site", "cross-site"),
        ] {
            let answer = answer(&view, request(method, "/drain").header(name, value));
            assert_eq!(answer.status, 403, "{method} {name} {value}");
        }
        // DNS rebinding: a name that an attacker points here is the same origin to the browser, so
        // names are refused.
        let rebound = Request::builder()
            .method("POST")
            .uri("/drain")
            .header("host", "evil.example")
            .header("origin", "http://evil.example");
        assert_eq!(answer(&view, rebound).status, 403);
        assert_eq!(view.drains.load(Ordering::Relaxed), 0);
        let own = request("POST", "/drain")
            .header("origin", "http://127.0.0.1:8602")
            .header("sec-fetch-site", "same-origin");
        assert_eq!(answer(&view, own).status, 200);
    }

    #[test]
    fn the_api_returns_the_view() {
        let view = Arc::default();
        assert_eq!(get_path(&view, "/api/models").body, r#"[{"name":"churn"}]"#);
        assert!(get_path(&view, "/api/repairs").body.contains("entries"));
        assert!(get_path(&view, "/api/status").body.contains("upstream"));
        assert!(get_path(&view, "/api/unknown_models").body.contains("chrun"));
        let config = get_path(&view, "/api/config");
        assert_eq!(config.headers["content-type"], "application/yaml; charset=utf-8");
        assert_eq!(config.body, "upstream: 127.0.0.1:8500\n");
        assert_eq!(answer(&view, request("POST", "/api/models")).status, 405);
        let nowhere = get_path(&view, "/metric");
        assert!(nowhere.status == 404 && nowhere.body.contains("/metrics"));
    }

    #[test]
    fn the_page_loads_only_its_own_files() {
        let view = Arc::default();
        let page = get_path(&view, "/");
        assert_eq!(
            (page.status, &page.headers["content-type"]),
            (200, &HeaderValue::from_static("text/html; charset=utf-8"))
        );
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'self'"));
        assert!(!page.body.contains("=\"http") && !page.body.contains("='http") && !page.body.contains("//"));
        assert!(
            !page.body.contains("style=") && !page.body.contains("<style") && !page.body.contains("onclick")
        );
        for line in page.body.lines().filter(|line| line.contains("src=") || line.contains("href=")) {
            let asset = line
                .split("href=\"")
                .nth(1)
                .or(line.split("src=\"").nth(1))
                .unwrap()
                .split('"')
                .next()
                .unwrap();
            assert_eq!(get_path(&view, asset).status, 200, "{asset}");
        }
        assert_eq!(get_path(&view, "/favicon.ico").headers["content-type"], "image/svg+xml");
    }
}

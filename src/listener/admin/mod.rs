//! The admin listener: metrics, probes, drain, a small API and a page, over HTTP/1.1 on its own
//! address.
//!
//! It sees the rest of the sidecar only through [`View`], so that tests can run it alone.
mod access;
mod api;
mod page;
pub(crate) mod serve;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::State;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use serde::Serialize;

#[cfg(test)]
pub(crate) use access::Caller;
pub(crate) use access::{Access, TokenError};

use crate::repair::Mode;
use crate::telemetry::metrics::Exporter;

/// What the admin listener shows of the sidecar.
pub(crate) trait View: Send + Sync + 'static {
    fn ready(&self) -> Readiness;
    /// The names of the threads that make no progress. Takes some seconds if there are any.
    fn stuck(&self) -> Pin<Box<dyn Future<Output = Vec<String>> + Send>>;
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
    /// the drain times out or is taken back. Dropping it ends only the wait, and further calls are
    /// allowed.
    fn drain(&self) -> Pin<Box<dyn Future<Output = Drained> + Send>>;
    /// The modes that an operator has changed, a list:
    /// `[{"model": name or null, "mode", "until", "seconds_left"}]`.
    fn modes(&self) -> serde_json::Value;
    /// Changes the mode of a model, or of all, for some time; without a mode, back to the
    /// configured one. Fails if the model is not known or the time too long.
    fn set_mode(&self, model: Option<&str>, mode: Option<Mode>, time: Duration) -> Result<(), String>;
    /// Takes a drain back; does nothing without one. Fails if the process is stopping.
    fn undrain(&self) -> Result<(), String>;
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
    /// It was taken back before its end.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) undrained: bool,
}

/// The state that the handlers share.
#[derive(Clone)]
pub(crate) struct AdminState {
    pub(crate) view: Arc<dyn View>,
    pub(crate) access: Arc<ArcSwap<Access>>,
    pub(crate) metrics: Exporter,
}

impl fmt::Debug for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminState").finish_non_exhaustive()
    }
}

/// The routes of the admin listener.
pub(crate) fn router(state: AdminState) -> Router {
    // Everything that changes something is in here, behind the guard.
    let changing = Router::new()
        .route("/drain", any(api::drain))
        .route("/undrain", any(api::undrain))
        .route("/log", post(api::set_log))
        .route("/mode", post(api::set_mode))
        .route_layer(from_fn_with_state(state.clone(), access::guard));
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/log", get(api::log))
        .route("/mode", get(api::modes))
        .route("/api/models", get(api::models))
        .route("/api/repairs", get(api::repairs))
        .route("/api/config", get(api::config))
        .route("/api/status", get(api::status))
        .route("/api/unknown_models", get(api::unknown_models))
        .merge(page::routes())
        .merge(changing)
        .fallback(not_found)
        .layer(map_response(harden))
        .with_state(state)
}

/// The only route of `drain_listen`.
pub(crate) fn drain_router(state: AdminState) -> Router {
    Router::new()
        .route("/drain", any(api::drain))
        .route_layer(from_fn(access::guard_get))
        .layer(map_response(harden))
        .with_state(state)
}

async fn metrics(State(state): State<AdminState>) -> impl IntoResponse {
    state.view.measure();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.metrics.render())
}

/// 200, or 503 with the threads that are stuck. That this thread answers shows that it is not.
async fn livez(State(state): State<AdminState>) -> Response {
    let stuck = state.view.stuck().await;
    if stuck.is_empty() {
        return "ok\n".into_response();
    }
    let text = format!("no progress in {}\n", stuck.join(", "));
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

/// 200 or 503, both with the list of what is missing and of what else is wrong.
async fn readyz(State(state): State<AdminState>) -> impl IntoResponse {
    let readiness = state.view.ready();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(readiness))
}

async fn not_found() -> impl IntoResponse {
    let paths = "/ /metrics /livez /readyz /drain /undrain /log /mode /api/models /api/repairs /api/config /api/status /api/unknown_models";
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
    use std::net::{IpAddr, Ipv4Addr};
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
        stuck: Vec<String>,
        in_flight: usize,
        undrained: bool,
        stopping: bool,
        drains: AtomicUsize,
    }

    impl View for Fake {
        fn measure(&self) {}

        fn ready(&self) -> Readiness {
            Readiness::new(self.missing.clone(), self.problems.clone())
        }

        fn stuck(&self) -> Pin<Box<dyn Future<Output = Vec<String>> + Send>> {
            let stuck = self.stuck.clone();
            Box::pin(async move { stuck })
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
            let drained = Drained { in_flight: self.in_flight, undrained: self.undrained };
            Box::pin(async move { drained })
        }

        fn modes(&self) -> Value {
            json!([])
        }

        fn set_mode(&self, _: Option<&str>, _: Option<Mode>, _: Duration) -> Result<(), String> {
            Ok(())
        }

        fn undrain(&self) -> Result<(), String> {
            if self.stopping { Err("the process is stopping".to_owned()) } else { Ok(()) }
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

    /// From this machine.
    fn answer(view: &Arc<Fake>, request: request::Builder) -> Answer {
        let caller = Caller::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        answer_of(router, view, request.extension(caller))
    }

    fn answer_of(router: fn(AdminState) -> Router, view: &Arc<Fake>, request: request::Builder) -> Answer {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let state = AdminState { view: view.clone(), access: Arc::default(), metrics: install() };
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
    fn liveness_names_the_threads_that_are_stuck() {
        assert_eq!(get_path(&Arc::default(), "/livez").body, "ok\n");
        let view = Arc::new(Fake { stuck: vec!["shard-2".to_owned()], ..Fake::default() });
        let stuck = get_path(&view, "/livez");
        assert_eq!((stuck.status, stuck.body.as_str()), (503, "no progress in shard-2\n"));
    }

    #[test]
    fn drain_reports_how_it_ended() {
        let drained = |view: Fake| {
            let answer = answer(&Arc::new(view), request("POST", "/drain"));
            (answer.status, answer.body)
        };
        assert_eq!(drained(Fake::default()), (200, r#"{"in_flight":0}"#.to_owned()));
        let busy = Fake { in_flight: 3, ..Fake::default() };
        assert_eq!(drained(busy), (504, r#"{"in_flight":3}"#.to_owned()));
        let taken_back = Fake { in_flight: 3, undrained: true, ..Fake::default() };
        assert_eq!(drained(taken_back), (409, r#"{"in_flight":3,"undrained":true}"#.to_owned()));
    }

    #[test]
    fn a_drain_is_taken_back_unless_the_process_stops() {
        let undrain = |stopping| {
            let view = Arc::new(Fake { stopping, ..Fake::default() });
            let answer = answer(&view, request("POST", "/undrain"));
            (answer.status, answer.body)
        };
        assert_eq!(undrain(false), (200, r#"{"draining":false}"#.to_owned()));
        assert_eq!(undrain(true), (409, "the process is stopping\n".to_owned()));
    }

    #[test]
    fn what_changes_something_takes_post_from_an_allowed_caller_only() {
        let view = Arc::new(Fake::default());
        for path in ["/drain", "/undrain"] {
            for method in ["GET", "HEAD", "PUT", "OPTIONS"] {
                let refused = answer(&view, request(method, path));
                assert_eq!(
                    (refused.status, &refused.headers["allow"]),
                    (405, &HeaderValue::from_static("POST"))
                );
            }
            assert!(answer(&view, request("GET", path)).body.contains("drain_listen"));
            assert_eq!(
                answer(&view, request("POST", path).header("origin", "https://evil.example")).status,
                403
            );
            assert_eq!(answer_of(router, &view, request("POST", path)).status, 403, "who sent it is unknown");
            assert_eq!(answer(&view, request("POST", path)).status, 200);
        }
        assert_eq!(view.drains.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn the_address_for_hooks_takes_a_drain_by_get_and_nothing_else() {
        let view = Arc::new(Fake::default());
        let status = |request| answer_of(drain_router, &view, request).status;
        for (method, path) in [("POST", "/drain"), ("HEAD", "/drain"), ("OPTIONS", "/drain")] {
            let refused = answer_of(drain_router, &view, request(method, path));
            assert_eq!((refused.status, &refused.headers["allow"]), (405, &HeaderValue::from_static("GET")));
        }
        for path in ["/undrain", "/metrics", "/", "/drain/"] {
            assert_eq!(status(request("GET", path)), 404, "{path}");
        }
        assert_eq!(status(request("GET", "/drain").header("sec-fetch-site", "none")), 403);
        assert_eq!(status(request("GET", "/drain").header("origin", "http://127.0.0.1:8602")), 403);
        assert_eq!(view.drains.load(Ordering::Relaxed), 0);
        // As kubelet sends it: to the address of the pod.
        let kubelet = Request::builder().uri("/drain").header("host", "10.1.2.3:8603");
        assert_eq!(status(kubelet.header("user-agent", "kube-lifecycle/1.33")), 200);
        assert_eq!(view.drains.load(Ordering::Relaxed), 1);
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

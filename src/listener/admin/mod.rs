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

use crate::lifecycle::DrainedBy;
use crate::preprocessing::Wanted;
use crate::repair::Mode;
use crate::telemetry::metrics::Exporter;

/// What the admin listener shows of the sidecar.
pub(crate) trait View: Send + Sync + 'static {
    fn ready(&self) -> Readiness;
    /// The names of the threads that make no progress. Takes some seconds if there are any.
    fn stuck(&self) -> Pin<Box<dyn Future<Output = Vec<String>> + Send>>;
    /// What docs/api.md says of `/api/status`.
    fn status(&self) -> serde_json::Value;
    /// The names of models that only clients know, in the form of
    /// [`Recent::to_json`](crate::telemetry::recent::Recent::to_json).
    fn unknown_models(&self) -> serde_json::Value;
    /// What docs/api.md says of `/api/models`.
    fn models(&self) -> serde_json::Value;
    /// Who does what wrong, and what changed, as docs/api.md describes it.
    fn show(&self, what: Shown) -> serde_json::Value;
    /// Sets the gauges that are not updated elsewhere. Called before each scrape.
    fn measure(&self);
    /// The value of [`Recent::to_json`](crate::telemetry::recent::Recent::to_json).
    fn recent(&self) -> serde_json::Value;
    /// The effective configuration as YAML.
    fn config(&self) -> String;
    /// Starts the drain when called, not when polled; one that only [`DrainedBy::Hook`] asked for
    /// may be taken back without an operator. The future ends when nothing is in flight or the
    /// drain times out or is taken back. Dropping it ends only the wait, and further calls are
    /// allowed.
    fn drain(&self, by: DrainedBy) -> Pin<Box<dyn Future<Output = Drained> + Send>>;
    /// The modes that an operator has changed, a list:
    /// `[{"model": name or null, "mode", "until", "seconds_left"}]`.
    fn modes(&self) -> serde_json::Value;
    /// Changes the mode of a model, or of all, for some time; without a mode, back to the
    /// configured one. Fails if the model is not known or the time too long.
    fn set_mode(&self, model: Option<&str>, mode: Option<Mode>, time: Duration) -> Result<(), String>;
    /// Begins to make a profile of requests. Fails if the model or signature is not known, or
    /// another profile is being made.
    fn learn(&self, wanted: Wanted) -> Result<(), String>;
    /// What was learned so far, as docs/api.md describes it; `None` if nothing is.
    fn learned(&self) -> Option<serde_json::Value>;
    /// Ends learning and drops what was learned.
    fn forget(&self);
    /// Takes a drain back; does nothing without one. Fails if the process is stopping.
    fn undrain(&self) -> Result<(), String>;
}

/// What [`View::show`] shows: the path after `/api/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    Clients,
    Fixes,
    History,
    Changes,
    Traffic,
    Findings,
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
        // These change nothing of requests, but what was learned is not for everybody.
        .route("/profile/learn", post(api::learn))
        .route("/profile/learned", post(api::learned))
        .route("/profile/forget", post(api::forget))
        .route_layer(from_fn_with_state(state.clone(), access::guard));
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/log", get(api::log))
        .route("/mode", get(api::modes))
        .route("/api/models", get(api::models))
        .route("/api/clients", api::show(Shown::Clients))
        .route("/api/fixes", api::show(Shown::Fixes))
        .route("/api/history", api::show(Shown::History))
        .route("/api/changes", api::show(Shown::Changes))
        .route("/api/traffic", api::show(Shown::Traffic))
        .route("/api/findings", api::show(Shown::Findings))
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
        .route("/drain", any(api::drain_by_hook))
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
    let paths = "/ /metrics /livez /readyz /drain /undrain /log /mode /profile/learn /profile/learned /profile/forget /api/models /api/clients /api/fixes /api/history /api/changes /api/findings /api/traffic /api/repairs /api/config /api/status /api/unknown_models";
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
mod tests;

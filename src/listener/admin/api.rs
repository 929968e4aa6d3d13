//! The handlers of `/api/*`, `/drain` and `/undrain`.
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};

use super::{AdminState, Drained, Shown};

pub(super) async fn models(State(state): State<AdminState>) -> impl IntoResponse {
    Json(state.view.models())
}

pub(super) fn show(what: Shown) -> MethodRouter<AdminState> {
    get(async move |State(state): State<AdminState>| Json(state.view.show(what)))
}

pub(super) async fn repairs(State(state): State<AdminState>) -> impl IntoResponse {
    Json(state.view.recent())
}

pub(super) async fn status(State(state): State<AdminState>) -> impl IntoResponse {
    Json(state.view.status())
}

pub(super) async fn unknown_models(State(state): State<AdminState>) -> impl IntoResponse {
    Json(state.view.unknown_models())
}

pub(super) async fn config(State(state): State<AdminState>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/yaml; charset=utf-8")], state.view.config())
}

/// Drains, then answers 200, or 504 if requests were still in flight when the drain timed out, or
/// 409 if it was taken back.
pub(super) async fn drain(State(state): State<AdminState>) -> Response {
    let drained = state.view.drain().await;
    let status = match drained {
        Drained { undrained: true, .. } => StatusCode::CONFLICT,
        Drained { in_flight: 0, .. } => StatusCode::OK,
        Drained { .. } => StatusCode::GATEWAY_TIMEOUT,
    };
    (status, Json(drained)).into_response()
}

/// Takes a drain back, unless the process is stopping.
pub(super) async fn undrain(State(state): State<AdminState>) -> Response {
    match state.view.undrain() {
        Ok(()) => Json(serde_json::json!({"draining": false})).into_response(),
        Err(problem) => (StatusCode::CONFLICT, format!("{problem}\n")).into_response(),
    }
}

//! The handlers of `/api/*` and of what changes something.
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};

use serde::Deserialize;

use super::{AdminState, Drained, Shown};
use crate::lifecycle::DrainedBy;
use crate::preprocessing::{MAX_REQUESTS, Wanted};
use crate::repair::Mode;
use crate::telemetry::log::FILTER;
use crate::wire::DEFAULT_SIGNATURE;

/// What returns to the configuration, in the place of a mode or a filter.
const CONFIGURED: &str = "configured";
/// How long a mode is changed if the request does not say.
const MODE_TIME: Duration = Duration::from_secs(30 * 60);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModeQuery {
    model: Option<String>,
    mode: String,
    #[serde(rename = "for")]
    time: Option<String>,
}

/// Requests that a profile is made of if the request does not say.
const LEARN_REQUESTS: u64 = 10_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LearnQuery {
    model: String,
    signature: Option<String>,
    requests: Option<u64>,
    #[serde(default)]
    strings: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogQuery {
    filter: String,
    #[serde(rename = "for")]
    time: Option<String>,
}

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
    drain_by(&state, DrainedBy::Operator).await
}

/// As [`drain`], for the preStop hook of TF Serving.
pub(super) async fn drain_by_hook(State(state): State<AdminState>) -> Response {
    drain_by(&state, DrainedBy::Hook).await
}

async fn drain_by(state: &AdminState, by: DrainedBy) -> Response {
    let drained = state.view.drain(by).await;
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

pub(super) async fn modes(State(state): State<AdminState>) -> impl IntoResponse {
    Json(serde_json::json!({"overrides": state.view.modes()}))
}

/// Changes modes for some time, then answers as [`modes`]; 400 with the reason if it cannot.
pub(super) async fn set_mode(State(state): State<AdminState>, Query(query): Query<ModeQuery>) -> Response {
    let mode = match query.mode.as_str() {
        CONFIGURED => Ok(None),
        mode => mode.parse::<Mode>().map(Some).map_err(|error| format!("{error}, or `{CONFIGURED}`")),
    };
    let set = mode.and_then(|mode| {
        let time = duration(query.time.as_deref())?.unwrap_or(MODE_TIME);
        state.view.set_mode(query.model.as_deref(), mode, time)
    });
    match set {
        Ok(()) => modes(State(state)).await.into_response(),
        Err(problem) => wrong(&problem),
    }
}

/// Begins to make a profile, then answers as [`learned`]; 400 with the reason if it cannot.
pub(super) async fn learn(State(state): State<AdminState>, Query(query): Query<LearnQuery>) -> Response {
    let requests = query.requests.unwrap_or(LEARN_REQUESTS);
    if requests == 0 || requests > MAX_REQUESTS {
        return wrong(&format!("expected `requests` from 1 to {MAX_REQUESTS}, got {requests}"));
    }
    let signature = query.signature.unwrap_or_else(|| DEFAULT_SIGNATURE.to_owned());
    match state.view.learn(Wanted { model: query.model, signature, requests, strings: query.strings }) {
        Ok(()) => learned(State(state)).await,
        Err(problem) => wrong(&problem),
    }
}

/// What was learned so far; 404 if nothing is.
pub(super) async fn learned(State(state): State<AdminState>) -> Response {
    match state.view.learned() {
        Some(learned) => Json(learned).into_response(),
        None => (StatusCode::NOT_FOUND, "no profile is being made\n").into_response(),
    }
}

/// Ends learning and drops what was learned.
pub(super) async fn forget(State(state): State<AdminState>) -> impl IntoResponse {
    state.view.forget();
    Json(serde_json::json!({"forgotten": true}))
}

/// The filter of the log, and until when it holds.
pub(super) async fn log() -> impl IntoResponse {
    Json(FILTER.to_json())
}

/// Changes the filter of the log, then answers as [`log`]; 400 with the reason if it cannot.
pub(super) async fn set_log(Query(query): Query<LogQuery>) -> Response {
    let set = duration(query.time.as_deref()).and_then(|time| {
        let set = match query.filter.as_str() {
            CONFIGURED => FILTER.take_back(),
            filter => FILTER.set(filter, time),
        };
        set.map_err(|error| error.to_string())
    });
    match set {
        Ok(()) => log().await.into_response(),
        Err(problem) => wrong(&problem),
    }
}

/// `10m`, as in the configuration.
fn duration(text: Option<&str>) -> Result<Option<Duration>, String> {
    let Some(text) = text else { return Ok(None) };
    match humantime::parse_duration(text) {
        Ok(time) if !time.is_zero() => Ok(Some(time)),
        _ => Err(format!("expected a time with its unit such as `10m` or `1h` after `for=`, got `{text}`")),
    }
}

fn wrong(problem: &str) -> Response {
    (StatusCode::BAD_REQUEST, format!("{problem}\n")).into_response()
}

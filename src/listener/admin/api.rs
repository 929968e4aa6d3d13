//! The handlers of `/api/*` and `/drain`.
use std::net::IpAddr;

use axum::Json;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};

use super::AdminState;

pub(super) async fn models(State(state): State<AdminState>) -> impl IntoResponse {
    Json(state.view.models())
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

/// Drains, then answers 200, or 504 if requests were still in flight when the drain timed out. Also
/// accepts GET, the only method of Kubernetes' `preStop` hooks.
pub(super) async fn drain(State(state): State<AdminState>, method: Method, headers: HeaderMap) -> Response {
    if let Err(reason) = check_origin(&method, &headers) {
        return (StatusCode::FORBIDDEN, format!("{reason}\n")).into_response();
    }
    let drained = state.view.drain().await;
    let status = if drained.in_flight == 0 { StatusCode::OK } else { StatusCode::GATEWAY_TIMEOUT };
    (status, Json(drained)).into_response()
}

/// Refuses requests that a browser sends for another page than ours. Programs other than browsers
/// send neither `Origin` nor `Sec-Fetch-Site`.
fn check_origin(method: &Method, headers: &HeaderMap) -> Result<(), &'static str> {
    let text = |value: Option<&axum::http::HeaderValue>| {
        value.and_then(|value| value.to_str().ok().map(str::to_owned))
    };
    let site = headers.get("sec-fetch-site");
    // Browsers send GETs speculatively, to prefetch links.
    if site.is_some() && method != Method::POST {
        return Err("browsers must use POST");
    }
    if site.is_some_and(|site| site != "same-origin") {
        return Err("requests from other sites are refused");
    }
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let (origin, host) =
        (text(Some(origin)).unwrap_or_default(), text(headers.get(HOST)).unwrap_or_default());
    if origin.split_once("://").map(|(_, rest)| rest) != Some(host.as_str()) {
        return Err("requests from other origins are refused");
    }
    // Anyone can point a DNS name here (DNS rebinding), but not an address or `localhost`.
    let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    if name != "localhost" && name.parse::<IpAddr>().is_err() {
        return Err("open this page by its IP address or as `localhost`, not by another name");
    }
    Ok(())
}

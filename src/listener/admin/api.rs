//! `/api/*` and `/drain`: what the view says, as JSON.
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

pub(super) async fn config(State(state): State<AdminState>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/yaml; charset=utf-8")], state.view.config())
}

/// Drains and answers when it is done: 200, or 504 with what was left when the time was over. GET
/// too, because that is all that a `preStop` hook of Kubernetes can send.
pub(super) async fn drain(State(state): State<AdminState>, method: Method, headers: HeaderMap) -> Response {
    if let Err(reason) = not_from_elsewhere(&method, &headers) {
        return (StatusCode::FORBIDDEN, format!("{reason}\n")).into_response();
    }
    let drained = state.view.drain().await;
    let status = if drained.in_flight == 0 { StatusCode::OK } else { StatusCode::GATEWAY_TIMEOUT };
    (status, Json(drained)).into_response()
}

/// Whether a browser sends this on behalf of a page that is not ours. Programs send neither
/// `Origin` nor `Sec-Fetch-Site`.
fn not_from_elsewhere(method: &Method, headers: &HeaderMap) -> Result<(), &'static str> {
    let text = |value: Option<&axum::http::HeaderValue>| {
        value.and_then(|value| value.to_str().ok().map(str::to_owned))
    };
    let site = headers.get("sec-fetch-site");
    // A browser may send a GET for no more than a link that it thinks will be followed.
    if site.is_some() && method != Method::POST {
        return Err("expected POST from a browser, found GET");
    }
    if site.is_some_and(|site| site != "same-origin") {
        return Err("expected a request from this page, found one from another site");
    }
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let (origin, host) =
        (text(Some(origin)).unwrap_or_default(), text(headers.get(HOST)).unwrap_or_default());
    if origin.split_once("://").map(|(_, rest)| rest) != Some(host.as_str()) {
        return Err("expected a request from this page, found one from another origin");
    }
    // A name in somebody else's DNS can be made to point here; an address and `localhost` cannot.
    let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    if name != "localhost" && name.parse::<IpAddr>().is_err() {
        return Err("expected this page under an address or `localhost`, found it under a name");
    }
    Ok(())
}

//! The page and its three files, as they are in `page/`: no build step, nothing from elsewhere.
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

use super::AdminState;

pub(super) fn routes() -> Router<AdminState> {
    let file = |kind: &'static str, text: &'static str| {
        get(move || async move { ([(CONTENT_TYPE, kind)], text).into_response() })
    };
    let icon = include_str!("page/icon.svg");
    Router::new()
        .route("/", file("text/html; charset=utf-8", include_str!("page/index.html")))
        .route("/app.css", file("text/css; charset=utf-8", include_str!("page/app.css")))
        .route("/app.js", file("text/javascript; charset=utf-8", include_str!("page/app.js")))
        .route("/icon.svg", file("image/svg+xml", icon))
        // Browsers ask for this name whatever the page says.
        .route("/favicon.ico", file("image/svg+xml", icon))
}

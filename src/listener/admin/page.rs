//! The admin page: the files in `page/`, compiled in. No build step, no external resources.
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

use super::AdminState;

pub(super) fn routes() -> Router<AdminState> {
    let file = |content_type: &'static str, text: &'static str| {
        get(move || async move { ([(CONTENT_TYPE, content_type)], text).into_response() })
    };
    let icon = include_str!("page/icon.svg");
    Router::new()
        .route("/", file("text/html; charset=utf-8", include_str!("page/index.html")))
        .route("/app.css", file("text/css; charset=utf-8", include_str!("page/app.css")))
        .route("/app.js", file("text/javascript; charset=utf-8", include_str!("page/app.js")))
        .route("/parts.js", file("text/javascript; charset=utf-8", include_str!("page/parts.js")))
        .route("/icon.svg", file("image/svg+xml", icon))
        // Browsers request this path whatever the page links to.
        .route("/favicon.ico", file("image/svg+xml", icon))
}

//! What each path of the admin listener answers, with a sidecar that only pretends to run.
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
    learning: std::sync::Mutex<Option<Value>>,
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

    fn show(&self, what: Shown) -> Value {
        json!({"shown": format!("{what:?}")})
    }

    fn recent(&self) -> Value {
        json!({"missed": 0, "entries": []})
    }

    fn config(&self) -> String {
        "upstream: 127.0.0.1:8500\n".to_owned()
    }

    fn drain(&self, _: DrainedBy) -> Pin<Box<dyn Future<Output = Drained> + Send>> {
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

    fn learn(&self, wanted: Wanted) -> Result<(), String> {
        let Wanted { model, signature, requests, strings } = wanted;
        *self.learning.lock().unwrap() = Some(json!([model, signature, requests, strings]));
        Ok(())
    }

    fn learned(&self) -> Option<Value> {
        self.learning.lock().unwrap().clone()
    }

    fn forget(&self) {
        *self.learning.lock().unwrap() = None;
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
    assert_eq!((ready.status, ready.body.as_str()), (200, r#"{"ready":true,"missing":[],"problems":[]}"#));
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
            assert_eq!((refused.status, &refused.headers["allow"]), (405, &HeaderValue::from_static("POST")));
        }
        assert!(answer(&view, request("GET", path)).body.contains("drain_listen"));
        assert_eq!(answer(&view, request("POST", path).header("origin", "https://evil.example")).status, 403);
        assert_eq!(answer_of(router, &view, request("POST", path)).status, 403, "who sent it is unknown");
        assert_eq!(answer(&view, request("POST", path)).status, 200);
    }
    assert_eq!(view.drains.load(Ordering::Relaxed), 1);
}

#[test]
fn a_profile_is_made_and_shown_for_an_allowed_caller_only() {
    let view = Arc::new(Fake::default());
    let post = |path| answer(&view, request("POST", path));
    assert_eq!(post("/profile/learned").status, 404);
    let begun = post("/profile/learn?model=churn&requests=5&strings=true");
    assert_eq!((begun.status, begun.body.as_str()), (200, r#"["churn","serving_default",5,true]"#));
    assert_eq!(post("/profile/learned").body, begun.body);
    for wrong in ["/profile/learn", "/profile/learn?model=m&requests=0", "/profile/learn?model=m&request=1"] {
        assert_eq!(post(wrong).status, 400, "{wrong}");
    }
    for path in ["/profile/learn?model=m", "/profile/learned", "/profile/forget"] {
        assert_eq!(answer(&view, request("GET", path)).status, 405);
        assert_eq!(answer(&view, request("POST", path).header("origin", "https://evil.example")).status, 403);
        assert_eq!(answer_of(router, &view, request("POST", path)).status, 403, "who sent it is unknown");
    }
    assert_eq!(post("/profile/forget").status, 200);
    assert_eq!(post("/profile/learned").status, 404);
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
    for path in ["Clients", "Fixes", "History", "Changes", "Findings"] {
        let answer = get_path(&view, &format!("/api/{}", path.to_lowercase()));
        assert_eq!((answer.status, answer.body), (200, format!(r#"{{"shown":"{path}"}}"#)));
    }
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
    assert!(!page.body.contains("style=") && !page.body.contains("<style") && !page.body.contains("onclick"));
    let linked = page.body.split("href=\"").skip(1).chain(page.body.split("src=\"").skip(1));
    for link in linked.filter_map(|rest| rest.split('"').next()).filter(|link| !link.starts_with('#')) {
        assert!(!link.starts_with('/'), "{link} works behind a prefix");
        assert_eq!(get_path(&view, &format!("/{link}")).status, 200, "{link}");
    }
    assert!(get_path(&view, "/app.js").body.contains("\"./parts.js\""));
    assert_eq!(get_path(&view, "/parts.js").status, 200);
    assert_eq!(get_path(&view, "/favicon.ico").headers["content-type"], "image/svg+xml");
}

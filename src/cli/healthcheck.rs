//! `healthcheck`: whether a running sidecar is ready.
use anyhow::anyhow;

use super::admin::get;
use super::args::HealthcheckArgs;
use super::{Failure, render};

pub(super) fn healthcheck(arguments: &HealthcheckArgs) -> Result<(), Failure> {
    let address = arguments.admin.address()?;
    let response = get(&address, "/readyz", arguments.timeout)?;
    if response.status == 200 {
        render::note("ready");
        return Ok(());
    }
    Err(Failure::from(anyhow!("not ready ({}): {}", response.status, missing(&response.body))))
}

/// What is missing according to `/readyz`, or the body itself if it is not the expected JSON.
fn missing(body: &str) -> String {
    let parsed: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let list = parsed.as_ref().and_then(|value| value.get("missing")).and_then(|missing| missing.as_array());
    match list {
        Some(list) => list.iter().filter_map(|line| line.as_str()).collect::<Vec<_>>().join("; "),
        None => body.trim().chars().take(500).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::cli::Exit;
    use crate::lifecycle::DrainedBy;
    use crate::listener::admin::{AdminState, Caller, Drained, Readiness, Shown, View, router};
    use crate::preprocessing::Wanted;
    use crate::repair::Mode;
    use crate::telemetry::metrics::install;

    /// A sidecar that is not ready because of these.
    struct NotReady(Vec<String>);

    impl View for NotReady {
        fn measure(&self) {}

        fn ready(&self) -> Readiness {
            Readiness::new(self.0.clone(), Vec::new())
        }

        fn stuck(&self) -> Pin<Box<dyn Future<Output = Vec<String>> + Send>> {
            let stuck = Vec::new();
            Box::pin(async move { stuck })
        }

        fn status(&self) -> Value {
            json!({})
        }

        fn unknown_models(&self) -> Value {
            json!({})
        }

        fn models(&self) -> Value {
            json!([])
        }

        fn show(&self, _what: Shown) -> Value {
            json!({})
        }

        fn recent(&self) -> Value {
            json!({})
        }

        fn config(&self) -> String {
            String::new()
        }

        fn drain(&self, _: DrainedBy) -> Pin<Box<dyn Future<Output = Drained> + Send>> {
            let in_flight = self.0.len();
            Box::pin(async move { Drained { in_flight, undrained: false } })
        }

        fn modes(&self) -> serde_json::Value {
            serde_json::Value::Null
        }

        fn set_mode(&self, _: Option<&str>, _: Option<Mode>, _: Duration) -> Result<(), String> {
            Ok(())
        }

        fn learn(&self, _: Wanted) -> Result<(), String> {
            Ok(())
        }

        fn learned(&self) -> Option<Value> {
            None
        }

        fn forget(&self) {}

        fn undrain(&self) -> Result<(), String> {
            if self.0.is_empty() { Ok(()) } else { Err("the process is stopping".to_owned()) }
        }
    }

    /// Runs a command against a real admin server.
    fn exit(command: &str, missing: &[&str]) -> Exit {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let view = Arc::new(NotReady(missing.iter().map(|&line| line.to_owned()).collect()));
        let router = router(AdminState { view, access: Arc::default(), metrics: install() });
        let arguments = ["tfs-sidecar", command, "--admin", &address].map(Into::into);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let command = std::thread::spawn(move || sender.send(crate::cli::main(arguments)));
        let router = router.layer(axum::Extension(Caller::Unix));
        runtime.spawn(async move { axum::serve(listener, router).await });
        let exit = runtime.block_on(receiver).unwrap();
        command.join().unwrap().unwrap();
        exit
    }

    #[test]
    fn a_ready_sidecar_is_healthy_and_drains() {
        for command in ["healthcheck", "drain", "undrain"] {
            assert_eq!(exit(command, &[]), Exit::Success, "{command}");
        }
    }

    #[test]
    fn a_sidecar_that_is_not_ready_is_unhealthy_and_does_not_drain() {
        for command in ["healthcheck", "drain", "undrain"] {
            assert_eq!(exit(command, &["a request"]), Exit::Failure, "{command}");
        }
    }

    #[test]
    fn the_missing_parts_are_one_line() {
        assert_eq!(
            missing(r#"{"ready":false,"missing":["draining","no connection"]}"#),
            "draining; no connection"
        );
        assert_eq!(missing("nginx\n"), "nginx");
    }
}

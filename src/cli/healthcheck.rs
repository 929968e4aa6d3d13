//! `healthcheck`: whether a running sidecar is ready.
use anyhow::anyhow;

use super::admin::ask;
use super::args::HealthcheckArgs;
use super::{Failure, render};

pub(super) fn healthcheck(arguments: &HealthcheckArgs) -> Result<(), Failure> {
    let address = arguments.admin.address()?;
    let answer = ask(&address, "GET", "/readyz", arguments.timeout)?;
    if answer.status == 200 {
        render::note("ready");
        return Ok(());
    }
    Err(Failure::from(anyhow!("not ready ({}): {}", answer.status, missing(&answer.body))))
}

/// What `/readyz` says is missing; its body as it is when it says it in another way.
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

    use serde_json::{Value, json};

    use super::*;
    use crate::cli::Exit;
    use crate::listener::admin::{AdminState, Drained, Readiness, View, router};
    use crate::telemetry::metrics::install;

    /// A sidecar that waits for this.
    struct Waiting(Vec<String>);

    impl View for Waiting {
        fn measure(&self) {}

        fn ready(&self) -> Readiness {
            Readiness::new(self.0.clone())
        }

        fn models(&self) -> Value {
            json!([])
        }

        fn recent(&self) -> Value {
            json!({})
        }

        fn config(&self) -> String {
            String::new()
        }

        fn drain(&self) -> Pin<Box<dyn Future<Output = Drained> + Send>> {
            let in_flight = self.0.len();
            Box::pin(async move { Drained { in_flight } })
        }
    }

    /// Runs a command against a real admin door.
    fn exit(command: &str, missing: &[&str]) -> Exit {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let view = Arc::new(Waiting(missing.iter().map(|&line| line.to_owned()).collect()));
        let door = router(AdminState { view, metrics: install() });
        let arguments = ["tfs-sidecar", command, "--admin", &address].map(Into::into);
        let (tell, told) = tokio::sync::oneshot::channel();
        let command = std::thread::spawn(move || tell.send(crate::cli::main(arguments)));
        runtime.spawn(async move { axum::serve(listener, door).await });
        let exit = runtime.block_on(told).unwrap();
        command.join().unwrap().unwrap();
        exit
    }

    #[test]
    fn a_ready_sidecar_is_healthy_and_drains() {
        assert_eq!((exit("healthcheck", &[]), exit("drain", &[])), (Exit::Success, Exit::Success));
    }

    #[test]
    fn a_sidecar_that_waits_is_not() {
        assert_eq!(
            (exit("healthcheck", &["a model"]), exit("drain", &["a request"])),
            (Exit::Failure, Exit::Failure)
        );
    }

    #[test]
    fn what_is_missing_is_one_line() {
        assert_eq!(
            missing(r#"{"ready":false,"missing":["draining","no connection"]}"#),
            "draining; no connection"
        );
        assert_eq!(missing("nginx\n"), "nginx");
    }
}

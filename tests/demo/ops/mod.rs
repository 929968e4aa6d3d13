//! The demo for operators: clients with different mistakes, Prometheus with the rules that are
//! shipped, and Alertmanager. An alert fires, its client is fixed, and the alert is resolved.
mod monitoring;
mod programs;
mod traffic;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::Value;
use tfs_sidecar::repair::policy::Mode;
use tokio::signal::unix::{SignalKind, signal};

use self::monitoring::Monitoring;
use self::traffic::Traffic;
use crate::show;
use crate::support::fake_tfs::{FakeTfs, Options};
use crate::support::sidecar::{TestSidecar, config};
use crate::support::{admin, dense};
use crate::table::Table;

/// The longest time that a step of the demo may take.
const PATIENCE: Duration = Duration::from_secs(60);
const ALERT: &str = "TfsSidecarClientMismatches";
const HEAD: [&str; 7] = ["client", "model", "input", "mistake", "requests", "share", "line to change"];
const WIDTHS: [usize; 7] = [16, 11, 12, 14, 8, 6, 46];

/// Every mistake of every client, by its rule or reason. `label_replace` also keeps two metrics
/// apart that have the same labels otherwise.
const MISTAKES: &str = r#"sum by (client, model, input, mistake) (
    label_replace(tfs_sidecar_repairs_total, "mistake", "$1", "rule", "(.+)")
    or label_replace(tfs_sidecar_would_repair_total, "mistake", "$1", "rule", "(.+)")
    or label_replace(tfs_sidecar_rejections_total, "mistake", "$1", "reason", "(.+)")
    or label_replace(tfs_sidecar_would_reject_total, "mistake", "$1", "reason", "(.+)")
)"#;
const REQUESTS: &str = r#"sum by (model) (tfs_sidecar_requests_total{method="Predict"})"#;

/// Runs until the table is printed (`once`) or until Ctrl-C.
pub(crate) async fn run(once: bool) -> ExitCode {
    let mut terminate = signal(SignalKind::terminate()).expect("a runtime with I/O has signals");
    // Whatever ends first, dropping the other one stops what it has started.
    tokio::select! {
        done = demo(once) => match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(problem) => {
                show(&format!("\ndemo-ops: {problem}"));
                ExitCode::FAILURE
            }
        },
        _ = tokio::signal::ctrl_c() => ExitCode::SUCCESS,
        _ = terminate.recv() => ExitCode::SUCCESS,
    }
}

async fn demo(once: bool) -> Result<(), String> {
    let models = [dense::model_named(traffic::CHURN), dense::model_named(traffic::EMBED)];
    let upstream = FakeTfs::start_with(Options { forgets: true, ..Options::default() }, models);
    let mut settings = config(upstream.addr(), [traffic::CHURN, traffic::EMBED].map(str::to_owned));
    settings.poll_interval = Duration::from_secs(1);
    if let Some(embed) = settings.models.get_mut(traffic::EMBED) {
        embed.defaults.mode = Mode::Observe;
    }
    let sidecar = TestSidecar::start(settings);
    sidecar.ready().await;
    let monitoring = Monitoring::start(&sidecar.admin).await?;
    show(&format!(
        "status page   http://{}/\nPrometheus    http://{}/alerts\nAlertmanager  http://{}/\n\n\
         The rules are those of deploy/prometheus, but with windows of seconds instead of minutes.\n\
         Five clients send requests; four of them also wrong ones. Model {} is in mode repair, {} in mode observe.",
        sidecar.admin,
        monitoring.prometheus,
        monitoring.alertmanager,
        traffic::CHURN,
        traffic::EMBED,
    ));
    let traffic = Traffic::start(&sidecar.grpc).await;

    show("\nwaiting for an alert ...");
    let begun = Instant::now();
    let alert = until("an alert to fire", async || {
        let firing = monitoring.firing().await;
        firing.into_iter().find(|alert| label(alert, "client") == traffic::FIXED && is(alert, ALERT))
    })
    .await?;
    show(&format!("after {} s: {}", begun.elapsed().as_secs(), sentence(&alert)));
    show(&format!("\nfixing the client {} ...", traffic::FIXED));
    let begun = Instant::now();
    traffic.fix();
    until("the alert to be resolved", async || {
        let firing = monitoring.firing().await;
        let fires = firing.iter().any(|alert| label(alert, "client") == traffic::FIXED && is(alert, ALERT));
        // Alertmanager must answer for the others, or silence would look like a resolved alert.
        (!fires && !firing.is_empty()).then_some(())
    })
    .await?;
    show(&format!("after {} s: resolved", begun.elapsed().as_secs()));
    let mut still: Vec<String> = monitoring.firing().await.iter().map(sentence).collect();
    still.sort();
    show(&format!("\nstill firing, because of the other clients:\n  {}", still.join("\n  ")));
    show(&format!(
        "\nwho sends what wrong, from Prometheus (share: of the requests for the model), and the line to change,\n\
         from /api/fixes:\n\n{}",
        table(&monitoring, &sidecar).await?
    ));
    if !once {
        show(&format!(
            "\nrunning until Ctrl-C: status page http://{}/   Prometheus http://{}/   Alertmanager http://{}/",
            sidecar.admin, monitoring.prometheus, monitoring.alertmanager,
        ));
        std::future::pending::<()>().await;
    }
    drop((traffic, monitoring));
    sidecar.stop().await;
    Ok(())
}

/// Who sends what wrong. Counts and shares come from Prometheus.
async fn table(monitoring: &Monitoring, sidecar: &TestSidecar) -> Result<String, String> {
    let mut mistakes = monitoring.query(MISTAKES).await?;
    mistakes.sort_by(|left, right| right.value.total_cmp(&left.value));
    let requests = monitoring.query(REQUESTS).await?;
    let page = admin::get(&sidecar.admin, "/api/fixes").await;
    let fixes: Vec<Value> =
        serde_json::from_str(&page.body).map_err(|error| format!("/api/fixes: {error}"))?;
    let mut table = Table::new(HEAD, WIDTHS);
    for mistake in &mistakes {
        let [client, model, input, kind] =
            ["client", "model", "input", "mistake"].map(|key| mistake.label(key));
        let all = requests.iter().find(|requests| requests.label("model") == model);
        let share = all.map_or(0.0, |all| 100.0 * mistake.value / all.value);
        // /api/fixes names unknown models as the client did, so the model is not compared.
        let fix =
            fixes.iter().find(|fix| fix["client"] == client && fix["input"] == input && fix["kind"] == kind);
        let fix = fix.and_then(|fix| fix["fix"].as_str()).unwrap_or_default();
        let cells = [client, model, input, kind].map(str::to_owned);
        let [client, model, input, kind] = cells;
        table.row([
            client,
            model,
            input,
            kind,
            format!("{:.0}", mistake.value),
            format!("{share:.0} %"),
            fix.into(),
        ]);
    }
    if mistakes.is_empty() { Err("Prometheus knows of no mistake".into()) } else { Ok(table.render()) }
}

fn label<'a>(alert: &'a Value, name: &str) -> &'a str {
    alert["labels"][name].as_str().unwrap_or_default()
}

fn is(alert: &Value, name: &str) -> bool {
    label(alert, "alertname") == name
}

fn sentence(alert: &Value) -> String {
    format!("{}: {}", label(alert, "alertname"), alert["annotations"]["summary"].as_str().unwrap_or_default())
}

/// Calls `probe` about four times a second until it finds something.
async fn until<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> Result<T, String> {
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            ticks.tick().await;
            if let Some(found) = probe().await {
                return found;
            }
        }
    });
    found.await.map_err(|_| format!("waited {PATIENCE:?} for {what}"))
}

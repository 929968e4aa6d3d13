//! Prometheus, which scrapes the sidecar with the rules of `deploy/prometheus`, and Alertmanager.
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::net::TcpStream;

use super::programs::{Folder, Program, free_address};
use super::until;
use crate::support::admin;

const RULES: &str = include_str!("../../../deploy/prometheus/rules/tfs-sidecar.yml");
/// What is shorter in the demo than in the rules.
const SHORTER: [(&str, &str); 9] = [
    ("[5m]", "[10s]"),
    ("[15m]", "[20s]"),
    ("[1h]", "[20s]"),
    ("offset 15m", "offset 20s"),
    ("offset 1h", "offset 20s"),
    ("for: 2m", "for: 3s"),
    ("for: 3m", "for: 3s"),
    ("for: 5m", "for: 3s"),
    ("for: 10m", "for: 3s"),
];

/// Both programs, and their addresses. They are stopped on drop.
pub(super) struct Monitoring {
    pub(super) prometheus: String,
    pub(super) alertmanager: String,
    // Dropped in this order: the folder goes last.
    _programs: [Program; 2],
    _folder: Folder,
}

/// A series of a query's result.
pub(super) struct Sample {
    labels: Value,
    pub(super) value: f64,
}

impl Sample {
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels[name].as_str().unwrap_or_default()
    }
}

impl Monitoring {
    /// Starts both and waits until they are ready.
    pub(super) async fn start(sidecar: &str) -> Result<Self, String> {
        let (prometheus, alertmanager) = (free_address()?, free_address()?);
        let folder = Folder::new()?;
        folder.write(
            "rules.yml",
            &SHORTER.iter().fold(RULES.to_owned(), |rules, (from, to)| rules.replace(from, to)),
        )?;
        folder.write(
            "prometheus.yml",
            &format!(
                "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
                 rule_files: [rules.yml]\n\
                 alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{alertmanager}']}}]}}]}}\n\
                 scrape_configs: [{{job_name: tfs-sidecar, static_configs: [{{targets: ['{sidecar}']}}]}}]\n"
            ),
        )?;
        folder.write(
            "alertmanager.yml",
            "route: {receiver: none, group_wait: 1s}\nreceivers: [{name: none}]\n",
        )?;
        let data = |name: &str| folder.path().join(name).display().to_string();
        let mut programs = [
            Program::start(
                &["prometheus"],
                &[
                    format!("--config.file={}", data("prometheus.yml")),
                    format!("--storage.tsdb.path={}", data("series")),
                    format!("--web.listen-address={prometheus}"),
                    "--log.level=warn".into(),
                ],
                folder.path(),
            )?,
            Program::start(
                &["prometheus-alertmanager", "alertmanager"],
                &[
                    format!("--config.file={}", data("alertmanager.yml")),
                    format!("--storage.path={}", data("alerts")),
                    format!("--web.listen-address={alertmanager}"),
                    // One instance has no cluster, and needs no port for it.
                    "--cluster.listen-address=".into(),
                    "--log.level=warn".into(),
                ],
                folder.path(),
            )?,
        ];
        for address in [&prometheus, &alertmanager] {
            until("Prometheus and Alertmanager to start", async || {
                if programs.iter_mut().any(Program::has_ended) {
                    return Some(Err(()));
                }
                TcpStream::connect(address).await.ok()?;
                (admin::get(address, "/-/ready").await.status == 200).then_some(Ok(()))
            })
            .await?
            .map_err(|()| {
                let logs =
                    ["prometheus", "prometheus-alertmanager", "alertmanager"].map(|name| folder.log(name));
                format!("a program ended at once:\n{}", logs.concat())
            })?;
        }
        Ok(Self { prometheus, alertmanager, _programs: programs, _folder: folder })
    }

    /// The alerts that Alertmanager has as firing.
    pub(super) async fn firing(&self) -> Vec<Value> {
        let page = admin::get(&self.alertmanager, "/api/v2/alerts?active=true").await;
        serde_json::from_str(&page.body).unwrap_or_default()
    }

    /// Asks Prometheus.
    pub(super) async fn query(&self, query: &str) -> Result<Vec<Sample>, String> {
        let path = format!("/api/v1/query?query={}", utf8_percent_encode(query, NON_ALPHANUMERIC));
        let page = admin::get(&self.prometheus, &path).await;
        let answer: Value =
            serde_json::from_str(&page.body).map_err(|error| format!("Prometheus: {error}"))?;
        let series =
            answer["data"]["result"].as_array().ok_or_else(|| format!("Prometheus: {}", page.body))?;
        let sample = |series: &Value| {
            let value = series["value"][1].as_str().and_then(|value| value.parse().ok()).unwrap_or_default();
            Sample { labels: series["metric"].clone(), value }
        };
        Ok(series.iter().map(sample).collect())
    }
}

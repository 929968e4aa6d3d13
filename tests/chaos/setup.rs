//! The sidecar with everything on, and the files that it reads.
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::folder::Folder;
use crate::support::tls::content;
use crate::support::training::profile;
use crate::upstream::{ATTACKED, ECHO, SCALED};
use crate::world::Mode;

/// `limits.max_inflight_bytes`: what attackers can make it hold.
pub(crate) const INFLIGHT_MIB: u32 = 64;
/// The certificates by turns, and the authorities that signed them.
const CERTIFICATES: [(&str, &str); 2] = [("server", "ca.pem"), ("other-server", "other-ca.pem")];
/// What all clients trust.
pub(crate) const AUTHORITIES: &[&str] = &["ca.pem", "other-ca.pem"];

/// The configuration, the profile and the certificates.
#[derive(Debug)]
pub(crate) struct Files {
    folder: Folder,
    collector: String,
    rotations: AtomicUsize,
}

impl Files {
    /// Traces go to the collector with this address.
    pub(crate) fn new(collector: &str) -> Self {
        let folder = Folder::new();
        folder.replace("profile.yaml", profile().to_yaml().as_bytes());
        let files = Self { folder, collector: collector.to_owned(), rotations: AtomicUsize::new(0) };
        files.put(0, 0);
        files
    }

    /// What is added to the configuration of the process. `turn` makes each one different.
    pub(crate) fn yaml(&self, mode: Mode, turn: u64) -> String {
        let mode = if mode == Mode::Strict { "strict" } else { "repair" };
        let path = |name: &str| self.folder.path(name).display().to_string();
        let (cert, key, profile) = (path("tls.crt"), path("tls.key"), path("profile.yaml"));
        let (limit, rows) = (Self::limit(turn), 8 << (turn % 4));
        let batching = format!(
            "signatures: {{serving_default: {{batching: {{enabled: on, probation: 8, verify_sample: 0.02, max_rows: {rows}}}}}}}"
        );
        format!(
            "workers: 2\nrest_listen: 127.0.0.1:0\npoll_interval: 250ms\nreload_interval: 500ms\n\
             listen_tls: {{cert: {cert}, key: {key}}}\nlog_format: json\naccess_log: all\n\
             client_identity: [user_agent]\ntraffic_census: on\notlp_endpoint: {}\notlp_sample: 0.05\n\
             limits: {{max_inflight_bytes: {INFLIGHT_MIB}MiB, {limit}}}\n\
             models: {{{ECHO}: {{mode: {mode}, {batching}}}, {SCALED}: {{profile: {profile}, {batching}}}, {ATTACKED}: {{}}}}\n",
            self.collector
        )
    }

    /// The limit by which a configuration is told from others.
    pub(crate) fn limit(turn: u64) -> String {
        format!("max_streams: {}", 2_000 + turn)
    }

    /// With mode `off`, in which nothing would be repaired, and with a mistake.
    pub(crate) fn broken_yaml(&self) -> String {
        let right = self.yaml(Mode::Repair, 0);
        right.replace("mode: repair", "mode: off").replace("max_streams: 2000", "max_connections: many")
    }

    /// Replaces certificate and key at once; the authority that signed the new one.
    pub(crate) fn rotate(&self) -> &'static str {
        let next = self.rotations.fetch_add(1, Ordering::Relaxed) + 1;
        self.put(next, next);
        CERTIFICATES[next % 2].1
    }

    /// The key of the other certificate beside the present one.
    pub(crate) fn wrong_key(&self) {
        let now = self.rotations.load(Ordering::Relaxed);
        self.put(now, now + 1);
    }

    /// The files of a secret, replaced as kubelet does.
    fn put(&self, certificate: usize, key: usize) {
        static VERSION: AtomicUsize = AtomicUsize::new(0);
        let version = VERSION.fetch_add(1, Ordering::Relaxed);
        let of = |which: usize, kind: &str| content(&format!("{}.{kind}", CERTIFICATES[which % 2].0));
        let (cert, key) = (of(certificate, "pem"), of(key, "key"));
        self.folder.replace_map(version, &[("tls.crt", &cert), ("tls.key", &key)]);
    }
}

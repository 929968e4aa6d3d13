//! Messages to systemd (`sd_notify`): that the sidecar listens, reloads, stops, makes progress, and
//! whether it is ready. Nothing is sent if systemd did not ask for it with `NOTIFY_SOCKET`.
use std::ffi::OsStr;
use std::io;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

use super::liveness::Pings;
use crate::config::Config;
use crate::lifecycle::Readiness;

/// How often the status is compared with what systemd knows.
const STATUS_STEP: Duration = Duration::from_secs(1);
/// The longest status in characters. systemd drops datagrams of more than 4 KiB.
const MAX_STATUS: usize = 500;
/// What stopping may take beside the drain.
const STOP_MARGIN: Duration = Duration::from_secs(10);

/// Sends messages to systemd. Does nothing without `NOTIFY_SOCKET`.
#[derive(Debug, Default)]
pub(super) struct Systemd {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// Whether the last message was not sent, which is logged once.
    failing: AtomicBool,
}

impl Systemd {
    pub(super) fn from_environment() -> Self {
        std::env::var_os("NOTIFY_SOCKET").map_or_else(Self::default, |address| Self::new(&address))
    }

    fn new(address: &OsStr) -> Self {
        let socket = connect(address).inspect_err(|error| {
            tracing::warn!(%error, "cannot send messages to systemd (`NOTIFY_SOCKET`)");
        });
        Self { socket: socket.ok(), failing: AtomicBool::new(false) }
    }

    fn is_on(&self) -> bool {
        self.socket.is_some()
    }

    /// systemd ends the reload that it asked for at the next [`Systemd::up`].
    pub(super) fn reloading(&self) {
        if let (true, Ok(now)) = (self.is_on(), NotifyState::monotonic_usec_now()) {
            self.send(&[NotifyState::Reloading, now]);
        }
    }

    /// The sidecar listens, or a reload is over.
    pub(super) fn up(&self) {
        self.send(&[NotifyState::Ready]);
    }

    /// The sidecar begins the drain at whose end it stops. Asks for the time that this may take, so
    /// that `TimeoutStopSec` need not follow the configuration.
    pub(super) fn stopping(&self, config: &Config) {
        let time = config.drain_delay.saturating_add(config.drain_timeout).saturating_add(STOP_MARGIN);
        let time = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        self.send(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(time)]);
    }

    /// Never blocks: if systemd does not read, the message is lost.
    fn send(&self, states: &[NotifyState<'_>]) {
        let Some((socket, address)) = &self.socket else { return };
        let mut text = String::new();
        for state in states {
            text.push_str(&state.to_string());
            text.push('\n');
        }
        let sent = socket.send_to_addr(text.as_bytes(), address);
        let failing = sent.is_err();
        if let (Err(error), false) = (sent, self.failing.swap(failing, Ordering::Relaxed)) {
            tracing::warn!(%error, "cannot send messages to systemd (`NOTIFY_SOCKET`)");
        }
    }
}

/// Says that the sidecar listens, and from then on whether it is ready and why not. Runs forever.
///
/// It is up before it is ready: units that are ordered after it may include TF Serving.
pub(super) async fn report(systemd: Arc<Systemd>, readiness: Readiness) {
    if !systemd.is_on() {
        return;
    }
    systemd.up();
    let mut known = String::new();
    let mut steps = interval(STATUS_STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        steps.tick().await;
        let status = status(&readiness.reasons());
        if status != known {
            systemd.send(&[NotifyState::Status(&status)]);
            known = status;
        }
    }
}

/// Tells systemd that the sidecar makes progress, as `/livez` sees it, if it wants to know. Runs on
/// the control thread, so that its progress counts too, and forever.
pub(super) async fn watchdog(systemd: Arc<Systemd>, pings: Pings) {
    if let Some(within) = sd_notify::watchdog_enabled().filter(|_| systemd.is_on()) {
        feed(&systemd, &pings, within).await;
    }
}

/// Sends a message twice in every `within`, as systemd recommends, while no thread is stuck.
async fn feed(systemd: &Systemd, pings: &Pings, within: Duration) {
    let mut steps = interval((within / 2).max(Duration::from_millis(1)));
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        steps.tick().await;
        let stuck = pings.stuck().await;
        if stuck.is_empty() {
            systemd.send(&[NotifyState::Watchdog]);
        } else {
            tracing::error!(threads = stuck.join(", "), "no progress; systemd is not told that all is well");
        }
    }
}

/// One line, as `/readyz` says it. Reasons may contain what TF Serving has sent, and a line break
/// would begin another message to systemd.
fn status(reasons: &[String]) -> String {
    let status = match reasons {
        [] => "ready".to_owned(),
        _ => format!("not ready: {}", reasons.join("; ")),
    };
    status.chars().take(MAX_STATUS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A socket that never blocks, and the address: a path, or `@` and a name without a file.
fn connect(address: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match address.as_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// systemd's end; its file is removed on drop.
    struct Receiver(UnixDatagram, PathBuf);

    impl Drop for Receiver {
        fn drop(&mut self) {
            std::fs::remove_file(&self.1).ok();
        }
    }

    fn pair(name: &str) -> (Receiver, Systemd) {
        let path = std::env::temp_dir().join(format!("tfs-sidecar-{}-{name}", std::process::id()));
        let receiver = UnixDatagram::bind(&path).unwrap();
        receiver.set_nonblocking(true).unwrap();
        let systemd = Systemd::new(path.as_os_str());
        assert!(systemd.is_on());
        (Receiver(receiver, path), systemd)
    }

    fn received(receiver: &Receiver) -> Vec<String> {
        let mut buffer = [0; 8192];
        let mut all = Vec::new();
        while let Ok(length) = receiver.0.recv(&mut buffer) {
            all.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
        }
        all
    }

    #[tokio::test(start_paused = true)]
    async fn a_stuck_thread_stops_the_watchdog_messages() {
        const WITHIN: Duration = Duration::from_secs(30);
        let (receiver, systemd) = pair("watchdog");
        let (pings, receivers) = Pings::new(2);
        let mut receivers = receivers.into_iter();
        let answering = tokio::spawn(receivers.next().unwrap().answer());
        let stuck = receivers.next().unwrap();
        let feeding = tokio::spawn(async move { feed(&systemd, &pings, WITHIN).await });
        tokio::time::sleep(WITHIN * 3).await;
        assert_eq!(received(&receiver), [""; 0]);

        let recovered = tokio::spawn(stuck.answer());
        tokio::time::sleep(WITHIN * 3).await;
        let messages = received(&receiver);
        assert!((5..=7).contains(&messages.len()), "{messages:?}");
        assert!(messages.iter().all(|message| message == "WATCHDOG=1\n"), "{messages:?}");
        for task in [answering, recovered, feeding] {
            task.abort();
        }
    }

    #[test]
    fn a_status_is_one_short_line() {
        assert_eq!(status(&[]), "ready");
        let reasons = ["model 'a' is not served\nMAINPID=1".to_owned(), "draining".to_owned()];
        assert_eq!(status(&reasons), "not ready: model 'a' is not served MAINPID=1; draining");
        let long = status(&["\u{1f600}".repeat(5000)]);
        assert!(long.len() < 2500, "{}", long.len());
    }

    #[test]
    fn a_receiver_that_reads_nothing_does_not_block() {
        let (_receiver, systemd) = pair("full");
        for _ in 0..100_000 {
            systemd.up();
        }
        assert!(systemd.failing.load(Ordering::Relaxed), "its queue is full");
    }

    #[test]
    fn the_time_to_stop_covers_the_drain() {
        let (receiver, systemd) = pair("stop");
        systemd.stopping(&Config::default());
        let day = Duration::from_secs(24 * 3600);
        systemd.stopping(&Config { drain_timeout: day, ..Config::default() });
        let at_most = format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}\n", u32::MAX);
        assert_eq!(received(&receiver), ["STOPPING=1\nEXTEND_TIMEOUT_USEC=45000000\n", &at_most]);
    }
}

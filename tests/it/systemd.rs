//! What the program tells systemd: `Type=notify`, reloads, the watchdog, and the status.
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::dense;
use crate::support::fake_tfs::FakeTfs;
use crate::support::process::Process;
use crate::support::within;

/// systemd's end of `NOTIFY_SOCKET`; its file is removed on drop.
struct Systemd {
    socket: tokio::net::UnixDatagram,
    path: PathBuf,
}

impl Systemd {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tfs-sidecar-notify-{}-{number}", std::process::id()));
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket: tokio::net::UnixDatagram::from_std(socket).unwrap(), path }
    }

    /// Starts the program as a unit with these variables in addition.
    fn start(&self, fake: &FakeTfs, yaml: &str, variables: &[(&str, &str)]) -> Process {
        let mut environment = vec![("NOTIFY_SOCKET", self.path.to_str().unwrap())];
        environment.extend_from_slice(variables);
        Process::with_environment(fake.addr(), yaml, &environment)
    }

    /// The next message.
    async fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let length = within("a message to systemd", self.socket.recv(&mut buffer)).await.unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// Waits for a message that begins so, and returns it with those before it.
    async fn until(&self, start: &str) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        // Other messages may come for ever.
        within(&format!("the message `{start}` to systemd"), async {
            while all.last().is_none_or(|message| !message.starts_with(start)) {
                all.push(self.next().await);
            }
        })
        .await;
        all
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok();
    }
}

#[tokio::test]
async fn it_is_up_when_it_listens_and_its_status_says_whether_it_is_ready() {
    let systemd = Systemd::new();
    let fake = FakeTfs::start([]);
    let process = systemd.start(&fake, "models: {mlp: {}}\npoll_interval: 20ms", &[]);
    assert_eq!(systemd.next().await, "READY=1\n");
    TcpStream::connect(&process.grpc).unwrap();

    let not_ready = systemd.until("STATUS=not ready: ").await;
    assert!(not_ready.last().unwrap().contains("mlp"), "{not_ready:?}");
    fake.serve(dense::model());
    systemd.until("STATUS=ready\n").await;
}

#[tokio::test]
async fn a_reload_is_over_when_the_file_was_applied_or_refused() {
    let systemd = Systemd::new();
    let fake = FakeTfs::start([dense::model()]);
    // Only SIGHUP reloads.
    let process = systemd.start(&fake, "reload_interval: 0s\ndefaults: {mode: strict}", &[]);
    systemd.until("READY=1\n").await;
    for (yaml, logged) in
        [("defaults: {mode: repair}", "configuration reloaded"), ("no_such_key: 1", "refused")]
    {
        process.configure(yaml);
        process.signal("HUP");
        let begun = systemd.until("RELOADING=1\nMONOTONIC_USEC=").await.pop().unwrap();
        let time = begun.trim_end().rsplit_once('=').unwrap().1;
        assert!(time.parse::<u64>().unwrap() > 0, "{begun}");
        systemd.until("READY=1\n").await;
        // The log is written by a thread of its own.
        process.logged(logged).await;
    }
}

#[tokio::test]
async fn stopping_is_announced_before_the_drain_with_the_time_it_may_take() {
    let systemd = Systemd::new();
    let fake = FakeTfs::start([dense::model()]);
    let process = systemd.start(&fake, "drain_delay: 1h\ndrain_timeout: 10s", &[]);
    systemd.until("READY=1\n").await;
    process.signal("TERM");
    let stopping = systemd.until("STOPPING=1\n").await.pop().unwrap();
    assert_eq!(stopping, "STOPPING=1\nEXTEND_TIMEOUT_USEC=3620000000\n");
    systemd.until("STATUS=not ready: draining").await;
    process.signal("TERM");
    assert_eq!(process.exit_code().await, Some(130));
}

#[tokio::test]
async fn the_watchdog_is_told_while_every_thread_makes_progress() {
    let systemd = Systemd::new();
    let fake = FakeTfs::start([dense::model()]);
    let _process = systemd.start(&fake, "", &[("WATCHDOG_USEC", "100000")]);
    for _ in 0..3 {
        systemd.until("WATCHDOG=1\n").await;
    }
}

#[tokio::test]
async fn nothing_is_sent_that_systemd_did_not_ask_for() {
    let systemd = Systemd::new();
    let fake = FakeTfs::start([dense::model()]);
    // A watchdog of another process.
    let process =
        systemd.start(&fake, "drain_delay: 0s", &[("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "1")]);
    process.ready().await;
    systemd.until("STATUS=ready").await;
    process.signal("TERM");
    let messages = systemd.until("STOPPING=1\n").await;
    assert!(messages.iter().all(|message| !message.starts_with("WATCHDOG")), "{messages:?}");
    assert_eq!(process.exit_code().await, Some(0));
}

//! Attackers beside the clients, on connections and a thread of their own, at a moderate rate.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::support::attacks::rest::Attack;
use crate::support::attacks::{self, WINDOW, calls};
use crate::support::dial::Dial;
use crate::support::frames::{PING, RST_STREAM, Reads, frame, open};
use crate::support::pace::pause;
use crate::support::requests::CLASSIFY;
use crate::upstream::ATTACKED;

/// The pauses between two floods, bombs or bodies.
const PACE: Duration = Duration::from_millis(500);
/// The attackers come for so long, and then stay away for twice [`AWAY`].
const BOUT: Duration = Duration::from_secs(30);
/// When they have been away for so long, the threads that served them alone have ended.
const AWAY: Duration = Duration::from_secs(15);
/// Unfinished calls of each attacker that holds some.
const CALLS: u32 = 50;

/// What attackers have in common. Over gRPC they call Classify, and over REST they ask for a model
/// of their own, so that their requests can be told from those of the clients.
#[derive(Debug)]
pub(crate) struct Attackers {
    thread: JoinHandle<()>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Answers over REST, by status.
    seen: Mutex<BTreeMap<u16, u64>>,
    bouts: AtomicU32,
    /// They have been away for a while.
    calm: AtomicBool,
}

impl Attackers {
    pub(crate) fn start(grpc: Dial, rest: Dial, stop: CancellationToken) -> Self {
        let shared = Arc::<Shared>::default();
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let bodies = bodies();
            runtime.block_on(async {
                while !stop.is_cancelled() {
                    let (bout, end) = (stop.child_token(), pause(BOUT));
                    of_thread.calm.store(false, Relaxed);
                    of_thread.bouts.fetch_add(1, Relaxed);
                    tokio::join!(attack(&grpc, &rest, &bout, &bodies, &of_thread.seen), async {
                        end.await;
                        bout.cancel();
                    });
                    tokio::select! { () = stop.cancelled() => {}, () = pause(AWAY) => {} }
                    of_thread.calm.store(true, Relaxed);
                    tokio::select! { () = stop.cancelled() => {}, () = pause(AWAY) => {} }
                }
            });
        });
        Self { thread, shared }
    }

    /// Whether they have been away for a while.
    pub(crate) fn are_away(&self) -> bool {
        self.shared.calm.load(Relaxed)
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for their end; what they did, and what was wrong.
    pub(crate) fn end(self) -> (String, Vec<String>) {
        let mut faults = Vec::new();
        if self.thread.join().is_err() {
            faults.push("an attacker panicked".to_owned());
        }
        let (seen, bouts) = (self.shared.seen.lock().unwrap(), self.shared.bouts.load(Relaxed));
        if seen.contains_key(&200) || seen.keys().any(|status| *status == 500) {
            faults.push(format!("attackers were answered {seen:?}"));
        }
        // The bomb is too large, or too much for what is left.
        if !seen.contains_key(&400) || !seen.contains_key(&413) && !seen.contains_key(&429) {
            faults.push(format!("the attackers did nothing: {seen:?}"));
        }
        (format!("{bouts} bouts; REST answers by status {seen:?}"), faults)
    }
}

/// What is sent over REST.
fn bodies() -> Vec<Attack> {
    let mut bodies = vec![attacks::rest::bomb(ATTACKED)];
    bodies.extend(attacks::rest::json(ATTACKED));
    bodies.extend(attacks::rest::lengths(ATTACKED));
    bodies
}

async fn attack(
    grpc: &Dial,
    rest: &Dial,
    stop: &CancellationToken,
    bodies: &[Attack],
    seen: &Mutex<BTreeMap<u16, u64>>,
) {
    let pings = frame(PING, 0, 0, &[7; 8]);
    let reset =
        |stream: u32| [open(stream, CLASSIFY), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat();
    let announced = calls(CALLS, CLASSIFY, &[0, 0x7f, 0xff, 0xff, 0xff]);
    let headers = calls(CALLS, CLASSIFY, b"");
    let over_grpc = async {
        tokio::join!(
            attacks::flood(grpc, stop, PACE, &[], &pings),
            attacks::streams(grpc, stop, PACE, reset),
            attacks::hold(grpc, stop, WINDOW, Reads::Yes, &announced),
            attacks::hold(grpc, stop, WINDOW, Reads::Yes, &headers),
            attacks::slow_bodies(grpc, stop, CLASSIFY, CALLS),
            attacks::gzip_bombs(grpc, stop, PACE * 4, CLASSIFY),
            attacks::comes_and_goes(grpc, stop, PACE, 5),
        )
    };
    let over_rest = async {
        tokio::join!(
            attacks::rest::repeat(rest, stop, PACE / 2, bodies, |_, answer| {
                *seen.lock().unwrap().entry(answer.status).or_default() += 1;
            }),
            attacks::rest::slow_bodies(rest, stop, ATTACKED, CALLS),
        )
    };
    tokio::join!(over_grpc, over_rest);
}

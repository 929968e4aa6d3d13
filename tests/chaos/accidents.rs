//! What happens to TF Serving, and when, so that the clients can tell an accident from a fault.
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::support::pace::pause;
use crate::support::random::Random;
use crate::upstream::Upstream;

/// How long requests may still fail after TF Serving works again: the next dial, and calls that
/// were waiting.
const RECOVERY: Duration = Duration::from_secs(5);

/// The accidents so far.
#[derive(Debug, Default)]
pub(crate) struct Accidents {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// An accident goes on.
    now: bool,
    ended: Option<Instant>,
    kills: u32,
    freezes: u32,
}

impl Accidents {
    /// Whether a request that was sent at `since` and has ended now could have met an accident.
    pub(crate) fn excuse(&self, since: Instant) -> bool {
        let state = self.state.lock().unwrap();
        state.now || state.ended.is_some_and(|ended| ended + RECOVERY > since)
    }

    /// Causes accidents at random for so long. TF Serving works at the end.
    pub(crate) async fn cause(&self, mut upstream: Upstream, length: Duration) -> Upstream {
        let start = Instant::now();
        let mut random = Random::new(7);
        while start.elapsed() < length {
            pause(random.between(100, 8_000)).await;
            self.begin();
            if random.below(5) < 2 {
                upstream.signal("STOP");
                pause(random.between(50, 9_000)).await;
                upstream.signal("CONT");
                self.state.lock().unwrap().freezes += 1;
            } else {
                upstream.kill();
                pause(random.between(0, 2_000)).await;
                upstream.restart();
                self.state.lock().unwrap().kills += 1;
            }
            self.end();
        }
        upstream
    }

    fn begin(&self) {
        self.state.lock().unwrap().now = true;
    }

    fn end(&self) {
        let mut state = self.state.lock().unwrap();
        state.now = false;
        state.ended = Some(Instant::now());
    }

    pub(crate) fn summary(&self) -> String {
        let state = self.state.lock().unwrap();
        let mut text = String::new();
        write!(text, "accidents: {} kills and restarts, {} freezes", state.kills, state.freezes).unwrap();
        text
    }
}

//! How long a connection lives: limits on its age and on its time without a request.
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::config::Limits;

/// What a connection has to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// Tell the client to use another connection; the calls of this one finish.
    GoAway,
    /// End it, whatever is still running on it.
    Close,
}

/// The limits of one connection. Nothing is timed unless one is set.
#[derive(Debug)]
pub(super) struct Lifetime {
    timer: Option<Pin<Box<Sleep>>>,
    /// When it is too old; later, when its grace is over.
    old: Option<Instant>,
    grace: Duration,
    idle: Option<Duration>,
    /// Calls accepted until the last check.
    accepted: u64,
    told: bool,
}

impl Lifetime {
    pub(super) fn new(limits: &Limits) -> Self {
        let set = |time: Duration| (!time.is_zero()).then_some(time);
        let now = Instant::now();
        let old = set(limits.max_connection_age).and_then(|age| now.checked_add(age));
        let idle = set(limits.connection_idle_timeout);
        let mut lifetime =
            Self { timer: None, old, grace: limits.max_connection_age_grace, idle, accepted: 0, told: false };
        lifetime.timer = lifetime.next(now).map(|at| Box::pin(sleep_until(at)));
        lifetime
    }

    pub(super) fn is_limited(&self) -> bool {
        self.timer.is_some()
    }

    /// Waits until [`Lifetime::check`] may have something to say.
    pub(super) async fn reached(&mut self) {
        match &mut self.timer {
            Some(timer) => timer.await,
            None => std::future::pending().await,
        }
    }

    /// What is due for a connection with so many calls running, and so many accepted so far.
    pub(super) fn check(&mut self, running: usize, accepted: u64) -> Due {
        let now = Instant::now();
        let is_idle = self.idle.is_some() && !self.told && running == 0 && self.accepted == accepted;
        self.accepted = accepted;
        let due = match self.old {
            Some(old) if now >= old && self.told => Due::Close,
            Some(old) if now >= old => Due::GoAway,
            _ if is_idle => Due::GoAway,
            _ => Due::Nothing,
        };
        if due == Due::GoAway {
            self.told = true;
            self.old = now.checked_add(self.grace);
        }
        match (self.next(now), &mut self.timer) {
            (Some(at), Some(timer)) => timer.as_mut().reset(at),
            (_, timer) => *timer = None,
        }
        due
    }

    fn next(&self, now: Instant) -> Option<Instant> {
        let idle = self.idle.filter(|_| !self.told).and_then(|idle| now.checked_add(idle));
        idle.into_iter().chain(self.old).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn lifetime(age: u32, grace: u32, idle: u32) -> Lifetime {
        Lifetime::new(&Limits {
            max_connection_age: SECOND * age,
            max_connection_age_grace: SECOND * grace,
            connection_idle_timeout: SECOND * idle,
            ..Limits::default()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_connection_is_told_and_then_closed() {
        let start = Instant::now();
        let mut lifetime = lifetime(10, 5, 0);
        lifetime.reached().await;
        assert_eq!((lifetime.check(3, 9), start.elapsed().as_secs()), (Due::GoAway, 10));
        lifetime.reached().await;
        assert_eq!((lifetime.check(1, 9), start.elapsed().as_secs()), (Due::Close, 15));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_requests_is_told() {
        let mut lifetime = lifetime(0, 5, 2);
        lifetime.reached().await;
        assert_eq!(lifetime.check(1, 1), Due::Nothing, "a call is running");
        lifetime.reached().await;
        assert_eq!(lifetime.check(0, 2), Due::Nothing, "there was a call");
        lifetime.reached().await;
        assert_eq!(lifetime.check(0, 2), Due::GoAway);
    }

    #[tokio::test]
    async fn without_limits_there_is_no_timer() {
        assert!(!lifetime(0, 5, 0).is_limited());
    }
}

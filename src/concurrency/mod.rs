//! The adaptive concurrency limit: how many calls TF Serving should have in flight, learned from
//! how many it answers and how many it refuses. Pure: time is passed in.
//!
//! A refusal (`Server Threadpool Exhausted`) is not a wall. TF Serving releases a thread a little
//! after its answer, and polls and other clients use threads too, so a call is refused with a
//! probability that rises smoothly with the calls in flight and is not zero even for a single one.
//! A refused call did not run and costs little. The best limit is often one at which some per cent
//! of the calls are refused and sent again.
//!
//! Two mechanisms follow from this:
//!
//! * **The search** ([`search`]) finds the limit with the most answers per second. It compares
//!   windows of time at the present limit with windows at another one, and moves if the other one
//!   is better by more than the noise. The share of refusals is only a bound.
//! * **Withheld permits** ([`withheld`]) react to each refusal at once. They keep its permit back
//!   until some more calls were answered, so that calls are not sent again and again to a server
//!   whose threads are busy, and so that the search need not hurry.
//!
//! Latency is not used as a signal: it depends far more on the model and the size of the request
//! than on the load.
//!
//! If requests wait and no answer comes for much longer than usual, slow calls hold every permit.
//! Then the limit is raised, so that the requests TF Serving could run now do not wait for the slow
//! ones.
//!
//! While nothing waits the limit constrains nobody and there is nothing to learn, so it need not be
//! told about those calls.
mod search;
#[cfg(test)]
mod tests;
mod window;
mod withheld;

use search::Search;
use window::{Measure, Pace, Window};
use withheld::Withheld;

/// Microseconds of a monotonic clock.
pub(crate) type Micros = u64;

/// The initial limit. TF Serving runs four threads per core by default, on a machine whose size is
/// not known here.
pub(crate) const START: usize = 16;

/// Slow calls hold every permit if requests wait and nothing was answered for so long, and for so
/// many times the usual interval.
pub(crate) const STUCK: Micros = 250_000;
const STUCK_INTERVALS: u64 = 32;
/// After a refusal, so many answers are looked at even if nothing waits.
const ATTENTION: u32 = 64;
/// A limit at which calls were refused is not raised without an answer for so long.
const STUCK_AFTER_REFUSAL: Micros = 5_000_000;

/// The limit: adaptive or fixed.
#[derive(Debug)]
pub(crate) struct AdaptiveLimit {
    search: Search,
    withheld: Withheld,
    fixed: bool,
    window: Window,
    pace: Pace,
    /// When a call was last answered while requests waited, or when the wait began.
    progress: Micros,
    last_refusal: Option<Micros>,
    /// Requests wait.
    waiting: bool,
    /// So many more answers are to be reported even if nothing waits.
    attention: u32,
    /// Answers are reported.
    reported: bool,
}

impl AdaptiveLimit {
    /// Adapts between 1 and `max`.
    pub(crate) fn adaptive(max: usize) -> Self {
        let max = max.max(1);
        Self::new(START.min(max), max, false)
    }

    /// Stays at `limit`.
    pub(crate) fn fixed(limit: usize) -> Self {
        Self::new(limit.max(1), limit.max(1), true)
    }

    /// Changes the highest limit, unless the limit is fixed.
    pub(crate) fn set_max(&mut self, max: usize) {
        if !self.fixed {
            self.search.set_max(max.max(1));
        }
    }

    fn new(limit: usize, max: usize, fixed: bool) -> Self {
        Self {
            search: Search::new(limit, max),
            withheld: Withheld::default(),
            fixed,
            window: Window::after(limit),
            pace: Pace::default(),
            progress: 0,
            last_refusal: None,
            waiting: false,
            attention: 0,
            reported: false,
        }
    }

    /// Whether answers are to be reported even if nothing waits: a higher limit is being tried, or
    /// calls were refused lately, so the limit may be too high although it makes nobody wait.
    pub(crate) fn is_attentive(&self) -> bool {
        self.attention > 0 || (!self.fixed && self.search.tries_more())
    }

    /// How many calls may be in flight now: the limit less the permits that are withheld.
    pub(crate) fn available(&self) -> usize {
        self.limit().saturating_sub(self.withheld.count())
    }

    pub(crate) fn limit(&self) -> usize {
        self.search.limit()
    }

    /// How long a request with `ahead` others before it will wait; `None` when too little is known.
    pub(crate) fn estimated_wait(&self, ahead: usize) -> Option<Micros> {
        self.pace.per_request().map(|interval| interval * (ahead as Micros + 1))
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// A request waits and none did before.
    pub(crate) fn queue_filled(&mut self, now: Micros) {
        self.withheld.expire(now);
        self.waiting = true;
        self.update(now);
    }

    /// Nothing waits any more.
    pub(crate) fn queue_emptied(&mut self, now: Micros) {
        self.waiting = false;
        self.update(now);
    }

    /// A call was answered while requests waited or the limit was attentive; so many requests
    /// shared it.
    pub(crate) fn answered(&mut self, requests: u32, now: Micros) {
        self.pace.answered(requests, now);
        self.withheld.answered(now);
        self.progress = now;
        if let Some(measure) = self.window.answered(requests, self.search.limit(), now) {
            self.judge(measure);
        }
        self.attention = self.attention.saturating_sub(1);
        self.update(now);
    }

    /// The server refused a call before running it, because it had too many. Returns until when its
    /// permit is withheld at the latest, if it is.
    pub(crate) fn refused(&mut self, now: Micros) -> Option<Micros> {
        self.last_refusal = Some(now);
        self.attention = ATTENTION;
        self.update(now);
        let until = self.withheld.refused(self.limit(), self.pace.per_request().unwrap_or(0), now);
        if let Some(measure) = self.window.refused(now) {
            self.judge(measure);
        }
        until
    }

    /// Answers begin or cease to be reported.
    fn update(&mut self, now: Micros) {
        let reported = self.waiting || self.is_attentive();
        if reported && !self.reported {
            self.progress = now;
            let idle = self.pace.queue_filled(now);
            self.window.idle(idle);
        } else if !reported && self.reported {
            self.pace.queue_emptied(now);
        }
        self.reported = reported;
    }

    /// Gives back the permits that were withheld long enough.
    pub(crate) fn expire(&mut self, now: Micros) {
        self.withheld.expire(now);
    }

    /// Raises the limit if slow calls hold every permit. To be called about every [`STUCK`] while
    /// requests wait.
    pub(crate) fn raise_if_stuck(&mut self, now: Micros) {
        self.withheld.expire(now);
        let usual = self.estimated_wait(0).unwrap_or(0);
        if self.fixed
            || now.saturating_sub(self.progress) < STUCK.max(STUCK_INTERVALS * usual)
            || self.last_refusal.is_some_and(|last| now.saturating_sub(last) < STUCK_AFTER_REFUSAL)
        {
            return;
        }
        self.progress = now;
        self.search.raise();
        self.window = Window::after(self.search.limit());
    }

    /// A window has ended.
    fn judge(&mut self, measure: Measure) {
        if self.fixed {
            return;
        }
        let before = self.search.limit();
        self.search.judge(measure);
        if self.search.limit() != before {
            self.withheld.lowered(before.saturating_sub(self.search.limit()));
            self.window = Window::after(self.search.limit());
        }
    }
}

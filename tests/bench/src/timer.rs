//! Timers with microsecond resolution; tokio's have milliseconds.
use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

pub struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    #[expect(
        deprecated,
        reason = "its successor is unsafe; the descriptor is owned here and never taken out"
    )]
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self(AsyncFd::new(timerfd_create(TimerfdClockId::Monotonic, flags)?)?))
    }

    /// Returns immediately if `at` has passed.
    pub async fn until(&self, at: Instant) -> io::Result<()> {
        if at <= Instant::now() {
            return Ok(());
        }
        self.set(at)?;
        self.expired().await
    }

    /// Replaces the time at which the timer expires. A time that has passed expires at once.
    fn set(&self, at: Instant) -> io::Result<()> {
        // Zero would switch the timer off.
        let wait = at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let once = Itimerspec {
            it_interval: zero,
            it_value: Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() },
        };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }

    async fn expired(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            match rustix::io::read(self.0.get_ref(), &mut [0u8; 8]) {
                Ok(_) => {
                    ready.clear_ready();
                    return Ok(());
                }
                // The timer was set again after it had expired.
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// One timer for many waits, so that a wait costs no system calls of its own under load.
pub struct Clock {
    timer: Timer,
    waiting: RefCell<BTreeMap<(Instant, u64), oneshot::Sender<()>>>,
    last: Cell<u64>,
}

impl Clock {
    /// Must be called inside a `LocalSet`.
    pub fn start() -> io::Result<Rc<Self>> {
        let clock =
            Rc::new(Self { timer: Timer::new()?, waiting: RefCell::default(), last: Cell::default() });
        let driver = clock.clone();
        tokio::task::spawn_local(async move {
            while driver.timer.expired().await.is_ok() && driver.fire().is_ok() {}
        });
        Ok(clock)
    }

    pub async fn until(&self, at: Instant) -> io::Result<()> {
        if at <= Instant::now() {
            return Ok(());
        }
        let (fire, fired) = oneshot::channel();
        self.last.set(self.last.get() + 1);
        let first = {
            let mut waiting = self.waiting.borrow_mut();
            waiting.insert((at, self.last.get()), fire);
            waiting.first_key_value().is_some_and(|((_, number), _)| *number == self.last.get())
        };
        if first {
            self.timer.set(at)?;
        }
        fired.await.map_err(|_| io::Error::other("the clock has stopped"))
    }

    fn fire(&self) -> io::Result<()> {
        let mut waiting = self.waiting.borrow_mut();
        let now = Instant::now();
        while let Some(entry) = waiting.first_entry() {
            if entry.key().0 > now {
                return self.timer.set(entry.key().0);
            }
            // A wait that was given up needs no signal.
            let _ = entry.remove().send(());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::on_this_thread;

    #[test]
    fn waits_end_in_the_order_of_their_times() {
        let (order, early) = on_this_thread(async {
            let clock = Clock::start().unwrap();
            let start = Instant::now();
            let (order, early) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(false)));
            let lanes: Vec<_> = [3000, 1000, 2000, 0]
                .into_iter()
                .map(|us| {
                    let (clock, order, early) = (clock.clone(), order.clone(), early.clone());
                    tokio::task::spawn_local(async move {
                        let at = start + Duration::from_micros(us);
                        clock.until(at).await.unwrap();
                        order.borrow_mut().push(us);
                        early.set(early.get() || Instant::now() < at);
                    })
                })
                .collect();
            for lane in lanes {
                lane.await.unwrap();
            }
            (order.take(), early.get())
        })
        .unwrap();
        assert_eq!((order, early), (vec![0, 1000, 2000, 3000], false));
    }
}

//! The queue's order and bounds, cancelled waiters, and permits that go to other threads.
mod fairness;

use std::collections::VecDeque;

use super::*;
use crate::config::Config;

fn limiter(limit: usize, queued: usize) -> Arc<Limiter> {
    let limits = Limits { max_queued_requests: queued, ..Config::default().limits };
    Limiter::new(UpstreamConcurrency::Fixed(limit), &limits).unwrap()
}

/// The clock of these tests is paused and moves on when nothing else happens, so a permit that
/// never comes fails at once.
async fn granted(waiter: Waiter) -> Permit {
    let outcome = tokio::time::timeout(Duration::from_secs(60), waiter.outcome()).await;
    outcome.expect("a permit in time").unwrap().into_permit().expect("the queue is not full")
}

/// Calls in flight and requests in the queue.
fn seen(shard: &ShardHandle) -> (usize, usize) {
    let Occupancy { inflight, queued, .. } = shard.limiter.occupancy();
    (inflight, queued)
}

#[tokio::test(start_paused = true)]
async fn waiters_are_granted_permits_in_order() {
    let (shard, _receiver) = limiter(1, 10).shard_handle();
    let first = shard.take().unwrap();
    assert!(shard.take().is_none());
    let second = shard.wait(Source::default(), None, Order::Back).unwrap();
    let third = shard.wait(Source::default(), None, Order::Back).unwrap();
    let again = shard.wait(Source::default(), None, Order::Front).unwrap();
    assert_eq!(seen(&shard), (1, 3));
    first.answered();
    let again = granted(again).await;
    assert!(shard.take().is_none(), "a new request does not overtake waiters");
    drop(again);
    drop(granted(second).await);
    granted(third).await.answered();
    assert_eq!(seen(&shard), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_waiter_leaves_the_queue() {
    let (shard, _receiver) = limiter(1, 10).shard_handle();
    let first = shard.take().unwrap();
    let waiters: Vec<Waiter> =
        (0..3).map(|_| shard.wait(Source::default(), None, Order::Back).unwrap()).collect();
    let mut waiters = waiters.into_iter();
    let last = waiters.next_back().unwrap();
    drop(waiters);
    assert_eq!(seen(&shard), (1, 1));
    first.answered();
    // The permit is in its channel and is released with it.
    assert_eq!(seen(&shard), (1, 0));
    drop(last);
    assert_eq!(seen(&shard), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded() {
    let (shard, _receiver) = limiter(1, 2).shard_handle();
    let _first = shard.take().unwrap();
    let _waiters: Vec<Waiter> =
        (0..2).map(|_| shard.wait(Source::default(), None, Order::Back).unwrap()).collect();
    assert!(matches!(
        shard.wait(Source::default(), None, Order::Back),
        Err(Fault::QueueLong { waiting: 2, limit: 2, .. })
    ));
    assert!(shard.check(0, || true, None).is_err());
    assert!(
        shard.wait(Source::default(), None, Order::Front).is_ok(),
        "a request that was admitted once is not turned away"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_that_would_wait_past_its_deadline_is_refused_at_once() {
    let (shard, _receiver) = limiter(1, 100).shard_handle();
    let mut held = shard.take().unwrap();
    let mut waiters: VecDeque<Waiter> =
        (0..20).map(|_| shard.wait(Source::default(), None, Order::Back).unwrap()).collect();
    for _ in 0..10 {
        tokio::time::advance(Duration::from_millis(100)).await;
        held.answered();
        held = granted(waiters.pop_front().unwrap()).await;
    }
    let within = |millis| Some(Instant::now() + Duration::from_millis(millis));
    let fault = shard.check(0, || true, within(1_000)).unwrap_err();
    assert!(
        matches!(fault, Fault::TooLate { waiting: 10, wait, .. } if wait == Duration::from_millis(1_100)),
        "{fault:?}"
    );
    assert!(shard.check(0, || true, within(1_200)).is_ok());
    assert!(shard.check(0, || true, None).is_ok());
    assert!(shard.wait(Source::default(), within(50), Order::Back).is_err());
    // What was slow then may be fast now.
    waiters.truncate(1);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(shard.wait(Source::default(), within(50), Order::Back).is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_wait_is_estimated_and_the_queue_is_bounded_by_client() {
    let (shard, _receiver) = limiter(1, 20).shard_handle();
    let [greedy, polite] = [1, 2].map(|peer| Source { model: "m", peer });
    let wait = |source, deadline| shard.wait(source, deadline, Order::Back);
    let mut held = shard.take().unwrap();
    let mut waiters: VecDeque<Waiter> = (0..20).map(|_| wait(greedy, None).unwrap()).collect();
    for _ in 0..10 {
        tokio::time::advance(Duration::from_millis(100)).await;
        held.answered();
        held = granted(waiters.pop_front().unwrap()).await;
        waiters.push_back(wait(greedy, None).unwrap());
    }
    let soon = Some(Instant::now() + Duration::from_millis(300));
    assert!(matches!(wait(greedy, soon), Err(Fault::TooLate { waiting: 20, .. })));
    assert!(shard.check(1, || true, None).is_err(), "the queue is full");
    assert!(shard.check(2, || true, soon).is_ok());
    assert!(shard.check(1, || false, soon).is_ok(), "it may be for another model");
    let polite = wait(polite, soon).unwrap();
    assert_eq!(seen(&shard), (1, 20));
    let displaced = tokio::time::timeout(Duration::from_secs(1), waiters.pop_back().unwrap().outcome());
    assert!(matches!(displaced.await.unwrap(), Some(Outcome::Displaced { waiting: 20, .. })));
    held.answered();
    drop(waiters);
    granted(polite).await.answered();
}

#[tokio::test(start_paused = true)]
async fn a_withheld_permit_is_given_back_in_time() {
    let (shard, _receiver) = limiter(1, 10).shard_handle();
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let Some(until) = shard.take().unwrap().refused() else { continue };
        pauses.push(until - Instant::now());
        assert!(shard.take().is_none(), "the only permit is withheld");
        let waits = shard.wait(Source::default(), None, Order::Front).unwrap();
        tokio::time::sleep_until(until).await;
        shard.resume();
        drop(granted(waits).await);
    }
    assert!(pauses.len() >= 6 && pauses.is_sorted() && pauses[0] <= Duration::from_millis(2), "{pauses:?}");
    assert!(*pauses.last().unwrap() <= Duration::from_millis(64), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_permit_goes_to_the_thread_of_the_first_waiter() {
    let limiter = limiter(1, 10);
    let ((here, _mine), (there, theirs)) = (limiter.shard_handle(), limiter.shard_handle());
    let first = here.take().unwrap();
    let waits = there.wait(Source::default(), None, Order::Back).unwrap();
    first.answered();
    // On its way, the permit is neither lost nor free.
    assert_eq!(seen(&here), (1, 0));
    assert!(here.take().is_none());
    tokio::spawn(theirs.deliver());
    granted(waits).await.answered();
    assert_eq!(seen(&here), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_permit_for_a_thread_that_has_ended_goes_to_the_next_waiter() {
    let limiter = limiter(1, 10);
    let ((here, _mine), (there, theirs)) = (limiter.shard_handle(), limiter.shard_handle());
    let first = here.take().unwrap();
    let (_lost, after) = (
        there.wait(Source::default(), None, Order::Back).unwrap(),
        here.wait(Source::default(), None, Order::Back).unwrap(),
    );
    drop(theirs);
    first.answered();
    granted(after).await.answered();
    assert_eq!(seen(&here), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn slow_calls_that_hold_every_permit_do_not_block_the_rest() {
    let limiter = Limiter::new(UpstreamConcurrency::Auto, &Config::default().limits).unwrap();
    let (shard, receiver) = limiter.shard_handle();
    tokio::spawn(receiver.deliver());
    tokio::spawn(Arc::clone(&limiter).watch());
    let slow: Vec<Permit> = std::iter::from_fn(|| shard.take()).collect();
    assert_eq!(slow.len(), crate::concurrency::START);
    granted(shard.wait(Source::default(), None, Order::Back).unwrap()).await.answered();
    assert!(limiter.occupancy().limit > slow.len());
}

#[test]
fn no_permit_is_lost_or_invented_across_threads() {
    let limiter = limiter(3, 1 << 20);
    let peak = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let (limiter, peak) = (Arc::clone(&limiter), Arc::clone(&peak));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                runtime.block_on(async {
                    let (shard, receiver) = limiter.shard_handle();
                    tokio::spawn(receiver.deliver());
                    let mut left: Vec<Waiter> = Vec::new();
                    for round in 0..5_000 {
                        let permit = match shard.take() {
                            Some(permit) => permit,
                            None if round % 7 == thread => {
                                left.push(shard.wait(Source::default(), None, Order::Back).unwrap());
                                left.truncate(round % 3);
                                continue;
                            }
                            None => {
                                left.clear();
                                granted(shard.wait(Source::default(), None, Order::Back).unwrap()).await
                            }
                        };
                        peak.fetch_max(limiter.occupancy().inflight, SeqCst);
                        if round % 50 == 0 {
                            permit.refused();
                        } else {
                            permit.answered();
                        }
                    }
                });
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!((limiter.occupancy().inflight, limiter.occupancy().queued), (0, 0));
    assert!(peak.load(SeqCst) <= 3);
}

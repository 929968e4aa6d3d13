//! The queue: order, bounds, who leaves, and threads that hand limiter to each other.
use super::*;
use crate::config::Config;

fn limiter(limit: usize, queued: usize) -> Arc<Limiter> {
    let limits = Limits { max_queued_requests: queued, ..Config::default().limits };
    Limiter::new(UpstreamConcurrency::Fixed(limit), &limits).unwrap()
}

/// The clock of these tests moves when nothing else does: what never comes fails at once.
async fn granted(waiter: Waiter) -> Permit {
    tokio::time::timeout(Duration::from_secs(60), waiter.granted()).await.expect("a permit in time").unwrap()
}

fn seen(shard: &ShardHandle) -> (usize, usize) {
    let limiter = &shard.limiter;
    (limiter.occupancy().inflight, limiter.occupancy().queued)
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_served_in_order() {
    let (shard, _inbox) = limiter(1, 10).shard_handle();
    let first = shard.take().unwrap();
    assert!(shard.take().is_none());
    let second = shard.wait(None, Order::Back).unwrap();
    let third = shard.wait(None, Order::Back).unwrap();
    let again = shard.wait(None, Order::Front).unwrap();
    assert_eq!(seen(&shard), (1, 3));
    first.answered();
    let again = granted(again).await;
    assert!(shard.take().is_none(), "nobody overtakes those who wait");
    drop(again);
    drop(granted(second).await);
    granted(third).await.answered();
    assert_eq!(seen(&shard), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_is_out_of_the_queue() {
    let (shard, _inbox) = limiter(1, 10).shard_handle();
    let first = shard.take().unwrap();
    let waiters: Vec<Waiter> = (0..3).map(|_| shard.wait(None, Order::Back).unwrap()).collect();
    let mut waiters = waiters.into_iter();
    let last = waiters.next_back().unwrap();
    drop(waiters);
    assert_eq!(seen(&shard), (1, 1));
    first.answered();
    // Its permit is in the channel: dropped there, it comes back.
    assert_eq!(seen(&shard), (1, 0));
    drop(last);
    assert_eq!(seen(&shard), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_queue_has_a_bound() {
    let (shard, _inbox) = limiter(1, 2).shard_handle();
    let _first = shard.take().unwrap();
    let _turns: Vec<Waiter> = (0..2).map(|_| shard.wait(None, Order::Back).unwrap()).collect();
    assert!(matches!(shard.wait(None, Order::Back), Err(Fault::QueueLong { waiting: 2, limit: 2, .. })));
    assert!(shard.check(None).is_err());
    assert!(shard.wait(None, Order::Front).is_ok(), "what was admitted once is not turned away");
}

#[tokio::test(start_paused = true)]
async fn who_would_wait_in_vain_is_turned_away_at_once() {
    let (shard, _inbox) = limiter(1, 100).shard_handle();
    let mut held = shard.take().unwrap();
    let mut waiters: VecDeque<Waiter> = (0..20).map(|_| shard.wait(None, Order::Back).unwrap()).collect();
    for _ in 0..10 {
        tokio::time::advance(Duration::from_millis(100)).await;
        held.answered();
        held = granted(waiters.pop_front().unwrap()).await;
    }
    let within = |millis| Some(Instant::now() + Duration::from_millis(millis));
    let fault = shard.check(within(1_000)).unwrap_err();
    assert!(
        matches!(fault, Fault::TooLate { waiting: 10, wait, .. } if wait == Duration::from_millis(1_100)),
        "{fault:?}"
    );
    assert!(shard.check(within(1_200)).is_ok());
    assert!(shard.check(None).is_ok());
    assert!(shard.wait(within(50), Order::Back).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_place_crosses_to_the_thread_of_who_waits_longest() {
    let limiter = limiter(1, 10);
    let ((here, _mine), (there, theirs)) = (limiter.shard_handle(), limiter.shard_handle());
    let first = here.take().unwrap();
    let waits = there.wait(None, Order::Back).unwrap();
    first.answered();
    // On its way: neither lost nor free.
    assert_eq!(seen(&here), (1, 0));
    assert!(here.take().is_none());
    tokio::spawn(theirs.deliver());
    granted(waits).await.answered();
    assert_eq!(seen(&here), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_place_for_a_thread_that_has_ended_goes_to_the_next() {
    let limiter = limiter(1, 10);
    let ((here, _mine), (there, theirs)) = (limiter.shard_handle(), limiter.shard_handle());
    let first = here.take().unwrap();
    let (_gone, after) = (there.wait(None, Order::Back).unwrap(), here.wait(None, Order::Back).unwrap());
    drop(theirs);
    first.answered();
    granted(after).await.answered();
    assert_eq!(seen(&here), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn slow_requests_that_hold_every_place_do_not_hold_up_the_rest() {
    let limiter = Limiter::new(UpstreamConcurrency::Auto, &Config::default().limits).unwrap();
    let (shard, inbox) = limiter.shard_handle();
    tokio::spawn(inbox.deliver());
    tokio::spawn(Arc::clone(&limiter).watch());
    let slow: Vec<Permit> = std::iter::from_fn(|| shard.take()).collect();
    assert_eq!(slow.len(), crate::concurrency::START);
    granted(shard.wait(None, Order::Back).unwrap()).await.answered();
    assert!(limiter.occupancy().limit > slow.len());
}

#[test]
fn threads_lose_and_invent_no_place() {
    let limiter = limiter(3, 1 << 20);
    let most = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let (limiter, most) = (Arc::clone(&limiter), Arc::clone(&most));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(async {
                    let (shard, inbox) = limiter.shard_handle();
                    tokio::spawn(inbox.deliver());
                    let mut left: Vec<Waiter> = Vec::new();
                    for round in 0..5_000 {
                        let permit = match shard.take() {
                            Some(permit) => permit,
                            None if round % 7 == thread => {
                                left.push(shard.wait(None, Order::Back).unwrap());
                                left.truncate(round % 3);
                                continue;
                            }
                            None => {
                                left.clear();
                                shard.wait(None, Order::Back).unwrap().granted().await.unwrap()
                            }
                        };
                        most.fetch_max(limiter.occupancy().inflight, SeqCst);
                        if round % 5 == 0 { permit.refused() } else { permit.answered() }
                    }
                });
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!((limiter.occupancy().inflight, limiter.occupancy().queued), (0, 0));
    assert!(most.load(SeqCst) <= 3);
}

//! The queue: order, bounds, who leaves, and threads that hand places to each other.
use super::*;
use crate::config::Config;

fn places(limit: usize, queued: usize) -> Arc<Places> {
    let limits = Limits { max_queued_requests: queued, ..Config::default().limits };
    Places::new(UpstreamConcurrency::Fixed(limit), &limits).unwrap()
}

/// The clock of these tests moves when nothing else does: what never comes fails at once.
async fn come(turn: Turn) -> Place {
    tokio::time::timeout(Duration::from_secs(60), turn.come()).await.expect("a place in time").unwrap()
}

fn seen(desk: &Desk) -> (usize, usize) {
    let places = &desk.places;
    (places.occupancy().inflight, places.occupancy().queued)
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_served_in_order() {
    let (desk, _inbox) = places(1, 10).desk();
    let first = desk.take().unwrap();
    assert!(desk.take().is_none());
    let second = desk.wait(None, Order::Back).unwrap();
    let third = desk.wait(None, Order::Back).unwrap();
    let again = desk.wait(None, Order::Front).unwrap();
    assert_eq!(seen(&desk), (1, 3));
    first.answered();
    let again = come(again).await;
    assert!(desk.take().is_none(), "nobody overtakes those who wait");
    drop(again);
    drop(come(second).await);
    come(third).await.answered();
    assert_eq!(seen(&desk), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_is_out_of_the_queue() {
    let (desk, _inbox) = places(1, 10).desk();
    let first = desk.take().unwrap();
    let turns: Vec<Turn> = (0..3).map(|_| desk.wait(None, Order::Back).unwrap()).collect();
    let mut turns = turns.into_iter();
    let last = turns.next_back().unwrap();
    drop(turns);
    assert_eq!(seen(&desk), (1, 1));
    first.answered();
    // Its place is in the channel: dropped there, it comes back.
    assert_eq!(seen(&desk), (1, 0));
    drop(last);
    assert_eq!(seen(&desk), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_queue_has_a_bound() {
    let (desk, _inbox) = places(1, 2).desk();
    let _first = desk.take().unwrap();
    let _turns: Vec<Turn> = (0..2).map(|_| desk.wait(None, Order::Back).unwrap()).collect();
    assert!(matches!(desk.wait(None, Order::Back), Err(Fault::QueueLong { waiting: 2, limit: 2, .. })));
    assert!(desk.check(None).is_err());
    assert!(desk.wait(None, Order::Front).is_ok(), "what was admitted once is not turned away");
}

#[tokio::test(start_paused = true)]
async fn who_would_wait_in_vain_is_turned_away_at_once() {
    let (desk, _inbox) = places(1, 100).desk();
    let mut held = desk.take().unwrap();
    let mut turns: VecDeque<Turn> = (0..20).map(|_| desk.wait(None, Order::Back).unwrap()).collect();
    for _ in 0..10 {
        tokio::time::advance(Duration::from_millis(100)).await;
        held.answered();
        held = come(turns.pop_front().unwrap()).await;
    }
    let within = |millis| Some(Instant::now() + Duration::from_millis(millis));
    let fault = desk.check(within(1_000)).unwrap_err();
    assert!(
        matches!(fault, Fault::TooLate { waiting: 10, wait, .. } if wait == Duration::from_millis(1_100)),
        "{fault:?}"
    );
    assert!(desk.check(within(1_200)).is_ok());
    assert!(desk.check(None).is_ok());
    assert!(desk.wait(within(50), Order::Back).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_place_crosses_to_the_thread_of_who_waits_longest() {
    let places = places(1, 10);
    let ((here, _mine), (there, theirs)) = (places.desk(), places.desk());
    let first = here.take().unwrap();
    let waits = there.wait(None, Order::Back).unwrap();
    first.answered();
    // On its way: neither lost nor free.
    assert_eq!(seen(&here), (1, 0));
    assert!(here.take().is_none());
    tokio::spawn(theirs.deliver());
    come(waits).await.answered();
    assert_eq!(seen(&here), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_place_for_a_thread_that_has_ended_goes_to_the_next() {
    let places = places(1, 10);
    let ((here, _mine), (there, theirs)) = (places.desk(), places.desk());
    let first = here.take().unwrap();
    let (_gone, after) = (there.wait(None, Order::Back).unwrap(), here.wait(None, Order::Back).unwrap());
    drop(theirs);
    first.answered();
    come(after).await.answered();
    assert_eq!(seen(&here), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn slow_requests_that_hold_every_place_do_not_hold_up_the_rest() {
    let places = Places::new(UpstreamConcurrency::Auto, &Config::default().limits).unwrap();
    let (desk, inbox) = places.desk();
    tokio::spawn(inbox.deliver());
    tokio::spawn(Arc::clone(&places).watch());
    let slow: Vec<Place> = std::iter::from_fn(|| desk.take()).collect();
    assert_eq!(slow.len(), crate::governor::START);
    come(desk.wait(None, Order::Back).unwrap()).await.answered();
    assert!(places.occupancy().limit > slow.len());
}

#[test]
fn threads_lose_and_invent_no_place() {
    let places = places(3, 1 << 20);
    let most = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let (places, most) = (Arc::clone(&places), Arc::clone(&most));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(async {
                    let (desk, inbox) = places.desk();
                    tokio::spawn(inbox.deliver());
                    let mut left: Vec<Turn> = Vec::new();
                    for round in 0..5_000 {
                        let place = match desk.take() {
                            Some(place) => place,
                            None if round % 7 == thread => {
                                left.push(desk.wait(None, Order::Back).unwrap());
                                left.truncate(round % 3);
                                continue;
                            }
                            None => {
                                left.clear();
                                desk.wait(None, Order::Back).unwrap().come().await.unwrap()
                            }
                        };
                        most.fetch_max(places.occupancy().inflight, SeqCst);
                        if round % 5 == 0 { place.refused() } else { place.answered() }
                    }
                });
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!((places.occupancy().inflight, places.occupancy().queued), (0, 0));
    assert!(most.load(SeqCst) <= 3);
}

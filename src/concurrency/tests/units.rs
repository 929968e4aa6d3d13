//! The limit's rules one by one.
use super::*;

#[test]
fn a_few_clients_never_wait_and_leave_the_limit_as_it_is() {
    let server = Cores::new(64, 64, 2_000, false);
    let mut world = World::new(Box::new(server), AdaptiveLimit::adaptive(1024), START, 1);
    let seen = world.run(10 * SECOND);
    assert_eq!((world.limit.limit(), seen.refused), (START, 0));
    assert!(seen.waited < 2_500, "{seen:?}");
}

#[test]
fn a_fixed_limit_never_changes() {
    let mut world = World::new(Box::new(Cores::new(8, 8, 2_000, false)), AdaptiveLimit::fixed(20), 64, 1);
    assert!(world.run(SECOND).refused > 0);
    assert_eq!(world.limit.limit(), 20);
}

#[test]
fn a_server_that_never_refuses_is_not_filled_for_nothing() {
    for service in [1_000, 10_000] {
        let server = Cores::new(8, usize::MAX, service, false);
        let mut world = World::new(Box::new(server), AdaptiveLimit::adaptive(1024), 256, 1);
        world.run(300 * SECOND);
        assert!((8..=24).contains(&world.limit.limit()), "{service}: {}", world.limit.limit());
    }
}

#[test]
fn the_estimated_wait_grows_with_the_queue() {
    let mut limit = AdaptiveLimit::fixed(1);
    limit.queue_filled(0);
    assert_eq!(limit.estimated_wait(3), None);
    for answer in 1..100 {
        limit.answered(1, answer * 1_000);
    }
    assert_eq!(limit.estimated_wait(0), Some(1_000));
    assert_eq!(limit.estimated_wait(9), Some(10_000));
}

#[test]
fn the_limit_rises_when_slow_calls_hold_every_permit() {
    let mut limit = AdaptiveLimit::adaptive(100);
    limit.queue_filled(0);
    for answer in 1..30 {
        limit.answered(1, answer * 20_000);
    }
    let (before, last) = (limit.limit(), 29 * 20_000);
    for later in [STUCK, 2 * STUCK] {
        limit.raise_if_stuck(last + later);
    }
    assert_eq!(limit.limit(), before, "such intervals are usual here");
    limit.raise_if_stuck(last + 3 * STUCK);
    assert!(limit.limit() > before);
    for round in 0..20 {
        limit.raise_if_stuck(last + (round + 1) * SECOND);
    }
    assert_eq!(limit.limit(), 100);
    let mut refusing = AdaptiveLimit::adaptive(100);
    refusing.queue_filled(0);
    refusing.refused(SECOND);
    refusing.raise_if_stuck(2 * SECOND);
    assert_eq!(refusing.limit(), START, "a refusal has precedence");
}

#[test]
fn refusals_that_follow_each_other_withhold_permits() {
    let mut limit = AdaptiveLimit::fixed(8);
    limit.queue_filled(0);
    for _ in 0..9 {
        limit.answered(1, 0);
    }
    assert_eq!(limit.refused(1_000), None, "a single one is chance");
    assert_eq!(limit.available(), 8);
    let until = limit.refused(1_000).unwrap();
    assert_eq!((until, limit.available()), (2_000, 7));
    assert_eq!(limit.refused(1_000), Some(3_000));
    assert_eq!(limit.available(), 6);
    limit.answered(1, 1_500);
    assert_eq!(limit.available(), 7, "one was withheld for one answer");
    limit.expire(3_000);
    assert_eq!(limit.available(), 8);
}

proptest::proptest! {
    #[test]
    fn any_order_of_events_keeps_the_limit_within_its_bounds(
        max in 1_usize..100,
        steps in proptest::collection::vec((0_u8..6, 1_u32..5, 0_u64..100_000), 0..600),
    ) {
        let mut limit = AdaptiveLimit::adaptive(max);
        let mut now = 0;
        for (what, requests, later) in steps {
            now += later;
            match what {
                0 => limit.queue_filled(now),
                1 => limit.queue_emptied(now),
                2 => {
                    limit.refused(now);
                }
                3 => limit.raise_if_stuck(now),
                _ => limit.answered(requests, now),
            }
            proptest::prop_assert!((1..=max).contains(&limit.limit()));
            proptest::prop_assert!(limit.available() <= limit.limit());
        }
        limit.expire(now + 1_000_001);
        proptest::prop_assert_eq!(limit.available(), limit.limit(), "no permit is withheld for long");
    }
}

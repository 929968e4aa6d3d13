//! When a run starts, and which deadlines it can meet.
use std::time::Duration;

use super::super::queue::{Cause, Entry, Queue, Refusal, Request, RunId};
use super::super::settings::Settings;
use super::super::tuner::{Learned, Wait};
use super::{payloads, push, queue, request, settings, start};
use crate::concurrency::Micros;

/// Runs take this long in these tests.
const RUN: Micros = 10_000;

/// A queue that has learned the time of a run.
fn taught(settings: &Settings) -> (Queue<u64>, Micros) {
    let (mut queue, mut now) = (queue(settings), 0);
    for number in 0..200 {
        push(&mut queue, 1, request(1, number), now);
        while let Some(due) = queue.due().filter(|due| *due > now) {
            now = due;
        }
        let (run, _) = start(&mut queue, now).unwrap();
        now += RUN;
        queue.finish(run, true, now);
        now += 100;
    }
    (queue, now)
}

/// A queue that lingers and has learned the time of a run. A run of eight rows is in flight, and
/// one request waits.
fn lingering(waits: Request<u64>) -> (Queue<u64>, RunId, Micros) {
    let mut queue = Queue::new(&settings(64), &Learned::fixed(1, 64, Wait::Linger));
    let mut now = 0;
    for rows in [1, 8] {
        for _ in 0..20 {
            let run = queue.start_alone(rows, now).unwrap();
            now += RUN;
            queue.finish(run, true, now);
        }
    }
    let run = queue.start_alone(8, now).unwrap();
    push(&mut queue, 1, waits, now);
    assert!(queue.start(now).is_none());
    (queue, run, now + RUN)
}

fn with_deadline(payload: u64, deadline: Micros) -> Request<u64> {
    Request { deadline: Some(deadline), ..request(1, payload) }
}

#[test]
fn a_lone_request_starts_at_once() {
    let mut queue = queue(&settings(64));
    for number in 0..10 {
        let run = queue.start_alone(1, number * 10).unwrap();
        queue.finish(run, true, number * 10 + 5);
    }
    push(&mut queue, 1, request(1, 0), 200);
    let (run, formed) = start(&mut queue, 200).unwrap();
    assert_eq!(formed.cause, Cause::Idle);
    push(&mut queue, 1, request(1, 1), 201);
    assert!(queue.start(201).is_none());
    queue.finish(run, true, 300);
    assert_eq!(start(&mut queue, 300).unwrap().1.cause, Cause::Returned);
    assert_eq!(queue.due(), None);
}

#[test]
fn a_request_that_cannot_wait_for_the_next_run_leaves_alone() {
    let (mut queue, now) = taught(&settings(64));
    let alone = queue.start_alone(1, now).unwrap();
    push(&mut queue, 1, with_deadline(0, now + 3 * RUN), now);
    let Entry::Alone(run, 1) = queue.push(1, with_deadline(1, now + RUN + RUN / 2), now) else {
        panic!("it leaves alone")
    };
    let late = queue.push(1, with_deadline(2, now + RUN / 4), now);
    assert!(matches!(late, Entry::Refused(Refusal::TooLate { .. }, 2)), "{late:?}");
    queue.finish(alone, true, now + RUN);
    queue.finish(run, true, now + RUN);
    assert_eq!(payloads(&start(&mut queue, now + RUN).unwrap().1), [0]);
}

#[test]
fn no_more_requests_leave_alone_than_the_server_has_room_for() {
    let (mut queue, now) = taught(&settings(64));
    queue.start_alone(1, now).unwrap();
    let entries = (0..100).map(|number| queue.push(1, with_deadline(number, now + RUN + RUN / 2), now));
    let alone = entries.filter(|entry| matches!(entry, Entry::Alone(..))).count();
    assert!((1..=8).contains(&alone), "{alone}");
}

#[test]
fn a_request_whose_deadline_passes_meanwhile_is_not_computed() {
    let (mut queue, now) = taught(&settings(64));
    let alone = queue.start_alone(1, now).unwrap();
    push(&mut queue, 1, with_deadline(0, now + 3 * RUN), now);
    push(&mut queue, 1, request(1, 1), now);
    queue.finish(alone, true, now + 4 * RUN);
    let (_, formed) = start(&mut queue, now + 4 * RUN).unwrap();
    assert_eq!(payloads(&formed), [1]);
    assert_eq!(formed.late.iter().map(|(late, _)| late.payload).collect::<Vec<_>>(), [0]);
}

#[test]
fn a_run_whose_members_are_all_late_ends() {
    let (mut queue, now) = taught(&settings(64));
    let alone = queue.start_alone(1, now).unwrap();
    push(&mut queue, 1, with_deadline(0, now + 3 * RUN), now);
    queue.finish(alone, true, now + 4 * RUN);
    let (_, formed) = start(&mut queue, now + 4 * RUN).unwrap();
    assert_eq!((formed.members.len(), formed.late.len()), (0, 1));
    assert!(queue.start_alone(1, now + 4 * RUN).is_some());
}

#[test]
fn a_delay_holds_requests_until_it_is_over_or_the_run_is_full() {
    let delay = Duration::from_micros(500);
    let mut queue = queue(&Settings { max_delay: delay, ..settings(4) });
    assert!(queue.start_alone(1, 0).is_none());
    push(&mut queue, 1, request(1, 0), 0);
    assert!(queue.start(0).is_none());
    push(&mut queue, 1, request(1, 1), 100);
    assert_eq!(queue.due(), Some(500));
    assert!(queue.start(499).is_none());
    let (run, formed) = start(&mut queue, 500).unwrap();
    assert_eq!((formed.cause, payloads(&formed)), (Cause::Delay, vec![0, 1]));
    queue.finish(run, true, 600);
    for number in 0..4 {
        push(&mut queue, 1, request(1, number), 700);
    }
    let (_, formed) = start(&mut queue, 700).unwrap();
    assert_eq!((formed.cause, formed.rows), (Cause::Full, 4));
    assert_eq!(queue.due(), None);
}

#[test]
fn a_deadline_comes_before_the_delay() {
    let delay = Duration::from_micros(8 * RUN);
    let (mut queue, now) = taught(&Settings { max_delay: delay, ..settings(64) });
    push(&mut queue, 1, with_deadline(0, now + 4 * RUN), now);
    let due = queue.due().unwrap();
    assert!(due < now + 3 * RUN + RUN / 2, "{}", due - now);
    let (_, formed) = start(&mut queue, due).unwrap();
    assert_eq!(formed.cause, Cause::Deadline);
}

#[test]
fn a_draining_queue_holds_nothing() {
    let mut queue = queue(&Settings { max_delay: Duration::from_secs(1), ..settings(8) });
    for number in 0..100 {
        push(&mut queue, u128::from(number % 3), request(number, number), 0);
    }
    while start(&mut queue, 0).is_some() {}
    queue.set_draining(true, 1);
    let runs: Vec<_> = std::iter::from_fn(|| start(&mut queue, 1)).collect();
    assert!(runs.iter().all(|(_, formed)| formed.cause == Cause::Drain && formed.rows <= 8));
    assert_eq!(queue.rows(), 0);
    push(&mut queue, 1, request(1, 100), 2);
    assert!(start(&mut queue, 2).is_some());
}

#[test]
fn a_request_lingers_for_the_clients_of_the_run_that_came_back() {
    let (mut queue, run, now) = lingering(request(1, 0));
    queue.finish(run, true, now);
    assert!(queue.start(now).is_none());
    assert_eq!(queue.due(), Some(now + RUN / 8));
    for number in 1..=8 {
        assert!(queue.start(now + number).is_none());
        push(&mut queue, 1, request(1, number), now + number);
    }
    let (_, formed) = start(&mut queue, now + 9).unwrap();
    assert_eq!((formed.cause, formed.rows), (Cause::Returned, 9));
    assert_eq!(queue.due(), None);
}

#[test]
fn the_first_client_that_comes_back_waits_for_those_that_shared_its_run() {
    let (mut queue, run, now) = lingering(request(1, 0));
    for number in 1..8 {
        push(&mut queue, 1, request(1, number), now - 1);
    }
    queue.finish(run, true, now);
    let (run, formed) = start(&mut queue, now + RUN / 8).unwrap();
    assert_eq!(formed.members.len(), 8);
    let now = now + RUN / 8 + RUN;
    queue.finish(run, true, now);
    assert!(queue.start_alone(1, now + 1).is_none());
    for number in 0..8 {
        assert!(queue.start(now + 1).is_none());
        push(&mut queue, 1, request(1, number), now + 1);
    }
    let (run, formed) = start(&mut queue, now + 1).unwrap();
    assert_eq!(formed.members.len(), 8);
    // If none comes back, the next one starts at once when the time is over.
    let now = now + 1 + RUN;
    queue.finish(run, true, now);
    assert!(queue.start_alone(1, now + RUN / 8 - 1).is_none());
    let alone = queue.start_alone(8, now + RUN / 8).unwrap();
    // It was alone in its run, whatever its rows, and waits for nobody.
    queue.finish(alone, true, now + 2 * RUN);
    assert!(queue.start_alone(1, now + 2 * RUN).is_some());
}

#[test]
fn a_request_lingers_for_no_longer_than_a_part_of_a_run() {
    let (mut queue, run, now) = lingering(request(1, 0));
    queue.finish(run, true, now);
    assert!(queue.start(now + RUN / 8 - 1).is_none());
    assert_eq!(payloads(&start(&mut queue, now + RUN / 8).unwrap().1), [0]);
}

#[test]
fn a_deadline_ends_the_lingering() {
    let deadline = |left| with_deadline(0, 41 * RUN + left);
    let (mut queue, run, now) = lingering(deadline(RUN + RUN / 16));
    assert_eq!(now, 41 * RUN);
    queue.finish(run, true, now);
    assert!(queue.start(now).is_none());
    assert_eq!(queue.due(), Some(now + RUN / 16));
    let (_, formed) = start(&mut queue, now + RUN / 16).unwrap();
    assert_eq!((payloads(&formed), formed.late.len()), (vec![0], 0));
    let (mut queue, run, now) = lingering(deadline(RUN));
    queue.finish(run, true, now);
    assert_eq!(payloads(&start(&mut queue, now).unwrap().1), [0]);
}

#[test]
fn a_lone_client_a_failed_run_and_a_draining_queue_never_linger() {
    let (mut queue, run, now) = lingering(request(1, 0));
    queue.finish(run, false, now);
    let (run, _) = start(&mut queue, now).unwrap();
    // One client was answered, and another one waits: there is nobody else to wait for.
    push(&mut queue, 1, request(1, 1), now);
    queue.finish(run, true, now + RUN);
    let (run, _) = start(&mut queue, now + RUN).unwrap();
    queue.finish(run, true, now + 2 * RUN);
    let alone = queue.start_alone(8, now + 2 * RUN).unwrap();
    push(&mut queue, 1, request(1, 2), now + 2 * RUN);
    queue.finish(alone, true, now + 3 * RUN);
    assert!(queue.start(now + 3 * RUN).is_none());
    queue.set_draining(true, now + 3 * RUN);
    assert!(queue.start(now + 3 * RUN).is_some());
}

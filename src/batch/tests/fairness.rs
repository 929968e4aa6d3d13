//! Who is served first, and who loses its place.
use super::super::queue::{Entry, Refusal, Request};
use super::super::settings::Settings;
use super::{payloads, push, queue, request, settings, start};

#[test]
fn requests_of_one_key_leave_in_order_of_arrival_when_a_run_comes_back() {
    let mut queue = queue(&settings(64));
    let alone = queue.start_alone(1, 0).unwrap();
    for number in 0..8 {
        assert!(queue.start_alone(1, 1).is_none());
        push(&mut queue, 1, request(number % 3, number), 1);
        assert!(queue.start(1).is_none());
    }
    queue.finish(alone, true, 100);
    let (_, formed) = start(&mut queue, 100).unwrap();
    assert_eq!(payloads(&formed), (0..8).collect::<Vec<_>>());
    assert!(start(&mut queue, 100).is_none());
}

#[test]
fn a_client_with_a_thousand_requests_holds_back_another_by_one_run() {
    for keys in [1, 1000] {
        let mut queue = queue(&settings(16));
        let alone = queue.start_alone(1, 0).unwrap();
        for number in 0..1000 {
            push(&mut queue, u128::from(number % keys), request(7, number), 1);
        }
        queue.finish(alone, true, 100);
        let mut runs: Vec<_> = std::iter::from_fn(|| start(&mut queue, 100)).collect();
        // Its rows are served from the front, whatever their keys.
        assert_eq!(payloads(&runs[0].1)[0], 0);
        let polite = 5_000;
        push(&mut queue, u128::from(keys - 1), request(8, polite), 200);
        let mut later = 0;
        loop {
            let (run, _) = runs.remove(0);
            queue.finish(run, true, 300);
            let new: Vec<_> = std::iter::from_fn(|| start(&mut queue, 300)).collect();
            later += new.len();
            if new.iter().any(|(_, formed)| payloads(formed).contains(&polite)) {
                break;
            }
            assert!(later <= 1, "{keys} keys: {later} runs before it");
            runs.extend(new);
        }
    }
}

/// Permits are granted one at a time, while each request of a client has a key of its own.
#[test]
fn a_client_with_many_keys_does_not_hold_back_another_with_its_own() {
    let mut queue = queue(&settings(16));
    for number in 0..200 {
        push(&mut queue, u128::from(number), request(7, number), 1);
    }
    let mut reserved = std::collections::VecDeque::new();
    let (polite, mut before) = (5_000, 0);
    for turn in 0..200 {
        reserved.extend(std::iter::from_fn(|| queue.start(turn)));
        let (key, run) = reserved.pop_front().unwrap();
        let formed = queue.form(key, run, turn).unwrap();
        queue.finish(run, true, turn);
        if payloads(&formed).contains(&polite) {
            break;
        }
        match turn {
            0..20 => {}
            20 => drop(push(&mut queue, 9_999, request(8, polite), turn)),
            _ => before += 1,
        }
    }
    assert!(before <= 8, "{before} runs before it");
}

#[test]
fn clients_share_the_rows_of_a_run_when_more_wait_than_fit() {
    let mut queue = queue(&settings(8));
    let alone = queue.start_alone(1, 0).unwrap();
    for number in 0..400 {
        push(&mut queue, 1, request(0, number), 1);
    }
    for number in 400..500 {
        push(&mut queue, 1, request(1 + number % 3, number), 1);
    }
    queue.finish(alone, true, 100);
    let mut served = [0; 4];
    for _ in 0..10 {
        let (run, formed) = start(&mut queue, 100).unwrap();
        assert!(formed.rows <= 8);
        assert!(payloads(&formed).is_sorted());
        for member in &formed.members {
            served[member.peer as usize] += 1;
        }
        queue.finish(run, true, 200);
    }
    let (least, most) = (served.iter().min().unwrap(), served.iter().max().unwrap());
    assert!(most - least <= 1, "{served:?}");
}

#[test]
fn the_newest_requests_of_the_longest_backlog_lose_their_places_in_a_full_queue() {
    let settings = Settings { max_queue_rows: 100, ..settings(16) };
    let mut queue = queue(&settings);
    queue.start_alone(1, 0).unwrap();
    for number in 0..100 {
        push(&mut queue, 1, request(7, number), 1);
    }
    let Entry::Refused(Refusal::Full { rows: 100, .. }, 100) = queue.push(1, request(7, 100), 2) else {
        panic!("the greedy client is refused")
    };
    let polite = Request { rows: 3, ..request(8, 101) };
    let Entry::Waits { displaced, .. } = queue.push(1, polite, 2) else { panic!("there is room") };
    assert_eq!(displaced.iter().map(|request| request.payload).collect::<Vec<_>>(), [99, 98, 97]);
    assert_eq!(queue.rows(), 100);
    // No client can push out others that have less than itself.
    for number in 0..200 {
        queue.push(2, request(9, 200 + number), 3);
    }
    let refused = matches!(queue.push(2, request(9, 999), 4), Entry::Refused(..));
    assert!(refused);
    assert_eq!(queue.rows(), 100);
}

#[test]
fn a_request_with_more_rows_than_a_run_leaves_alone() {
    let mut queue = queue(&settings(16));
    let alone = queue.start_alone(1, 0).unwrap();
    push(&mut queue, 1, request(7, 0), 1);
    push(&mut queue, 1, Request { rows: 40, ..request(7, 1) }, 1);
    push(&mut queue, 1, request(7, 2), 1);
    queue.finish(alone, true, 100);
    for expected in 0..3 {
        let (run, formed) = start(&mut queue, 100).unwrap();
        assert_eq!(payloads(&formed), [expected]);
        queue.finish(run, true, 100);
    }
}

#[test]
fn no_client_is_remembered_for_ever() {
    let mut queue = queue(&settings(16));
    for number in 0..10_000 {
        push(&mut queue, u128::from(number), request(number, number), number);
        let (run, _) = start(&mut queue, number).unwrap();
        queue.finish(run, true, number);
    }
    assert!(queue.memory() < 1_000, "{}", queue.memory());
    for number in 0..10_000 {
        push(&mut queue, 1, request(number, number), number);
        let (run, _) = start(&mut queue, number).unwrap();
        queue.finish(run, true, number);
    }
    assert!(queue.memory() < 1_000, "{}", queue.memory());
}

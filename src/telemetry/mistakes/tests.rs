//! Which clients and mistakes stay listed, what is added up, and that no thread waits.
use std::time::Duration;

use super::store::MAX_KINDS;
use super::*;
use crate::telemetry::clients::OTHER;

const MAX: usize = 8;

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(second)
}

fn mistake(input: &str) -> Mistake<'_> {
    Mistake {
        model: "m",
        version: Some(3),
        signature: "s",
        input,
        kind: "add_batch_dim",
        outcome: "repaired",
        text: "[2]->[1,2]",
    }
}

fn record(mistakes: &Mistakes, client: &str, input: &str) {
    mistakes.record(client, Language::Python, true, &[mistake(input)], at(1));
}

fn find<'a>(clients: &'a [ClientMistakes], name: &str) -> Option<&'a ClientMistakes> {
    clients.iter().find(|client| *client.name == *name)
}

/// All mistakes, listed or added up.
fn sum(clients: &[ClientMistakes]) -> u64 {
    let of =
        |client: &ClientMistakes| client.kinds.iter().map(|kind| kind.count).sum::<u64>() + client.unlisted;
    clients.iter().map(of).sum()
}

#[test]
fn equal_mistakes_of_a_client_are_counted_together() {
    let mistakes = Mistakes::new(MAX, at(0));
    record(&mistakes, "a", "x");
    let later = Mistake { text: "[7]->[1,7]", version: Some(4), ..mistake("x") };
    mistakes.record("a", Language::Python, true, &[later, mistake("y")], at(60));
    mistakes.record("a", Language::Go, false, &[mistake("x")], at(61));
    let clients = mistakes.clients();
    let a = find(&clients, "a").unwrap();
    assert_eq!((a.kinds.len(), a.first, a.last, a.totals.mismatches), (3, at(1), at(61), 2));
    let x = &a.kinds[0];
    assert_eq!((x.count, x.first, x.last, x.version), (2, at(1), at(60), Some(4)));
    assert_eq!((&*x.input, &*x.text, x.language), ("x", "[7]->[1,7]", Language::Python));
}

#[test]
fn the_heaviest_clients_stay_however_many_names_are_invented() {
    let mistakes = Mistakes::new(MAX, at(0));
    let mut recorded = 0;
    for number in 0..100_000 {
        record(&mistakes, &format!("invented-{number}"), "x");
        recorded += 1;
        if number % 5 == 0 {
            record(&mistakes, "heavy", "x");
            recorded += 1;
        }
    }
    let clients = mistakes.clients();
    assert_eq!(clients.len(), MAX + 1, "and the others together");
    assert_eq!(find(&clients, "heavy").unwrap().kinds[0].count, 20_000);
    assert_eq!(find(&clients, OTHER).unwrap().kinds.len(), 1, "the same mistake");
    assert_eq!(sum(&clients), recorded, "every mistake is in one of them");
    let totals: u64 = clients.iter().map(|client| client.totals.mismatches).sum();
    assert_eq!(totals, recorded);
}

#[test]
fn a_client_that_varies_its_mistakes_takes_no_place_of_others() {
    let mistakes = Mistakes::new(MAX, at(0));
    record(&mistakes, "quiet", "x");
    for number in 0..10_000 {
        record(&mistakes, "noisy", "frequent");
        record(&mistakes, "noisy", &format!("x{number}"));
    }
    let clients = mistakes.clients();
    assert_eq!(find(&clients, "quiet").unwrap().kinds.len(), 1);
    let noisy = find(&clients, "noisy").unwrap();
    assert_eq!(noisy.kinds.len(), MAX_KINDS);
    assert!(noisy.kinds.iter().any(|kind| &*kind.input == "frequent" && kind.count == 10_000));
    assert_eq!(sum(&clients), 20_001);
}

#[test]
fn invented_names_of_any_length_take_at_most_two_megabytes() {
    let mistakes = Mistakes::new(128, at(0));
    let long = "n".repeat(2_000);
    for number in 0..30_000 {
        let (model, input) = (format!("{number}{long}"), format!("{number}-{long}"));
        let mistake = Mistake { model: &model, input: &input, signature: &long, text: &long, ..mistake("") };
        mistakes.record(&format!("{}-{long}", number % 3_000), Language::Other, true, &[mistake], at(1));
    }
    mistakes.sample(at(2));
    let clients = mistakes.clients();
    let arc = |text: &Arc<str>| text.len() + 16;
    let kind = |kind: &Repeated| {
        let texts = [&kind.model, &kind.signature, &kind.input, &kind.text].map(arc);
        size_of::<Repeated>() + texts.iter().sum::<usize>()
    };
    let of = |client: &ClientMistakes| {
        // The name is in the map and in the order, and every client has a history.
        2 * arc(&client.name) + 1024 + 120 * 8 + client.kinds.iter().map(kind).sum::<usize>()
    };
    let bytes: usize = clients.iter().map(of).sum();
    assert!(clients.len() == 129 && bytes <= 2 << 20, "{bytes}");
}

#[test]
fn a_thread_never_waits_for_a_reader() {
    let mistakes = Mistakes::new(MAX, at(0));
    let guard = mistakes.store.lock().unwrap();
    for _ in 0..MAX_WAITING + 2 {
        record(&mistakes, "a", "x");
    }
    assert!(mistakes.traffic("a", at(1)).is_none());
    drop(guard);
    assert_eq!(sum(&mistakes.clients()), MAX_WAITING as u64, "recorded a moment later");
    assert_eq!(mistakes.missed(), 2);
}

#[test]
fn requests_are_counted_for_the_client_while_it_is_listed() {
    let mistakes = Mistakes::new(1, at(0));
    let before = mistakes.generation();
    let conforming = mistakes.traffic("conforming", at(1)).unwrap().0;
    assert_ne!(mistakes.generation(), before, "a client was added");
    conforming.request();
    let other = mistakes.traffic("late", at(1)).unwrap().0;
    other.request();
    assert_eq!(find(&mistakes.clients(), OTHER).unwrap().totals.requests, 1, "it takes no place");
    let before = mistakes.generation();
    record(&mistakes, "late", "x");
    assert_ne!(mistakes.generation(), before);
    conforming.request();
    drop(conforming);
    mistakes.traffic("late", at(1)).unwrap().0.request();
    let clients = mistakes.clients();
    assert_eq!(find(&clients, OTHER).unwrap().totals.requests, 3, "with those of `conforming`");
    assert_eq!(find(&clients, "late").unwrap().totals.requests, 1);
    assert!(find(&clients, "conforming").is_none());
}

#[test]
fn the_history_has_a_number_for_each_step_and_one_for_what_came_since() {
    let mistakes = Mistakes::new(MAX, at(0));
    record(&mistakes, "a", "x");
    mistakes.sample(at(30));
    record(&mistakes, "a", "x");
    record(&mistakes, "a", "x");
    let history = mistakes.history();
    assert_eq!(history["clients"]["a"]["mismatches"], json!([1, 2]));
    assert_eq!(history["sampled"], "1970-01-01T00:00:30Z");
}

//! Which forms are kept, and what they take.
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::super::form::{Form, Sizes};
use super::super::key::{Key, Seen, key};
use super::super::store::{Census, MAX_FORMS, Recently};
use super::Judged;

/// Counts requests of this client, each in another form, beginning with the one of this number.
fn flood(census: &Census, recently: &Recently, client: &str, numbers: std::ops::Range<u64>) {
    let judged = Judged::new("x:float[-1]", "x:float[1]");
    let (form, id) = (judged.form(), census.client(client));
    for number in numbers {
        let hash = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ id;
        let make = || {
            let mut form = Form { client: client.to_owned(), ..form.clone() };
            form.inputs[0].name = format!("a hostile name with the number {number}");
            Some(form)
        };
        census.count(recently, id, &Key { hash, sizes: Sizes::default() }, Instant::now(), make);
    }
}

fn census() -> Arc<Census> {
    Census::new(Instant::now(), SystemTime::UNIX_EPOCH)
}

/// Counts so many requests of a client in one form.
fn count(census: &Census, recently: &Recently, client: &str, requests: u64) {
    let judged = Judged::new("x:float[-1]", "x:float[1]");
    let id = census.client(client);
    let key = key(census.seed(), &Seen { client: id, ..judged.seen() });
    for _ in 0..requests {
        census.count(recently, id, &key, Instant::now(), || judged.seen().form(client));
    }
}

fn requests_of(census: &Census, client: &str) -> u64 {
    census.forms(|form| form.client == client).iter().map(|counted| counted.requests).sum()
}

#[test]
fn requests_are_counted_by_form_across_threads() {
    let (census, one, other) = (census(), Recently::default(), Recently::default());
    count(&census, &one, "a", 3);
    count(&census, &other, "a", 4);
    count(&census, &one, "b", 1);
    assert_eq!((requests_of(&census, "a"), requests_of(&census, "b"), census.len()), (7, 1, 2));
    assert_eq!(census.missed(), 0);
}

#[test]
fn the_sizes_that_a_form_leaves_open_are_kept() {
    let (census, recently) = (census(), Recently::default());
    for request in ["x:float[4,9]", "x:float[2,5]", "x:float[7,6]", "x:float[3,8]"] {
        let judged = Judged::new("x:float[-1,-1]", request);
        let key = key(census.seed(), &judged.seen());
        census.count(&recently, 7, &key, Instant::now(), || judged.seen().form("a"));
    }
    let forms = census.forms(|_| true);
    let [counted] = forms.as_slice() else { panic!("{forms:?}") };
    let Sizes { rows, other_rows, open } = counted.sizes;
    assert_eq!((rows.min, rows.max, open.min, open.max), (2, 7, 5, 9));
    assert!(other_rows.is_empty());
}

#[test]
fn a_flood_of_one_client_does_not_push_out_the_others() {
    let (census, recently) = (census(), Recently::default());
    for number in 0..500 {
        count(&census, &recently, &format!("app {number}"), 1);
    }
    flood(&census, &recently, "hostile", 0..20_000);
    assert_eq!(census.len(), MAX_FORMS);
    let kept = (0..500).filter(|number| requests_of(&census, &format!("app {number}")) == 1).count();
    assert_eq!(kept, 500);
}

#[test]
fn forms_with_many_requests_stay_when_many_clients_send_a_new_one_each() {
    let (census, recently) = (census(), Recently::default());
    for number in 0..100 {
        count(&census, &recently, &format!("app {number}"), 20);
    }
    for number in 0..10_000 {
        flood(&census, &recently, &format!("forged {number}"), number..number + 1);
    }
    let kept = (0..100).filter(|number| requests_of(&census, &format!("app {number}")) == 20).count();
    assert_eq!((kept, census.len()), (100, MAX_FORMS));
}

#[test]
fn a_thread_goes_on_counting_a_form_that_came_back() {
    let (census, recently, other) = (census(), Recently::default(), Recently::default());
    count(&census, &recently, "a", 1);
    // On another thread, so that this one has the form at hand all the time.
    for number in 0..3 * MAX_FORMS as u64 {
        flood(&census, &other, &format!("b {}", number % 100), number..number + 1);
        count(&census, &other, &format!("c {}", number % 100), 2);
    }
    assert_eq!(requests_of(&census, "a"), 0);
    count(&census, &recently, "a", 5);
    assert_eq!(requests_of(&census, "a"), 5);
}

#[test]
fn large_forms_are_bounded_in_bytes() {
    let (census, recently) = (census(), Recently::default());
    let judged = Judged::new("x:float[-1]", "x:float[1]");
    for number in 0..1000_u64 {
        let make = || {
            let mut form = judged.form();
            form.inputs[0].name = format!("{number} {}", "n".repeat(12_000));
            Some(form)
        };
        let key = Key { hash: number.wrapping_mul(0x9E37_79B9_7F4A_7C15), sizes: Sizes::default() };
        census.count(&recently, number % 50, &key, Instant::now(), make);
    }
    let bytes: usize = census.forms(|_| true).iter().map(|counted| counted.form.size()).sum();
    assert!((1 << 20..=2 << 20).contains(&bytes), "{bytes} bytes of {} forms", census.len());
}

/// The resident memory of this process, in bytes.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Set in the process that measures its own memory.
const ALONE: &str = "CENSUS_MEMORY_ALONE";
/// How many thousand forms come; `make census-memory` sets it to 1000.
const THOUSANDS: &str = "CENSUS_THOUSANDS";

#[test]
#[expect(clippy::disallowed_methods, reason = "it is no setting of the sidecar")]
fn ever_new_hostile_forms_take_less_than_4_mib() {
    if std::env::var_os(ALONE).is_none() {
        // The other tests share this process, and its memory.
        let name = "census::tests::store::ever_new_hostile_forms_take_less_than_4_mib";
        let program = std::env::current_exe().unwrap();
        let mut alone = std::process::Command::new(program);
        let ended = alone.args([name, "--exact", "--nocapture"]).env(ALONE, "1").output().unwrap();
        let text = String::from_utf8_lossy(&ended.stdout);
        assert!(ended.status.success() && text.contains("bytes"), "{text}");
        print!("{text}");
        return;
    }
    let recently = Recently::default();
    // What the test itself needs.
    flood(&census(), &recently, "warm", 0..10);
    let before = resident();
    let census = census();
    let mut most = 0;
    let thousands = std::env::var(THOUSANDS).map_or(60, |text| text.parse().unwrap());
    for step in 0..thousands {
        let client = format!("client {}", step % 300);
        flood(&census, &recently, &client, step * 1000..(step + 1) * 1000);
        most = most.max(resident().saturating_sub(before));
    }
    println!("{thousands},000 forms came: {most} bytes for {} that are kept", census.len());
    assert!(census.len() > 500 && most < 4 << 20, "{most} bytes");
}

#[test]
fn a_form_that_is_too_large_is_not_kept() {
    let words: Vec<String> = (0..900).map(|number| format!("input_{number}:float[1]")).collect();
    let judged = Judged::new("x:float[-1]", &words.join(" "));
    let (census, recently) = (census(), Recently::default());
    census.count(&recently, 7, &judged.key(), Instant::now(), || judged.seen().form("a"));
    assert_eq!((census.len(), census.missed()), (0, 1));
}

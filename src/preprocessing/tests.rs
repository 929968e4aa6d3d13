//! The bounds of what is kept, and when it is dropped.
use std::time::{Duration, SystemTime};

use super::*;
use crate::profile::describe::TensorStats;
use crate::profile::{By, Profile, Sample};
use crate::repair::policy::{ModelPolicy, ProfileFile};
use crate::tensor::DataType;

fn read(features: usize, digest: u64) -> ReadProfile {
    let mut stats = TensorStats::new(DataType::FLOAT, By::Feature, features);
    for row in 0..300_u32 {
        stats.add(0, &vec![f64::from(row % 17); features]);
    }
    let inputs = [("x".to_owned(), stats.profile())].into();
    ReadProfile { digest, profile: Arc::new(Profile { inputs, ..Profile::default() }) }
}

fn config(read: &ReadProfile) -> Config {
    let mut policy = ModelPolicy::default();
    policy.defaults.profile = Some(ProfileFile { read: Some(read.clone()), ..ProfileFile::at("f".into()) });
    Config { models: [("m".to_owned(), policy)].into(), ..Config::default() }
}

/// A caller sends a row.
fn send(watched: &Watched, name: &str, now: SystemTime) {
    let (at, input, _) = watched.input("x").unwrap();
    let checks = input.checks.as_ref().unwrap();
    let caller = watched.caller(name, now);
    let mut seen = watched.see(caller.as_ref(), now);
    seen.add(at, checks, &Sample::of_rows(checks.width(), &vec![1.0; checks.width()]), false);
    seen.end();
}

fn clients(watched: &Watched) -> Vec<String> {
    let shown = watched.to_json();
    shown["clients"].as_array().unwrap().iter().map(|of| of["client"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_new_caller_takes_the_place_of_an_idle_one_only() {
    let all = Preprocessing::new(2);
    let watched = all.watched("m", "s", &read(3, 1));
    let start = SystemTime::now();
    send(&watched, "a", start);
    send(&watched, "b", start);
    send(&watched, "c", start);
    assert_eq!(clients(&watched), ["a", "b"], "nobody is idle");
    assert_eq!(watched.to_json()["missed"], 1);
    send(&watched, "b", start + Duration::from_secs(59));
    send(&watched, "c", start + Duration::from_secs(61));
    assert_eq!(clients(&watched), ["b", "c"]);
    for number in 0..1000 {
        send(&watched, &format!("invented {number}"), start + Duration::from_secs(62));
    }
    assert_eq!(clients(&watched), ["b", "c"], "invented names push nobody out");
}

#[test]
fn all_windows_together_take_no_more_than_the_limit() {
    let all = Preprocessing::new(1024);
    let read = read(4096, 1);
    let watched = all.watched("m", "s", &read);
    all.configure(&config(&read));
    let now = SystemTime::now();
    for number in 0..600 {
        send(&watched, &number.to_string(), now);
    }
    let used = all.bytes.load(Relaxed);
    assert!(used <= MAX_BYTES && used > MAX_BYTES * 9 / 10, "{used}");
    assert!(watched.to_json()["missed"].as_u64() > Some(100), "{}", watched.to_json()["missed"]);
    all.configure(&Config::default());
    drop(watched);
    assert_eq!(all.bytes.load(Relaxed), 0, "all of it is given back");
}

#[test]
fn another_profile_starts_anew_and_the_same_one_goes_on() {
    let all = Preprocessing::new(8);
    let (old, new) = (read(3, 1), read(3, 2));
    assert!(!all.is_active());
    all.configure(&config(&old));
    assert!(all.is_active());
    send(&all.watched("m", "s", &old), "a", SystemTime::now());
    all.configure(&config(&read(3, 1)));
    assert_eq!(clients(&all.watched("m", "s", &old)), ["a"]);
    all.configure(&config(&new));
    assert_eq!(all.to_json(), json!({"signatures": []}));
    assert_eq!(clients(&all.watched("m", "s", &new)), [""; 0]);
    all.configure(&Config::default());
    assert!(!all.is_active());
    assert_eq!(all.to_json(), json!({"signatures": []}));
}

#[test]
fn what_was_learned_is_dropped_after_a_day() {
    let all = Preprocessing::new(8);
    let start = SystemTime::now();
    let wanted = Wanted { model: "m".to_owned(), signature: "s".to_owned(), requests: 1, strings: true };
    all.learn(wanted, start).unwrap();
    all.forget_old(start + Duration::from_secs(23 * 3600));
    assert!(all.learned().is_some() && all.learning("m", "s").is_some() && all.is_active());
    all.forget_old(start + Duration::from_secs(25 * 3600));
    assert!(all.learned().is_none() && all.learning("m", "s").is_none() && !all.is_active());
}

//! The confusion matrix of the corpus, which docs/preprocessing.md shows.
use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::corpus::{World, cases, found};
use super::data::{SHAPES, given};
use crate::profile::Mistake;

/// Rows of training data, requests of a client, and clients of each case.
const TRAINING: usize = 3000;
const REQUESTS: usize = 400;

fn clients() -> u64 {
    given("PROFILE_CLIENTS").unwrap_or(2)
}

#[test]
fn mistakes_are_named_and_what_cannot_be_told_is_not() {
    let mut rows: BTreeMap<&str, BTreeMap<&str, u32>> = BTreeMap::new();
    let mut cells: BTreeMap<(&str, usize), (u32, u32)> = BTreeMap::new();
    let (mut right, mut all, mut wrong, mut within) = (0, 0, Vec::new(), Vec::new());
    let mut order: Vec<&str> = Vec::new();
    for (number, case) in cases().into_iter().enumerate() {
        let label = if case.expected.is_some() { case.name } else { "what cannot be told" };
        if !order.contains(&label) {
            order.push(label);
        }
        let shape = SHAPES.iter().position(|shape| *shape == case.shape).unwrap();
        let training = if case.shape.groups() > 1 { TRAINING / 4 } else { TRAINING };
        let world = World::new(case, training, 1000 + number as u64);
        for client in 0..clients() {
            let (mistake, requests) = found(&world, REQUESTS, 77 + 1000 * client + number as u64);
            let said = mistake.map_or("nothing", Mistake::name);
            *rows.entry(label).or_default().entry(said).or_default() += 1;
            let cell = cells.entry((label, shape)).or_default();
            cell.1 += 1;
            all += 1;
            if mistake == case.expected {
                cell.0 += 1;
                right += 1;
                if mistake.is_some() {
                    within.push(requests);
                }
            } else {
                wrong.push(format!(
                    "{} {:?} {}: {said} after {requests}",
                    case.shape.name(),
                    case.prepared,
                    case.name
                ));
            }
        }
    }
    within.sort_unstable();
    let median = within[within.len() / 2];
    let share = f64::from(right) / f64::from(all);
    eprintln!("{right} of {all} right, requests until then: median {median}, most {:?}", within.last());
    eprintln!("{}", wrong.join("\n"));
    assert!(share >= 0.95, "{share}\n{}", wrong.join("\n"));
    if clients() == 2 {
        document(&order, &rows, &cells, (right, all), (median, *within.last().unwrap()));
    }
}

fn document(
    order: &[&str],
    rows: &BTreeMap<&str, BTreeMap<&str, u32>>,
    cells: &BTreeMap<(&str, usize), (u32, u32)>,
    (right, all): (u32, u32),
    (median, most): (u32, u32),
) {
    let mut text = String::from("| mistake made |");
    for shape in SHAPES {
        _ = write!(text, " {} |", shape.name());
    }
    text.push_str(" said |\n|---|---|---|---|---|---|---|---|\n");
    for label in order {
        _ = write!(text, "| {label} |");
        for shape in 0..SHAPES.len() {
            match cells.get(&(*label, shape)) {
                Some((right, all)) => _ = write!(text, " {right}/{all} |"),
                None => text.push_str(" |"),
            }
        }
        let said: Vec<String> = rows[label].iter().map(|(said, count)| format!("`{said}` {count}")).collect();
        _ = writeln!(text, " {} |", said.join(", "));
    }
    _ = write!(
        text,
        "\n{right} of {all} callers got the right diagnosis, or none where there is none. It took {median} \
         requests of one row in the median and {most} at most.\n"
    );
    super::parts::between_marks(&text);
}

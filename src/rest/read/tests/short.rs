//! What is read from one window is what is read byte by byte.
use crate::rest::random::Random;
use crate::rest::read::number::plain;
use crate::rest::read::short::{WINDOW, number};

fn window(text: &str) -> [u8; WINDOW] {
    let mut window = [b' '; WINDOW];
    let length = text.len().min(WINDOW);
    window[..length].copy_from_slice(&text.as_bytes()[..length]);
    window
}

/// Every number of up to seven digits and of up to 19 with a point, with the digits at the ends of
/// their range, and whatever may come behind it.
#[test]
fn numbers_of_all_usual_lengths_are_read() {
    let mut random = Random::new(17);
    for (whole, fraction) in (1..=7).flat_map(|whole| (0..=18).map(move |fraction| (whole, fraction))) {
        for digit in [Some(9), Some(0), None, None, None] {
            let mut digit = || char::from(b'0' + digit.unwrap_or_else(|| random.below(10) as u8));
            let mut text: String = (0..whole).map(|_| digit()).collect();
            if whole > 1 && text.starts_with('0') {
                text.replace_range(..1, "1");
            }
            if fraction > 0 {
                text.push('.');
                text.extend((0..fraction).map(|_| digit()));
            }
            for (text, behind) in ["", "-"].iter().flat_map(|sign| {
                let text = format!("{sign}{text}");
                [", 1", ",-9", "]", "], [7", "\n", "}", "\0", "\u{ff}"].map(|behind| (text.clone(), behind))
            }) {
                let short = whole + fraction <= if fraction > 0 { 19 } else { 7 };
                // A point, or the end, is among the first eight bytes; behind seven bytes and a
                // point, eight digits are left to `plain`.
                let front = text.find('.').unwrap_or(text.len());
                let short = short && front < 8 && (front, fraction) != (7, 8);
                let text_and_more = format!("{text}{behind}");
                let found = number(&window(&text_and_more));
                assert_eq!(found.is_some(), short, "{text_and_more}");
                if let Some(found) = found {
                    let value = format!("{}e{}", found.mantissa, found.exponent).parse::<f64>().unwrap();
                    assert_eq!(
                        value,
                        text.trim_start_matches('-').parse::<f64>().unwrap(),
                        "{text_and_more}"
                    );
                    assert_eq!(found.negative, text.starts_with('-'), "{text_and_more}");
                    assert_eq!(found.integer, fraction == 0, "{text_and_more}");
                    assert_eq!(found.end, text.len(), "{text_and_more}");
                }
            }
        }
    }
}

/// Nothing is read from a window that is not read the same byte by byte, wrong numbers included.
#[test]
fn windows_with_any_byte_are_read_as_without_a_window() {
    let mut random = Random::new(29);
    let mut found = 0;
    for _ in 0..300_000 {
        let digits = |random: &mut Random, most: u64| -> String {
            (0..random.below(most)).map(|_| char::from(b'0' + random.below(10) as u8)).collect()
        };
        let sign = ["", "-"][random.below(2) as usize];
        let text = format!("{sign}{}.{}", digits(&mut random, 9), digits(&mut random, 21));
        let mut window = window(&text);
        for _ in 0..random.below(3) {
            let at = random.below(text.len() as u64 + 2) as usize % WINDOW;
            window[at] = match random.below(2) {
                0 => b"-+.,/:eE0 ]"[random.below(11) as usize],
                _ => random.below(256) as u8,
            };
        }
        if let Some(short) = number(&window) {
            found += 1;
            assert_eq!(Some(short), plain(&window, 0), "{}", window.escape_ascii());
        }
    }
    assert!(found > 100_000, "{found}");
}

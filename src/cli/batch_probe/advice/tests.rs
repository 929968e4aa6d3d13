//! Advice for measured and for invented curves.
use super::*;
use crate::config::load::{File, Settings, load};

const SIZES: [u64; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

// Microseconds on an H100 by the sizes above.
const DENSE: [f64; 9] = [115., 135., 136., 137., 144., 145., 136., 145., 136.];
const RECOMMENDER: [f64; 9] = [993., 1258., 1262., 1170., 1134., 1162., 1258., 1189., 1231.];
const RESNET: [f64; 9] = [4447., 6193., 3574., 3675., 3835., 6406., 12019., 22928., 44287.];
const BERT: [f64; 9] = [7697., 7763., 7662., 7882., 7749., 8160., 9146., 16880., 31973.];

/// The first `sizes` of a curve, with a spread of 2 % around each time.
fn curve(times: &[f64], sizes: usize) -> Vec<Times> {
    let each = SIZES.iter().zip(times).take(sizes);
    each.map(|(rows, time)| Times::of(*rows, *time, &[time * 0.99, *time, time * 1.01])).collect()
}

fn of_cost(run: f64, row: f64) -> Vec<Times> {
    let times: Vec<f64> = SIZES.iter().map(|rows| run + row * *rows as f64).collect();
    curve(&times, 7)
}

/// Two at once take as long as `ratio` runs, for one row and for the knee.
fn pairs(curve: &[Times], ratio: f64) -> Vec<Pair> {
    let knee = knee(curve);
    let of = curve.iter().filter(|times| times.rows == 1 || times.rows == knee);
    of.map(|times| Pair { rows: times.rows, alone: times.median, both: times.median * ratio }).collect()
}

fn one_at_a_time(curve: &[Times]) -> Advice {
    advise(curve, &pairs(curve, 2.0))
}

#[test]
fn a_flat_curve_pays_up_to_the_largest_size() {
    for (times, gain) in [(&DENSE, 54.1), (&RECOMMENDER, 50.5)] {
        let advice = one_at_a_time(&curve(times, 7));
        assert_eq!((advice.verdict, advice.knee, advice.rises), (Verdict::Pays, 64, true));
        assert!((advice.gain - gain).abs() < 0.1, "{}", advice.gain);
    }
}

#[test]
fn the_knee_is_where_twice_the_rows_take_twice_as_long() {
    assert_eq!(knee(&curve(&BERT, 7)), 64);
    assert_eq!(knee(&curve(&BERT, 9)), 64);
    assert_eq!(knee(&curve(&RESNET, 9)), 32);
    let advice = one_at_a_time(&curve(&BERT, 9));
    assert_eq!((advice.verdict, advice.rises), (Verdict::Pays, false));
    assert!((advice.gain - 53.9).abs() < 0.1, "{}", advice.gain);
}

#[test]
fn rows_that_cost_nearly_as_much_together_pay_little() {
    // A convolution on two cores.
    let advice = one_at_a_time(&of_cost(5500., 3800.));
    assert_eq!((advice.verdict, advice.knee), (Verdict::PaysLittle, 8));
    assert!((advice.gain - 2.07).abs() < 0.01, "{}", advice.gain);
}

#[test]
fn rows_that_cost_as_much_together_do_not_pay() {
    let advice = one_at_a_time(&of_cost(10., 1000.));
    assert_eq!((advice.verdict, advice.knee), (Verdict::RowsCostAsMuch, 1));
    // Every row more makes each of them slower.
    let times: Vec<f64> = SIZES.iter().map(|rows| (*rows as f64).powf(1.2) * 100.).collect();
    assert_eq!(one_at_a_time(&curve(&times, 9)).verdict, Verdict::RowsCostAsMuch);
}

#[test]
fn a_run_that_uses_two_cores_is_no_gain_over_two_runs_that_use_one_each() {
    // A single row runs on one core, more rows on both.
    let times: Vec<f64> = SIZES.iter().map(|rows| 1000. * (*rows as f64 / 2.).ceil()).collect();
    let curve = curve(&times, 7);
    let of = |rows: u64, ratio: f64| {
        let alone = curve.iter().find(|times| times.rows == rows).unwrap().median;
        Pair { rows, alone, both: alone * ratio }
    };
    assert_eq!(knee(&curve), 2);
    let advice = advise(&curve, &[of(1, 1.0), of(2, 2.0)]);
    assert_eq!(advice.verdict, Verdict::ParallelIsAsFast);
    assert!((advice.gain - 1.0).abs() < 0.01 && (advice.gain_of_one_run - 2.0).abs() < 0.01);
    // The same curve of a server that runs one at a time.
    assert_eq!(advise(&curve, &[of(1, 2.0), of(2, 2.0)]).verdict, Verdict::PaysLittle);
}

#[test]
fn noise_that_hides_the_difference_is_said_to_be_unclear() {
    let noisy = |rows: u64, time: f64| Times::of(rows, time, &[0.4, 0.6, 1.0, 1.6, 2.2].map(|x| x * time));
    let close = [noisy(1, 1000.), noisy(2, 1700.)];
    assert_eq!(advise(&close, &[]).verdict, Verdict::Unclear);
    let far = [noisy(1, 1000.), noisy(2, 1000.), noisy(4, 1000.), noisy(8, 1000.)];
    assert_eq!(advise(&far, &[]).verdict, Verdict::Pays);
    // More runs of the same spread make it certain.
    let sure = close.map(|times| Times { runs: 5000, ..times });
    assert_eq!(advise(&sure, &[]).verdict, Verdict::PaysLittle);
}

#[test]
fn runs_that_are_compiled_for_each_size_get_allowed_sizes() {
    let mut compiled = curve(&BERT, 7);
    for times in &mut compiled {
        times.first = 2e6;
    }
    let advice = one_at_a_time(&compiled);
    assert!(advice.compiled && !one_at_a_time(&curve(&BERT, 7)).compiled);
    assert!(
        advice.configuration("m", "s", &SIZES).contains("allowed_batch_sizes: [1, 2, 4, 8, 16, 32, 64]}"),
        "{}",
        advice.configuration("m", "s", &SIZES)
    );
    // Only the first run of all was slow: the model was loaded.
    let mut loaded = curve(&BERT, 7);
    loaded[0].first = 2e6;
    assert!(!one_at_a_time(&loaded).compiled);
}

#[test]
fn the_configuration_can_be_pasted() {
    let advice = Advice { compiled: true, ..one_at_a_time(&curve(&BERT, 7)) };
    for name in ["bert", "off", "1", "a b: {", "m\u{fc}\"", "~", "x#y"] {
        let text = advice.configuration(name, name, &SIZES);
        let config = load(&Settings::default(), Some(File { name: "c.yaml", text: &text })).unwrap();
        let batching = &config.policy(name).for_signature(name).batching;
        assert!(config.models.contains_key(name) && batching.enabled, "{text}");
        assert_eq!((batching.max_rows, batching.allowed_batch_sizes.len()), (64, 7), "{text}");
    }
}

#[test]
fn the_quartiles_are_those_of_the_samples() {
    let times = Times::of(1, 9.0, &[5.0, 1.0, 3.0, 2.0, 4.0]);
    assert_eq!((times.low, times.median, times.high, times.runs), (2.0, 3.0, 4.0, 5));
    let times = Times::of(1, 9.0, &[4.0, 2.0]);
    assert_eq!((times.low, times.median, times.high), (2.5, 3.0, 3.5));
}

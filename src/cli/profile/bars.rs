//! Distributions as a line of blocks.
use crate::profile::FeatureProfile;
use crate::profile::compare::share_below;

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Where the tails are longer than this many times what is between the 1 % and 99 % quantiles, only
/// the latter is drawn.
const LONG_TAILS: f64 = 3.0;

/// How frequent the values of a feature are, from small to large, in at most `cells` characters. A
/// feature of few values has a bar for each.
pub(super) fn distribution(feature: &FeatureProfile, cells: usize) -> String {
    if !feature.has_values() {
        return String::new();
    }
    let values = &feature.values;
    if !values.is_empty() && values.len() <= cells {
        let shares: Vec<f64> = values.iter().map(|(_, share)| *share).collect();
        let gap = if values.len() * 2 <= cells + 1 { " " } else { "" };
        let bars: Vec<String> = blocks(&shares).map(String::from).collect();
        return bars.join(gap);
    }
    if feature.max <= feature.min {
        return BLOCKS[7].to_string();
    }
    let [low, .., high] = feature.quantiles;
    let (low, high) = if feature.max - feature.min > LONG_TAILS * (high - low) && high > low {
        (low, high)
    } else {
        (feature.min, feature.max)
    };
    let edge = |cell: usize| low + (high - low) * (cell as f64 / cells as f64);
    let share = |cell: usize| {
        // The first cell has its lower edge too.
        let below = if cell == 0 { 0.0 } else { share_below(feature, edge(cell)) };
        (share_below(feature, edge(cell + 1)) - below).max(0.0)
    };
    let shares: Vec<f64> = (0..cells).map(share).collect();
    blocks(&shares).collect()
}

/// A horizontal bar for a share of the longest one.
pub(super) fn bar(share: f64, longest: f64, cells: usize) -> String {
    let length = if longest > 0.0 { (share / longest * cells as f64).round() as usize } else { 0 };
    "█".repeat(length.clamp(usize::from(share > 0.0), cells))
}

fn blocks(shares: &[f64]) -> impl Iterator<Item = char> {
    let highest = shares.iter().copied().fold(0.0, f64::max);
    shares.iter().map(move |share| match share / highest {
        height if height > 0.0 => {
            let step = (height * BLOCKS.len() as f64).ceil() as usize;
            BLOCKS.get(step.clamp(1, BLOCKS.len()) - 1).copied().unwrap_or(' ')
        }
        _ => ' ',
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::describe::Numbers;

    fn drawn(values: impl Iterator<Item = f64>) -> String {
        let mut numbers = Numbers::default();
        values.for_each(|value| numbers.add(value));
        distribution(&numbers.profile(), 20)
    }

    #[test]
    fn the_shape_of_a_distribution_is_visible() {
        let bell = |at: i32| (0..12).map(|k| f64::from((at * (2 * k + 7919)) % 997) / 997.0).sum::<f64>();
        let drawn_bell = drawn((0..5000).map(bell));
        let peak = drawn_bell.chars().position(|c| c == '█').unwrap();
        assert!((7..13).contains(&peak) && drawn_bell.chars().count() == 20, "{drawn_bell}");
        assert_eq!(drawn((0..1000).map(|at| f64::from(at) + 0.5)).chars().filter(|c| *c > '▅').count(), 20);
        assert_eq!(drawn([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 2.0].into_iter()), "█ ▅ ▃");
        assert_eq!(drawn([0.3, 0.3].into_iter()), "█");
        assert_eq!(drawn([f64::NAN].into_iter()), "");
        // One value far away does not squeeze the others into one bar.
        let tail = drawn((0..1000).map(|at| if at == 999 { 1e9 } else { f64::from(at) + 0.5 }));
        assert!(tail.chars().filter(|c| *c > '▂').count() > 15, "{tail}");
    }

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        assert_eq!(bar(0.5, 1.0, 10), "█████");
        assert_eq!(bar(0.0001, 1.0, 10), "█");
        assert_eq!(bar(0.0, 0.0, 10), "");
    }
}

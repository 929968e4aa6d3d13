//! Scalers: not applied, applied twice, or applied without the mean.
use super::{Form, Hypothesis, Suspects};
use crate::profile::Scaler;
use crate::profile::finding::{Detail, Mistake};

pub(super) fn propose(suspects: &Suspects<'_>, features: &[usize], all: &mut Vec<Hypothesis>) {
    let checks = suspects.checks;
    let detail = match &checks.scaler {
        Some(Scaler::Standard { .. }) => Detail::Scaler("StandardScaler"),
        Some(Scaler::MinMax { .. }) => Detail::Scaler("MinMaxScaler"),
        Some(Scaler::Robust { .. }) => Detail::Scaler("RobustScaler"),
        None => Detail::None,
    };
    let mut add = |mistake, detail: Detail, form| {
        all.push(Hypothesis { mistake, detail, features: features.to_vec(), form });
    };
    let scaling: Option<Vec<(f64, f64)>> = features.iter().map(|at| checks.scaling(*at)).collect();
    let Some(scaling) = scaling else {
        // The raw data is known, but not what leads from it to the model's.
        if features.iter().all(|at| checks.raw_density[*at].is_some()) {
            add(Mistake::NotScaled, detail, Form::Raw);
        }
        return;
    };
    let only_mean = scaling.iter().all(|(factor, _)| (factor - 1.0).abs() < 1e-6);
    let not_scaled = if only_mean { Mistake::MeanNotSubtracted } else { Mistake::NotScaled };
    // A scaler that changes nothing excludes nothing, and is nobody's mistake.
    let twice = scaling.iter().map(|(factor, offset)| (1.0 / factor, -offset / factor)).collect();
    add(Mistake::ScaledTwice, detail.clone(), Form::Affine(twice));
    if !only_mean {
        let offsets = scaling.iter().map(|(_, offset)| (1.0, *offset)).collect();
        add(Mistake::MeanNotSubtracted, detail.clone(), Form::Affine(offsets));
    }
    add(not_scaled, detail, Form::Affine(scaling));
}

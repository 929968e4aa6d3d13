//! A real server with 8 threads on 2 cores, measured under load.

/// Calls in flight, answers a second, probability of a refusal.
pub(crate) const MEASURED: [(f64, f64, f64); 12] = [
    (1.0, 6050.0, 0.0001),
    (2.0, 7400.0, 0.0001),
    (3.0, 7900.0, 0.0002),
    (4.0, 8400.0, 0.0003),
    (5.0, 8920.0, 0.0007),
    (6.0, 9260.0, 0.012),
    (7.0, 10_500.0, 0.063),
    (8.0, 8700.0, 0.16),
    (10.0, 7850.0, 0.27),
    (12.0, 6750.0, 0.46),
    (16.0, 6340.0, 0.55),
    (64.0, 6000.0, 0.55),
];

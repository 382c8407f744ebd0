//! Arithmetic on what was measured.

use std::time::Duration;

/// The middle of `values`; not a number when there is none.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    percentile(values, 50)
}

/// The value that `percent` of `values` do not exceed; not a number when there is none.
pub(crate) fn percentile(values: impl Iterator<Item = f64>, percent: usize) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() * percent / 100).copied().unwrap_or(f64::NAN)
}

/// Exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "counts and sizes of a benchmark")]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

/// Bytes in mebibytes.
pub(crate) fn mebibytes(bytes: u64) -> f64 {
    float(bytes) / float(1 << 20)
}

/// Milliseconds.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

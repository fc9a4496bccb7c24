//! The exact interval for a quantile of independent samples, from the binomial distribution.
//!
//! How many of n independent samples are at or under the true quantile q is binomial (n, q), whatever the
//! distribution of the samples. So the order statistics of ranks l and u bracket it with at least 95 % when
//! P(B < l) <= 2.5 % and P(B >= u) <= 2.5 % (David and Nagaraja, Order Statistics, 7.1).

use super::Quantile;

/// What may be missed on each side.
const MISS: f64 = 0.025;

/// Ranks l < u, counted from 1, of the order statistics that enclose the quantile with at least 95 % of equal tails;
/// `None` when there are too few samples for one of them to exist.
pub fn interval_ranks(quantile: Quantile, n: u64) -> Option<(u64, u64)> {
    let (q, tail) = (quantile.share(), quantile.tail_share());
    let low = highest_unlikely_count(n, q, tail);
    // The same from above: samples over the quantile are binomial (n, 1 - q).
    let high = (n + 1).saturating_sub(highest_unlikely_count(n, tail, q));
    (low >= 1 && high <= n).then_some((low, high))
}

/// The fewest samples for which [`interval_ranks`] exist.
pub fn least_samples(quantile: Quantile) -> u64 {
    // All samples on the likelier side must be unlikely: q^n <= 2.5 %.
    let n = (MISS.ln() / quantile.share().max(quantile.tail_share()).ln()).ceil();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 6 and 36,887 for quantiles in ten-thousandths"
    )]
    let n = n as u64;
    n
}

/// The largest l with P(X < l) <= 2.5 % for X binomial (n, p), where `complement` is 1 - p.
///
/// Adds up probabilities from far below the mean, each from the one before: exact to about 1e-11, and some hundred
/// thousand additions (about a millisecond) for n = 1e10.
fn highest_unlikely_count(n: u64, p: f64, complement: f64) -> u64 {
    let mut count = far_below_mean(n, p, complement);
    let mut term = probability(count, n, p, complement);
    let mut below = 0.0;
    while below + term <= MISS && count < n {
        below += term;
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let odds = (n - count) as f64 / (count + 1) as f64;
        term *= odds * (p / complement);
        count += 1;
    }
    count
}

/// A count under which no probability worth adding lies: 10 standard deviations and 40 below the mean.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are far below 2^53, and the start need not be exact"
)]
fn far_below_mean(n: u64, p: f64, complement: f64) -> u64 {
    let mean = n as f64 * p;
    (mean - 10.0 * (mean * complement).sqrt() - 40.0).max(0.0) as u64
}

/// P(X = k) for X binomial (n, p), without loss of digits for large n: C. Loader, "Fast and Accurate Computation of
/// Binomial Probabilities" (2000).
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn probability(k: u64, n: u64, p: f64, complement: f64) -> f64 {
    let size = n as f64;
    if k == 0 {
        return (size * (-p).ln_1p()).exp();
    }
    if k == n {
        return (size * (-complement).ln_1p()).exp();
    }
    let (hits, misses) = (k as f64, (n - k) as f64);
    let exponent = stirling_error(n)
        - stirling_error(k)
        - stirling_error(n - k)
        - deviance(hits, size * p)
        - deviance(misses, size * complement);
    (size / (std::f64::consts::TAU * hits * misses)).sqrt() * exponent.exp()
}

/// ln n! less Stirling's approximation of it.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn stirling_error(n: u64) -> f64 {
    let x = n as f64;
    if n < 16 {
        let factorial: f64 = (1..=n).map(|i| i as f64).product();
        return factorial.ln() - (x * x.ln() - x + 0.5 * (std::f64::consts::TAU * x).ln());
    }
    let square = x * x;
    (1.0 / 12.0 - (1.0 / 360.0 - (1.0 / 1_260.0 - 1.0 / 1_680.0 / square) / square) / square) / x
}

/// x ln(x / m) + m - x, by its series where that would cancel.
fn deviance(x: f64, m: f64) -> f64 {
    let v = (x - m) / (x + m);
    if v.abs() >= 0.1 {
        return x * (x / m).ln() + m - x;
    }
    let mut sum = (x - m) * v;
    let mut power = 2.0 * x * v;
    for odd in (3..).step_by(2) {
        power *= v * v;
        let next = sum + power / f64::from(odd);
        if next == sum {
            break;
        }
        sum = next;
    }
    sum
}

#[cfg(test)]
mod tests;

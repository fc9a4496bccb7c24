use proptest::prelude::*;

use super::*;

#[test]
fn quantiles_are_withheld_below_the_published_sizes() {
    let sizes = [6, 36, 368, 3_688, 36_887];
    for (quantile, least) in Quantile::ALL.into_iter().zip(sizes) {
        assert_eq!(least_samples(quantile), least);
        assert_eq!(interval_ranks(quantile, least - 1), None);
        assert!(interval_ranks(quantile, least).is_some());
    }
}

/// P(X < k) for X binomial (n, p), from logarithms of factorials added up one by one.
fn below(k: u64, n: u64, p: f64) -> f64 {
    let mut ln_factorial = vec![0.0; usize::try_from(n).unwrap() + 1];
    for i in 1..ln_factorial.len() {
        ln_factorial[i] = ln_factorial[i - 1] + (i as f64).ln();
    }
    let ln = |i: u64| ln_factorial[usize::try_from(i).unwrap()];
    (0..k)
        .map(|i| {
            let ways = ln(n) - ln(i) - ln(n - i);
            (ways + i as f64 * p.ln() + (n - i) as f64 * (-p).ln_1p()).exp()
        })
        .sum()
}

fn check(quantile: Quantile, n: u64) {
    let Some((low, high)) = interval_ranks(quantile, n) else {
        assert!(n < least_samples(quantile));
        return;
    };
    let q = quantile.share();
    assert!(below(low, n, q) <= MISS && below(low + 1, n, q) > MISS, "{quantile} of {n}: {low}");
    assert!(1.0 - below(high, n, q) <= MISS + 1e-9, "{quantile} of {n}: {high}");
    assert!(1.0 - below(high - 1, n, q) > MISS - 1e-9, "{quantile} of {n}: {high}");
}

#[test]
fn ranks_are_the_narrowest_for_every_small_size() {
    for quantile in Quantile::ALL {
        (1..=120).chain(360..=380).for_each(|n| check(quantile, n));
    }
}

#[test]
fn ten_billion_samples_are_no_trouble() {
    let n = 10_000_000_000;
    for quantile in Quantile::ALL {
        let (low, high) = interval_ranks(quantile, n).unwrap();
        let (q, size) = (quantile.share(), n as f64);
        let half = 1.959_963_984_540_054 * (size * q * quantile.tail_share()).sqrt();
        let centre = size * q;
        // The normal approximation, which here is right to a few ranks.
        assert!((low as f64 - (centre - half)).abs() < 5.0, "{quantile}: {low}");
        assert!((high as f64 - (centre + half)).abs() < 5.0, "{quantile}: {high}");
    }
}

#[test]
fn loaders_form_agrees_with_the_plain_one() {
    for (n, p) in [(50, 0.5), (400, 0.99), (3_000, 0.999), (30, 0.1)] {
        for k in [0, 1, n / 3, n / 2, n - 15, n - 1, n] {
            let direct = below(k + 1, n, p) - below(k, n, p);
            let loader = probability(k, n, p, 1.0 - p);
            assert!((direct - loader).abs() <= 1e-9 * direct.max(1e-3), "{k} of {n}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn ranks_are_the_narrowest(n in 1..40_000u64, which in 0..5usize) {
        check(Quantile::ALL[which], n);
    }
}

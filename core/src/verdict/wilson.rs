//! The interval of a share (Wilson 1927).

/// The 97.5 % point of the normal distribution.
const NORMAL: f64 = 1.959_963_984_540_054;

/// The 95 % interval of a share of `hits` of `n` trials, which need not be whole: effective numbers of dependent
/// trials are not. All of it when there are none.
pub(super) fn interval(hits: f64, n: f64) -> (f64, f64) {
    if n <= 0.0 {
        return (0.0, 1.0);
    }
    let z2 = NORMAL * NORMAL;
    let centre = (hits + z2 / 2.0) / (n + z2);
    let half = NORMAL / (n + z2) * (hits * (1.0 - hits / n).max(0.0) + z2 / 4.0).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_tables() {
        // Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
        for (hits, n, low, high) in [
            (81.0, 263.0, 0.2553, 0.3662),
            (15.0, 148.0, 0.0624, 0.1605),
            (0.0, 20.0, 0.0, 0.1611),
            (1.0, 29.0, 0.0061, 0.1718),
        ] {
            let (a, b) = interval(hits, n);
            assert!((a - low).abs() < 5e-5 && (b - high).abs() < 5e-5, "{hits} of {n}: {a} {b}");
        }
        assert_eq!(interval(0.0, 0.0), (0.0, 1.0));
    }
}

//! Student's t distribution, only as far as a 95 % interval needs it.

/// The 97.5 % point for 1 to 10 degrees of freedom (any table; checked against the density below).
const SMALL: [f64; 10] = [
    12.706_205, 4.302_653, 3.182_446, 2.776_445, 2.570_582, 2.446_912, 2.364_624, 2.306_004,
    2.262_157, 2.228_139,
];
/// The 97.5 % point of the normal distribution.
const NORMAL: f64 = 1.959_963_984_540_054;

/// The 97.5 % point of Student's t with `degrees` (at least 1) degrees of freedom; above 10 by the expansion about
/// the normal point (Abramowitz and Stegun 26.7.5), which there is right to 2e-4.
pub(super) fn t_975(degrees: usize) -> f64 {
    if let Some(t) = SMALL.get(degrees.saturating_sub(1)) {
        return *t;
    }
    #[expect(clippy::cast_precision_loss, reason = "bounded by the number of blocks")]
    let n = degrees as f64;
    let z = NORMAL;
    let g1 = (z.powi(3) + z) / 4.0;
    let g2 = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    let g3 = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
    z + g1 / n + g2 / n.powi(2) + g3 / n.powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The share of the distribution between 0 and `t`: Simpson's rule on the density under x = tan(u) sqrt(n),
    /// where it is proportional to cos(u)^(n-1).
    fn share_between_zero_and(t: f64, degrees: usize) -> f64 {
        let density = |u: f64| u.cos().powi(i32::try_from(degrees).unwrap() - 1);
        let simpson = |end: f64| {
            let h = end / 2_000.0;
            let inner: f64 = (1..2_000)
                .map(|i| density(f64::from(i) * h) * if i % 2 == 1 { 4.0 } else { 2.0 })
                .sum();
            (density(0.0) + inner + density(end)) * h / 3.0
        };
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let angle = (t / (degrees as f64).sqrt()).atan();
        0.5 * simpson(angle) / simpson(std::f64::consts::FRAC_PI_2)
    }

    #[test]
    fn leaves_two_and_a_half_percent_above() {
        for degrees in (1..=60).chain([100, 500, 1_023]) {
            let share = 0.5 + share_between_zero_and(t_975(degrees), degrees);
            assert!((share - 0.975).abs() < 1e-5, "{degrees}: {share}");
        }
    }
}

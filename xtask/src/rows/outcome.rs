use serde_json::{Value, json};

/// One number a row brought out.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// The number.
    pub value: f64,
    /// Its unit; empty for counts and ratios.
    pub unit: String,
}

/// What a row brought out: figures to print, and each way in which the bound was missed.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The figures, the deciding one first.
    pub figures: Vec<Figure>,
    /// A sentence for each miss; none means the bound held.
    pub misses: Vec<String>,
    /// The seeds of everything that was random.
    pub seeds: Vec<u64>,
    /// What the programs printed, for whoever doubts the figures.
    pub raw: Vec<Value>,
}

impl Outcome {
    /// Adds a figure.
    pub fn figure(&mut self, name: impl Into<String>, value: f64, unit: &str) {
        self.figures.push(Figure { name: name.into(), value, unit: unit.to_owned() });
    }

    /// Adds a miss unless `holds`.
    pub fn expect(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.misses.push(otherwise());
        }
    }

    /// The figures in one line; one that was taken in several rounds as its range.
    pub fn summary(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for figure in &self.figures {
            if !names.contains(&figure.name.as_str()) {
                names.push(&figure.name);
            }
        }
        let parts = names.iter().map(|name| self.range_of(name));
        parts.collect::<Vec<_>>().join(", ")
    }

    fn range_of(&self, name: &str) -> String {
        let of_name: Vec<&Figure> = self.figures.iter().filter(|f| f.name == name).collect();
        let values = || of_name.iter().map(|figure| figure.value);
        let (least, most) = (values().fold(f64::MAX, f64::min), values().fold(f64::MIN, f64::max));
        let value = if of_name.len() == 1 {
            digits(least)
        } else {
            format!("{} to {} in {} rounds", digits(least), digits(most), of_name.len())
        };
        let unit = of_name.first().map_or("", |figure| &figure.unit);
        let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
        format!("{name} {value}{unit}")
    }

    /// The figures as JSON.
    pub fn figures_json(&self) -> Value {
        let one = |figure: &Figure| json!({"name": figure.name, "value": figure.value, "unit": figure.unit});
        Value::Array(self.figures.iter().map(one).collect())
    }
}

/// Four significant digits, and no decimals where the number is whole.
fn digits(value: f64) -> String {
    if value.fract() == 0.0 {
        return format!("{value}");
    }
    let decimals = match value.abs() {
        v if v >= 1000.0 => 0,
        v if v >= 100.0 => 1,
        v if v >= 10.0 => 2,
        v if v >= 0.1 => 3,
        _ => 5,
    };
    format!("{value:.decimals$}")
}

/// The middle of `values`; of an even number the mean of the two in the middle, NaN of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// The largest distance between the distribution of `values` and the even one on `low..high` (Kolmogorov's).
pub fn unevenness(values: &[f64], low: f64, high: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = float(sorted.len());
    let distance = |(rank, value): (usize, &f64)| {
        let even = ((value - low) / (high - low)).clamp(0.0, 1.0);
        (even - float(rank) / n).abs().max((float(rank + 1) / n - even).abs())
    };
    sorted.iter().enumerate().map(distance).fold(0.0, f64::max)
}

/// A count as a number to reckon with.
#[expect(clippy::cast_precision_loss, reason = "counts of one run are far below 2^52")]
pub fn float(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn unevenness_tells_a_ramp_from_a_step() {
        let ramp: Vec<f64> = (0..500).map(f64::from).collect();
        assert!(unevenness(&ramp, 0.0, 500.0) < 0.01);
        assert!(unevenness(&[499.0; 500], 0.0, 500.0) > 0.9);
        assert!(unevenness(&[0.0; 500], 0.0, 500.0) > 0.9);
        let missing_half: Vec<f64> = (250..500).map(f64::from).collect();
        assert!(unevenness(&missing_half, 0.0, 500.0) > 0.45);
    }

    #[test]
    fn a_summary_is_one_line() {
        let mut outcome = Outcome::default();
        outcome.figure("ratio", 1.0254, "");
        outcome.figure("p50", 5_012_345.0, "ns");
        outcome.expect(false, || "no".into());
        assert_eq!(outcome.summary(), "ratio 1.025, p50 5012345 ns");
        assert_eq!(outcome.misses, ["no"]);
        outcome.figure("ratio", 1.5, "");
        outcome.figure("p50", 5_012_340.0, "ns");
        let rounds = "ratio 1.025 to 1.500 in 2 rounds, p50 5012340 to 5012345 in 2 rounds ns";
        assert_eq!(outcome.summary(), rounds);
    }
}

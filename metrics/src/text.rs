//! Text exposition, version 0.0.4.

use std::fmt::Write as _;

use crate::model::{Family, Histogram, Kind, Label};

/// The page as text. Native buckets have no form in it; classic ones do.
pub fn text(families: &[Family]) -> String {
    let mut out = String::new();
    for family in families {
        let (name, kind) = (family.name(), family.kind());
        let kind_name = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {name} {}", escaped(family.help(), false));
        let _ = writeln!(out, "# TYPE {name} {kind_name}");
        for series in &family.series {
            if let Some(histogram) = &series.histogram {
                write_histogram(&mut out, name, &series.label, histogram);
            } else if let Some(number) = series.counter.or(series.gauge) {
                line(&mut out, name, "", &series.label, None, &float(number.value()));
            }
        }
    }
    out
}

fn write_histogram(out: &mut String, name: &str, labels: &[Label], histogram: &Histogram) {
    for bucket in &histogram.bucket {
        let bound = float(bucket.upper_bound());
        let count = bucket.cumulative_count().to_string();
        line(out, name, "_bucket", labels, Some(&bound), &count);
    }
    line(out, name, "_sum", labels, None, &float(histogram.sample_sum()));
    line(out, name, "_count", labels, None, &histogram.sample_count().to_string());
}

fn line(
    out: &mut String,
    name: &str,
    suffix: &str,
    labels: &[Label],
    bound: Option<&str>,
    value: &str,
) {
    out.push_str(name);
    out.push_str(suffix);
    let given = labels.iter().map(|label| (label.name(), label.value()));
    let mut before = '{';
    for (name, value) in given.chain(bound.map(|bound| ("le", bound))) {
        out.push(before);
        before = ',';
        let _ = write!(out, "{name}=\"{}\"", escaped(value, true));
    }
    if before == ',' {
        out.push('}');
    }
    let _ = writeln!(out, " {value}");
}

fn escaped(text: &str, quotes: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out
}

/// A number as Go prints it, and with it Prometheus: so that a bound is the same label value whichever way it came.
pub fn float(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value.is_nan() {
        return "NaN".to_owned();
    }
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..21).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => format!("{value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_go_writes_them() {
        for (value, text) in [
            (0.0, "0"),
            (1e-6, "1e-06"),
            (5e-5, "5e-05"),
            (1e-4, "0.0001"),
            (0.5, "0.5"),
            (1_764_000_000.25, "1764000000.25"),
            (1e20, "100000000000000000000"),
            (1.5e21, "1.5e+21"),
            (-2.5e-7, "-2.5e-07"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(float(value), text);
        }
    }

    #[test]
    fn whatever_a_label_holds_it_ends_where_it_should() {
        let mut family = Family::new(&crate::definitions::WORST_PATH_RTT);
        family.push(vec![Label::new("src", "a\"b\\c\nd")], 1.0);
        let text = text(&[family]);
        assert!(text.ends_with("_seconds{src=\"a\\\"b\\\\c\\nd\"} 1\n"), "{text}");
    }
}

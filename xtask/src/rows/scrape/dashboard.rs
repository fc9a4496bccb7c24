//! The queries of the dashboard that we ship.

use crate::Failure;
use serde_json::Value;

/// What is not there in a fleet as young and well as a test's, and why.
const MAY_BE_EMPTY: &[(&str, &str)] = &[
    ("railgauge_certificate_expiry_timestamp_seconds", "plaintext has no certificates"),
    ("railgauge_connections_refused_total", "nobody was refused"),
    ("railgauge_audit_lines", "nobody asked for what is audited"),
    ("railgauge_probe_key_epoch", "plaintext has no keys"),
    ("railgauge_sweeps_total", "no sweep was run"),
];

/// A query with the panel it is in.
pub struct Query {
    /// The panel's title.
    pub panel: String,
    /// As Prometheus is asked.
    pub expression: String,
}

impl Query {
    /// Why it may find nothing, if so.
    pub fn may_be_empty(&self) -> bool {
        MAY_BE_EMPTY.iter().any(|(metric, _)| self.expression.contains(metric))
    }
}

/// All queries of a dashboard, with Grafana's variables filled in.
///
/// # Errors
/// When it is no dashboard, or a variable is left.
pub fn queries(text: &str) -> Result<Vec<Query>, Failure> {
    let dashboard: Value = serde_json::from_str(text)
        .map_err(|error| Failure::because("the dashboard is no JSON", error))?;
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().into_iter().flatten() {
        let title = panel["title"].as_str().unwrap_or_default();
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap_or_default();
            let expression = expression.replace("$__rate_interval", "10s");
            if expression.is_empty() || expression.contains('$') {
                return Err(Failure::new(format!("panel {title}: no query: {expression:?}")));
            }
            queries.push(Query { panel: title.to_owned(), expression });
        }
    }
    if queries.is_empty() {
        return Err(Failure::new("the dashboard asks for nothing"));
    }
    Ok(queries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_is_filled_in_or_told() {
        let of = |expr: &str| {
            format!(
                r#"{{"panels":[{{"title":"A"}},{{"title":"B","targets":[{{"expr":"{expr}"}}]}}]}}"#
            )
        };
        let found = queries(&of("rate(a[$__rate_interval])")).unwrap();
        assert_eq!((found[0].panel.as_str(), found[0].expression.as_str()), ("B", "rate(a[10s])"));
        let error = queries(&of("a{b=$c}")).err().unwrap().to_string();
        assert!(error.contains("panel B"), "{error}");
        assert!(queries("{}").is_err());
    }
}

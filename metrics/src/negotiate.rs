//! Which form of the page a scraper wants.

/// A form of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text, version 0.0.4: for people, and servers without native histograms.
    Text,
    /// Messages of Prometheus, each after its length: the only form that has native histograms.
    Protobuf,
}

const PROTOBUF: &str = "application/vnd.google.protobuf";

impl Format {
    /// For the header.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// The form for a request with these `Accept` headers: protobuf where it is asked for by name, in our encoding and no later than text. Whatever
/// else is asked for, and whatever makes no sense, gets text: a page that cannot be read helps more than none.
pub fn negotiate<'a>(accept: impl IntoIterator<Item = &'a str>) -> Format {
    let (mut text, mut protobuf) = (0, 0);
    for range in accept.into_iter().flat_map(|header| header.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut weight, mut ours) = (1_000, true);
        for (name, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => weight = thousandths(value),
                "proto" => ours &= value == "io.prometheus.client.MetricFamily",
                "encoding" => ours &= value == "delimited",
                _ => {}
            }
        }
        match media.as_str() {
            PROTOBUF if ours => protobuf = weight.max(protobuf),
            "text/plain" | "text/*" | "*/*" => text = weight.max(text),
            _ => {}
        }
    }
    if protobuf > 0 && protobuf >= text { Format::Protobuf } else { Format::Text }
}

/// A weight of 0 to 1 with at most three digits (RFC 9110 section 12.4.2); 0 for anything else.
fn thousandths(weight: &str) -> u32 {
    let (whole, part) = weight.split_once('.').unwrap_or((weight, ""));
    let digits = part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit());
    match whole {
        "1" if part.bytes().all(|b| b == b'0') && digits => 1_000,
        "0" if digits => format!("{part:0<3}").parse().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2_42_NATIVE: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
                                application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,\
                                text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    const V2_42: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                         text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    const V3: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
                      application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                      application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
                      text/plain;version=0.0.4;q=0.2,*/*;q=0.1";

    #[test]
    fn servers_with_native_histograms_get_protobuf_and_nobody_else() {
        let protobuf = |parameters: &str| format!("application/vnd.google.protobuf{parameters}");
        let full = ";proto=io.prometheus.client.MetricFamily;encoding=delimited";
        for (accept, format) in [
            (V2_42_NATIVE.to_owned(), Format::Protobuf),
            (V3.to_owned(), Format::Protobuf),
            (V2_42.to_owned(), Format::Text),
            (
                protobuf(
                    &full
                        .to_uppercase()
                        .replace(
                            "IO.PROMETHEUS.CLIENT.METRICFAMILY",
                            "io.prometheus.client.MetricFamily",
                        )
                        .replace("DELIMITED", "\"delimited\""),
                ),
                Format::Protobuf,
            ),
            (protobuf(&format!("{full};q=0.4,text/plain;q=0.5")), Format::Text),
            (protobuf(&format!("{full};q=0.5,text/plain;q=0.5")), Format::Protobuf),
            (protobuf(&format!("{full};q=0")), Format::Text),
            (protobuf(";proto=io.prometheus.client.MetricFamily;encoding=text"), Format::Text),
            (protobuf(";proto=other.Family;encoding=delimited"), Format::Text),
            ("*/*".to_owned(), Format::Text),
            ("image/png".to_owned(), Format::Text),
            (";;=,,q=,\u{e4}".to_owned(), Format::Text),
            (String::new(), Format::Text),
        ] {
            assert_eq!(negotiate([accept.as_str()]), format, "{accept}");
        }
        assert_eq!(negotiate([]), Format::Text);
        let two = protobuf(&format!("{full};q=0.9"));
        assert_eq!(negotiate(["text/plain;q=0.8", two.as_str()]), Format::Protobuf);
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_asked_for_there_is_an_answer(accept in "[ -~]{0,80}|(application/vnd.google.protobuf|;q=|[0-9.]|,|;){0,9}") {
            negotiate([accept.as_str(), ""]);
        }
    }

    #[test]
    fn weights_that_are_none_weigh_nothing() {
        for (weight, value) in
            [("1", 1_000), ("1.000", 1_000), ("0.5", 500), ("0.075", 75), ("0", 0), ("0.", 0)]
        {
            assert_eq!(thousandths(weight), value, "{weight}");
        }
        for wrong in ["", "2", "-1", "1.5", "0.1234", "nan", "0.x", ".5"] {
            assert_eq!(thousandths(wrong), 0, "{wrong}");
        }
    }
}

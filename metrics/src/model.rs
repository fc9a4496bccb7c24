//! Prometheus' own messages, `io.prometheus.client` (`metrics.proto` of prometheus/client_model), as far as we write them. The
//! numbers of the fields are the contract with the server; the row `scrape` holds them against one.

/// `MetricType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Kind {
    /// Only rises.
    Counter = 0,
    /// Goes both ways.
    Gauge = 1,
    /// Counts by size.
    Histogram = 4,
}

/// `LabelPair`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, prost::Message)]
pub struct Label {
    /// As `transport`.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// As `udp`.
    #[prost(string, optional, tag = "2")]
    pub value: Option<String>,
}

/// `Gauge` and `Counter`, which are written alike.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Number {
    /// It.
    #[prost(double, optional, tag = "1")]
    pub value: Option<f64>,
}

/// `Bucket` of a classic histogram.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Bucket {
    /// Samples up to the bound.
    #[prost(uint64, optional, tag = "1")]
    pub cumulative_count: Option<u64>,
    /// The bound, itself included.
    #[prost(double, optional, tag = "2")]
    pub upper_bound: Option<f64>,
}

/// `BucketSpan`: neighbouring native buckets.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Span {
    /// Buckets left out since the last span; for the first, the index it begins at.
    #[prost(sint32, optional, tag = "1")]
    pub offset: Option<i32>,
    /// Buckets in it.
    #[prost(uint32, optional, tag = "2")]
    pub length: Option<u32>,
}

/// `Histogram`, native and classic at once. Latencies are never negative, so there are no negative spans.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Histogram {
    /// Samples.
    #[prost(uint64, optional, tag = "1")]
    pub sample_count: Option<u64>,
    /// All of them added up.
    #[prost(double, optional, tag = "2")]
    pub sample_sum: Option<f64>,
    /// Classic buckets, by rising bound.
    #[prost(message, repeated, tag = "3")]
    pub bucket: Vec<Bucket>,
    /// Native buckets have bounds 2^(i / 2^schema).
    #[prost(sint32, optional, tag = "5")]
    pub schema: Option<i32>,
    /// The zero bucket's bound.
    #[prost(double, optional, tag = "6")]
    pub zero_threshold: Option<f64>,
    /// Samples in it.
    #[prost(uint64, optional, tag = "7")]
    pub zero_count: Option<u64>,
    /// Which native buckets have counts.
    #[prost(message, repeated, tag = "12")]
    pub positive_span: Vec<Span>,
    /// Their counts, each as the difference from the one before.
    #[prost(sint64, repeated, packed = "false", tag = "13")]
    pub positive_delta: Vec<i64>,
}

/// `Metric`: one series.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Series {
    /// What tells it from the others of its family.
    #[prost(message, repeated, tag = "1")]
    pub label: Vec<Label>,
    /// In a family of gauges.
    #[prost(message, optional, tag = "2")]
    pub gauge: Option<Number>,
    /// In a family of counters.
    #[prost(message, optional, tag = "3")]
    pub counter: Option<Number>,
    /// In a family of histograms.
    #[prost(message, optional, tag = "7")]
    pub histogram: Option<Histogram>,
}

/// `MetricFamily`: all series of one name.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Family {
    /// As `railgauge_probes_sent_total`.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// What it counts.
    #[prost(string, optional, tag = "2")]
    pub help: Option<String>,
    /// Of which kind.
    #[prost(enumeration = "Kind", optional, tag = "3")]
    pub kind: Option<i32>,
    /// Its series.
    #[prost(message, repeated, tag = "4")]
    pub series: Vec<Series>,
}

impl Family {
    /// A family without series.
    pub fn new(metric: &crate::Metric) -> Self {
        Self {
            name: Some(metric.name.to_owned()),
            help: Some(metric.help.to_owned()),
            kind: Some(metric.kind.into()),
            series: Vec::new(),
        }
    }

    /// Adds a series with one number.
    pub fn push(&mut self, labels: Vec<Label>, value: f64) {
        let number = Some(Number { value: Some(value) });
        let series = match self.kind() {
            Kind::Counter => Series { label: labels, counter: number, ..Series::default() },
            Kind::Gauge | Kind::Histogram => {
                Series { label: labels, gauge: number, ..Series::default() }
            }
        };
        self.series.push(series);
    }
}

impl Label {
    /// `name="value"`.
    pub fn new(name: &str, value: &str) -> Self {
        Self { name: Some(name.to_owned()), value: Some(value.to_owned()) }
    }
}

/// Messages one after the other, each after its length: what Prometheus asks for as `encoding=delimited`.
pub fn delimited(families: &[Family]) -> Vec<u8> {
    let mut out = Vec::new();
    for family in families {
        out.extend(prost::Message::encode_length_delimited_to_vec(family));
    }
    out
}

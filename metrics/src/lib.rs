//! What Prometheus sees of both daemons (design D11): which metrics there are ([`definitions`]), how latencies become native
//! histograms with classic buckets beside them, and how a page is written as text or as Prometheus' own protobuf.
//!
//! Counters and gauges live in the `prometheus` crate's registry, behind [`Registry`]; histograms in [`Probes`], which
//! takes whole windows. Both become the messages of [`model`], and those are written ([`Format`]). Why so: docs/adr/0008-metrics.md.
//!
//! **Bounds.** No label says which node, path or port: a page has as many series with two nodes as with a thousand. Kinds of stamps,
//! which others choose, are told apart up to 16.

mod buckets;
pub mod definitions;
mod document;
mod latency;
pub mod model;
mod negotiate;
mod probes;
mod process;
mod registry;
mod text;

pub use definitions::Metric;
pub use document::document;
pub use negotiate::{Format, negotiate};
pub use probes::{Class, Locality, Probes};
pub use registry::{Registry, raise};

/// From the same crate as [`Registry`] hands out.
pub use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec};

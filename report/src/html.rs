//! Pages: one self-contained file each, read without network, without script, and in black and white.
//!
//! Everything that comes from a document is hostile text and goes through maud's escaping; nothing from it gets into an attribute
//! that could load or run something. A policy in the page's head forbids whatever would be fetched all the same.
//!
//! **Size.** Maps of up to 24 nodes have a table for each view, with numbers; from there on one small cell a pair, with its numbers
//! as a tooltip, some 160 octets each (a fleet of 200 nodes: about 7 MB). Above 256 nodes the map shows those with the worst cells.
//! Curves are drawn for the fleet and at most 9 paths, at most some 10 kB each; tables hold 20 rows, lists 20 entries, and say what
//! they leave out.

mod appendix;
mod chart;
mod curves;
mod findings;
mod frame;
mod heat;
mod level;
mod live;
mod reading;
mod sweep;
mod sweeps;
mod verdict;
mod worst;

pub use curves::{Curve, curves, fleet_curves, path_panels};
pub use findings::findings;
pub use heat::{View, heat_map, telling_view};
pub use live::{live_page, quantile_from};
pub use sweep::sweep_page;
pub use sweeps::{SweepLine, sweeps_page};
pub use worst::worst_paths;

/// The longest list that is printed in full.
const LISTED: usize = 20;

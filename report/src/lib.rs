//! The sweep as an object and as pages: JSON types, HTML, SVG.
//!
//! [`doc`] holds the documents of the contract (`docs/schema/{sweep,paths,findings}-v1.json`): what the coordinator writes and
//! the command line reads back. [`gather`] makes the measured part of them from windows. [`html`] turns documents into pages: pure
//! functions, nothing but text out, no resource from anywhere else.

pub mod doc;
pub mod gather;
pub mod html;
pub mod number;

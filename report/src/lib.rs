//! The sweep as an object and as pages: JSON types, HTML, SVG.

//! Reading a saved document back.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Findings, Paths, Sweep};

/// A kind of document that can be read.
pub trait Document: DeserializeOwned {
    /// What its `schema` says.
    const SCHEMA: &str;
}

impl Document for Sweep {
    const SCHEMA: &str = Self::SCHEMA;
}

impl Document for Paths {
    const SCHEMA: &str = Self::SCHEMA;
}

impl Document for Findings {
    const SCHEMA: &str = Self::SCHEMA;
}

/// Why bytes are not the document asked for.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Not JSON, cut short, or of other types than the schema's.
    #[error("no document of schema {wanted}")]
    Malformed {
        /// The schema asked for.
        wanted: &'static str,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Another document.
    #[error("its schema is {found:?}, wanted is {wanted}")]
    OtherSchema {
        /// What it says, cut to 100 characters.
        found: String,
        /// The schema asked for.
        wanted: &'static str,
    },
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    schema: String,
}

/// Reads a document; fields that this version does not know are ignored.
///
/// # Errors
/// Where it is none, or another.
pub fn from_json<D: Document>(bytes: &[u8]) -> Result<D, ReadError> {
    let wanted = D::SCHEMA;
    let malformed = |source| ReadError::Malformed { wanted, source };
    let head: Head = serde_json::from_slice(bytes).map_err(malformed)?;
    if head.schema != wanted {
        let found = head.schema.chars().take(100).collect();
        return Err(ReadError::OtherSchema { found, wanted });
    }
    serde_json::from_slice(bytes).map_err(malformed)
}

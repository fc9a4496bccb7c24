//! What outlives the hour files: how far back the store begins, and what was let go. A small JSON file, replaced as a whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::row::Counts;

const NAME: &str = "state.json";

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// Of the directory: no file in it is newer.
    pub(super) schema: u64,
    /// Windows before this minute are neither kept nor taken, so that what was counted as gone cannot come again.
    pub(super) floor: u32,
    /// Let go because of age, by agent.
    pub(super) expired: BTreeMap<String, Counts>,
    /// Let go because the store was full, by agent.
    pub(super) dropped: BTreeMap<String, Counts>,
}

/// What was found.
pub(super) enum Found {
    /// A state.
    State(State),
    /// None yet.
    Nothing,
    /// A file that is none.
    Damaged(String),
}

pub(super) fn load(dir: &Path) -> io::Result<Found> {
    let text = match fs::read(dir.join(NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        text => text?,
    };
    Ok(match parse(&text) {
        Some(state) => Found::State(state),
        None => Found::Damaged("its checksum is wrong".into()),
    })
}

/// A first line with the CRC of the rest, and JSON.
fn parse(text: &[u8]) -> Option<State> {
    let text = std::str::from_utf8(text).ok()?;
    let (sum, json) = text.split_once('\n')?;
    let sum = u32::from_str_radix(sum, 16).ok()?;
    if sum != crc32fast::hash(json.as_bytes()) {
        return None;
    }
    serde_json::from_str(json).ok()
}

/// Durable when it returns.
pub(super) fn save(dir: &Path, state: &State) -> io::Result<()> {
    let json = serde_json::to_string_pretty(state).map_err(io::Error::other)?;
    let new = dir.join("state.json.new");
    let written = File::create(&new).and_then(|mut file| {
        write!(file, "{:08x}\n{json}", crc32fast::hash(json.as_bytes()))?;
        file.sync_all()?;
        fs::rename(&new, dir.join(NAME))?;
        File::open(dir)?.sync_all()
    });
    written.inspect_err(|_| drop(fs::remove_file(&new)))
}

/// Moves a damaged one out of the way; the name it has then.
pub(super) fn set_aside(dir: &Path) -> io::Result<String> {
    let name =
        (1u32..).map(|n| format!("{NAME}.damaged-{n}")).find(|name| !dir.join(name).exists());
    let name = name.unwrap_or_default();
    fs::rename(dir.join(NAME), dir.join(&name))?;
    Ok(name)
}

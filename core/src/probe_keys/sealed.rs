//! Keys in a file: lines of text and the digest of them all, so that a file cut short or changed by a bad disk is found out.
//! Who may read the file is for whoever writes it.

use std::collections::BTreeMap;
use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::{SECRET_LEN, Secret};
use crate::path::NodeName;

/// The file is not as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not as it was written")]
pub struct Damaged;

/// One epoch, as the coordinator keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Its number.
    pub epoch: u64,
    /// When it was made, in seconds since 1970.
    pub made_unix_s: u64,
    /// What its keys are made from.
    pub secret: Secret,
}

/// What the coordinator keeps of its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyFile {
    /// The first epoch ever since the coordinator began, or lost the file; 0 in none.
    pub first: u64,
    /// The epochs whose keys may be in use, by number.
    pub generations: Vec<Generation>,
}

const HEAD: &str = "railgauge probe key secrets 1";

impl KeyFile {
    /// As text.
    pub fn write(&self) -> String {
        let lines = self.generations.iter().map(|generation| {
            let Generation { epoch, made_unix_s, secret } = generation;
            format!("{epoch} {made_unix_s} {}", hex(secret))
        });
        seal(HEAD, std::iter::once(format!("first {}", self.first)).chain(lines))
    }

    /// From text.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn read(text: &[u8]) -> Result<Self, Damaged> {
        let mut lines = open(HEAD, text)?;
        let ["first", first] = fields(lines.next().ok_or(Damaged)?)? else { return Err(Damaged) };
        let mut file = Self { first: number(first)?, generations: Vec::new() };
        for line in lines {
            let [epoch, made_unix_s, secret] = fields(line)?;
            let (epoch, made_unix_s) = (number(epoch)?, number(made_unix_s)?);
            file.generations.push(Generation { epoch, made_unix_s, secret: unhex(secret)? });
        }
        file.generations.sort_unstable_by_key(|generation| generation.epoch);
        file.generations.dedup_by_key(|generation| generation.epoch);
        Ok(file)
    }
}

const PROBERS: &str = "railgauge holders of probe keys 1";

/// The text of a file that says who may probe with keys: names, and the identities of their agents.
pub fn write_probers(probers: &BTreeMap<NodeName, Vec<u8>>) -> String {
    seal(PROBERS, probers.iter().map(|(name, identity)| format!("{name} {}", digits(identity))))
}

/// What is in it.
///
/// # Errors
/// When it is damaged.
pub fn read_probers(text: &[u8]) -> Result<BTreeMap<NodeName, Vec<u8>>, Damaged> {
    let mut probers = BTreeMap::new();
    for line in open(PROBERS, text)? {
        let [name, identity] = fields(line)?;
        let name = NodeName::new(name).map_err(|_| Damaged)?;
        let octets = identity.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).map_err(|_| Damaged)?;
            u8::from_str_radix(pair, 16).map_err(|_| Damaged)
        });
        probers.insert(name, octets.collect::<Result<_, _>>()?);
    }
    Ok(probers)
}

pub(super) fn seal(head: &str, lines: impl Iterator<Item = String>) -> String {
    let mut text = format!("{head}\n");
    lines.for_each(|line| text += &format!("{line}\n"));
    let sum = sum(&text);
    text + &sum
}

pub(super) fn open<'a>(
    head: &str,
    text: &'a [u8],
) -> Result<impl Iterator<Item = &'a str>, Damaged> {
    let text = std::str::from_utf8(text).map_err(|_| Damaged)?;
    let (body, last) = text.trim_end().rsplit_once('\n').ok_or(Damaged)?;
    let body = text.get(..=body.len()).ok_or(Damaged)?;
    if format!("{last}\n") != sum(body) {
        return Err(Damaged);
    }
    let mut lines = body.lines();
    if lines.next() == Some(head) { Ok(lines) } else { Err(Damaged) }
}

fn sum(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    format!("sha256 {}\n", digits(&digest))
}

pub(super) fn fields<const N: usize>(line: &str) -> Result<[&str; N], Damaged> {
    let fields: Vec<&str> = line.split(' ').collect();
    fields.try_into().map_err(|_| Damaged)
}

pub(super) fn number(field: &str) -> Result<u64, Damaged> {
    field.parse().map_err(|_| Damaged)
}

pub(super) fn hex(secret: &Secret) -> String {
    digits(secret.octets())
}

fn digits(octets: &[u8]) -> String {
    let mut text = String::with_capacity(2 * octets.len());
    for octet in octets {
        // Writing to a string does not fail.
        let _ = write!(text, "{octet:02x}");
    }
    text
}

pub(super) fn unhex(field: &str) -> Result<Secret, Damaged> {
    let mut octets = [0; SECRET_LEN];
    if field.len() != 2 * SECRET_LEN || !field.is_ascii() {
        return Err(Damaged);
    }
    for (index, octet) in octets.iter_mut().enumerate() {
        *octet = u8::from_str_radix(&field[2 * index..2 * index + 2], 16).map_err(|_| Damaged)?;
    }
    Ok(Secret::new(octets))
}

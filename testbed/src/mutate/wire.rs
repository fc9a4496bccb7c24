//! Changes to messages field by field, which reach further than changes to octets: lengths stay right, so that what
//! stands behind a change is still read.

use super::{Mutator, NUMBERS};

/// Messages within messages that are followed.
const DEEPEST: usize = 8;

struct Field {
    number: u64,
    value: Value,
}

enum Value {
    Varint(u64),
    Fixed64(u64),
    Octets(Vec<u8>),
    Fixed32(u32),
}

impl Mutator {
    /// `message`, as protobuf encodes it, with one to four fields changed, left out, repeated or moved. What is no message
    /// is changed octet by octet.
    pub fn mutate_message(&mut self, message: &[u8]) -> Vec<u8> {
        let mut out = message.to_vec();
        for _ in 0..=self.below(4) {
            out = self.change_message(&out, DEEPEST);
        }
        out
    }

    fn change_message(&mut self, octets: &[u8], deepest: usize) -> Vec<u8> {
        let Some(mut fields) = parse(octets).filter(|fields| !fields.is_empty()) else {
            return self.mutate(octets);
        };
        let at = self.below(fields.len());
        match self.below(12) {
            0 => drop(fields.remove(at)),
            1 => {
                let other = self.below(fields.len());
                fields.swap(at, other);
            }
            2 => {
                let again = Field { number: fields[at].number, value: fields[at].value.copy() };
                fields.push(again);
            }
            3 if deepest < DEEPEST => fields[at].number = 1 + self.below(16) as u64,
            _ => self.change_value(&mut fields[at].value, deepest),
        }
        write(&fields)
    }

    fn change_value(&mut self, value: &mut Value, deepest: usize) {
        match value {
            Value::Varint(n) | Value::Fixed64(n) => *n = self.number_near(*n),
            Value::Fixed32(n) => {
                *n = u32::try_from(self.number_near(u64::from(*n)) >> 32).unwrap_or(0);
            }
            Value::Octets(octets) if deepest > 0 && self.below(8) > 0 => {
                *octets = self.change_message(octets, deepest - 1);
            }
            Value::Octets(octets) => *octets = self.mutate(octets),
        }
    }

    fn number_near(&mut self, n: u64) -> u64 {
        match self.below(4) {
            0 => n.wrapping_add(1),
            1 => n ^ (1 << self.below(64)),
            _ => NUMBERS[self.below(NUMBERS.len())],
        }
    }
}

impl Value {
    fn copy(&self) -> Self {
        match self {
            Self::Varint(n) => Self::Varint(*n),
            Self::Fixed64(n) => Self::Fixed64(*n),
            Self::Octets(octets) => Self::Octets(octets.clone()),
            Self::Fixed32(n) => Self::Fixed32(*n),
        }
    }
}

fn parse(mut octets: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !octets.is_empty() {
        let tag = varint(&mut octets)?;
        let value = match tag & 7 {
            0 => Value::Varint(varint(&mut octets)?),
            1 => {
                let (n, rest) = octets.split_first_chunk()?;
                octets = rest;
                Value::Fixed64(u64::from_le_bytes(*n))
            }
            2 => {
                let length = usize::try_from(varint(&mut octets)?).ok()?;
                let (value, rest) = octets.split_at_checked(length)?;
                octets = rest;
                Value::Octets(value.to_vec())
            }
            5 => {
                let (n, rest) = octets.split_first_chunk()?;
                octets = rest;
                Value::Fixed32(u32::from_le_bytes(*n))
            }
            _ => return None,
        };
        fields.push(Field { number: tag >> 3, value });
    }
    Some(fields)
}

fn varint(octets: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (&octet, rest) = octets.split_first()?;
        *octets = rest;
        number |= u64::from(octet & 0x7f) << shift;
        if octet < 0x80 {
            return Some(number);
        }
    }
    None
}

fn write(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for Field { number, value } in fields {
        let tag = number << 3;
        match value {
            Value::Varint(n) => {
                write_varint(tag, &mut out);
                write_varint(*n, &mut out);
            }
            Value::Fixed64(n) => {
                write_varint(tag | 1, &mut out);
                out.extend(n.to_le_bytes());
            }
            Value::Octets(octets) => {
                write_varint(tag | 2, &mut out);
                write_varint(octets.len() as u64, &mut out);
                out.extend(octets);
            }
            Value::Fixed32(n) => {
                write_varint(tag | 5, &mut out);
                out.extend(n.to_le_bytes());
            }
        }
    }
    out
}

fn write_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

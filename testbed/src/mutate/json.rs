//! Changes to JSON value by value.

use serde_json::{Value, json};

use super::{Mutator, NUMBERS};

/// Texts that ought to stay texts on a page.
const TEXTS: [&str; 6] =
    ["", "<script>alert(1)</script>", "\" onload=\"x", "\u{202e}\0\n", "failed", "p99.9"];

impl Mutator {
    /// `text` with one to four values changed, left out or repeated. What is no JSON is changed octet by octet.
    pub fn mutate_json(&mut self, text: &[u8]) -> Vec<u8> {
        let Ok(mut value) = serde_json::from_slice(text) else { return self.mutate(text) };
        for _ in 0..=self.below(4) {
            self.change_json(&mut value);
        }
        serde_json::to_vec(&value).unwrap_or_default()
    }

    fn change_json(&mut self, value: &mut Value) {
        let leave = self.below(8);
        match value {
            Value::Array(items) if !items.is_empty() => {
                let at = self.below(items.len());
                match leave {
                    0 => drop(items.remove(at)),
                    1 => items.push(items[at].clone()),
                    2 => *value = self.scalar(),
                    _ => self.change_json(&mut items[at]),
                }
            }
            Value::Object(fields) if !fields.is_empty() => {
                let at = self.below(fields.len());
                let Some(key) = fields.keys().nth(at).cloned() else { return };
                match leave {
                    0 => drop(fields.remove(&key)),
                    1 => {
                        let other = self.below(fields.len());
                        let other = fields.values().nth(other).cloned();
                        fields.insert(key, other.unwrap_or_default());
                    }
                    _ => {
                        if let Some(field) = fields.get_mut(&key) {
                            self.change_json(field);
                        }
                    }
                }
            }
            _ => *value = self.scalar(),
        }
    }

    fn scalar(&mut self) -> Value {
        match self.below(8) {
            0 => Value::Null,
            1 => json!([]),
            2 => json!({}),
            3 => json!(-1),
            4 => json!([1e308, -1e308, 5e-324, 0.5][self.below(4)]),
            5 => json!(TEXTS[self.below(TEXTS.len())]),
            _ => json!(NUMBERS[self.below(NUMBERS.len())]),
        }
    }
}

//! Which nodes are meant: `gpu-*,rack=r12`.
//!
//! A selector is a list of pieces with commas between them. A comma means **or**: a node is selected when any piece matches
//! it, so a longer list never selects less. A piece is a name glob (`gpu-0?`) or `label=value`, where the value may
//! be a glob too. In a glob `*` stands for any run of characters, none included, and `?` for exactly one; it matches
//! the whole of a name, and case matters. The empty selector selects every node.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Why a text is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Nothing between two commas, or before the first, or after the last.
    #[error("piece {number} of {text:?} is empty: take out the comma too many")]
    Empty {
        /// Which piece, from 1.
        number: usize,
        /// The whole, cut to 300 characters.
        text: String,
    },
    /// A character that no node has in its name.
    #[error(
        "{piece:?} matches no node: a name has no {character:?}; write names or globs of A-Z a-z 0-9 . _ - * ?, or label=value, with commas between"
    )]
    Name {
        /// The piece, cut to 300 characters.
        piece: String,
        /// The first that does not belong.
        character: char,
    },
    /// `=value`, or a label with a character that labels do not have.
    #[error(
        "{piece:?} has no label before its '=': write label=value, the label of A-Z a-z 0-9 . _ - / and without globs"
    )]
    Label {
        /// The piece, cut to 300 characters.
        piece: String,
    },
    /// `label=`, or a second `=`.
    #[error(
        "{piece:?} has no value after its '=': write {label}=VALUE, or {label}=* for any value"
    )]
    Value {
        /// The piece, cut to 300 characters.
        piece: String,
        /// What is before the `=`.
        label: String,
    },
}

/// Name globs and `label=value`, any of which selects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    pieces: Vec<Piece>,
}

/// One of a selector's alternatives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A glob that the name must match.
    Name(String),
    /// A label that must be there, with a value that must match the glob.
    Label {
        /// The label's name, taken literally.
        label: String,
        /// What its value must match.
        value: String,
    },
}

impl Selector {
    /// From text; blanks around pieces do not matter.
    ///
    /// # Errors
    /// Where a piece is empty or could never match; the sentence names it and the way out.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let pieces = text.split(',').map(str::trim).enumerate().map(|(index, piece)| {
            if piece.is_empty() {
                return Err(SelectorError::Empty { number: index + 1, text: cut(text) });
            }
            Piece::parse(piece)
        });
        Ok(Self { pieces: pieces.collect::<Result<_, _>>()? })
    }

    /// Whether the node of that name and those labels is selected.
    pub fn matches(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.selects_all() || self.pieces.iter().any(|piece| piece.matches(name, labels))
    }

    /// Whether there is no piece, which selects every node.
    pub fn selects_all(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The pieces, so that a caller can say which of them selected nothing.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        Self::parse(text)
    }
}

impl Piece {
    fn parse(piece: &str) -> Result<Self, SelectorError> {
        let Some((label, value)) = piece.split_once('=') else {
            let foreign = |c: &char| !(c.is_ascii_alphanumeric() || "._-*?".contains(*c));
            return match piece.chars().find(foreign) {
                Some(character) => Err(SelectorError::Name { piece: cut(piece), character }),
                None => Ok(Self::Name(piece.into())),
            };
        };
        let (label, value) = (label.trim_end(), value.trim_start());
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        if label.is_empty() || !label.chars().all(allowed) {
            return Err(SelectorError::Label { piece: cut(piece) });
        }
        if value.is_empty() || value.contains('=') {
            return Err(SelectorError::Value { piece: cut(piece), label: cut(label) });
        }
        Ok(Self::Label { label: label.into(), value: value.into() })
    }

    /// Whether the node of that name and those labels is selected by this piece alone.
    pub fn matches(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Name(glob) => glob_matches(glob, name),
            Self::Label { label, value } => {
                labels.get(label).is_some_and(|there| glob_matches(value, there))
            }
        }
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(glob) => f.write_str(glob),
            Self::Label { label, value } => write!(f, "{label}={value}"),
        }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(300).collect()
}

/// In time glob x text at most: after a mismatch only the last `*` takes one character more, which is enough, since
/// whatever an earlier one could take instead, the last can take too.
fn glob_matches(glob: &str, text: &str) -> bool {
    let (glob, text): (Vec<char>, Vec<char>) = (glob.chars().collect(), text.chars().collect());
    let (mut g, mut t) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    while t < text.len() {
        match glob.get(g) {
            Some('*') => {
                last_star = Some((g, t));
                g += 1;
            }
            Some(&c) if c == '?' || c == text[t] => (g, t) = (g + 1, t + 1),
            _ => {
                let Some((star, taken)) = last_star else { return false };
                last_star = Some((star, taken + 1));
                (g, t) = (star + 1, taken + 1);
            }
        }
    }
    glob[g..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(label, value)| ((*label).into(), (*value).into())).collect()
    }

    fn error(text: &str) -> String {
        Selector::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_comma_means_or() {
        let selector = Selector::parse("gpu-0?, rack=r1*").unwrap();
        let here = labels(&[("rack", "r12")]);
        let elsewhere = labels(&[("rack", "r2")]);
        assert!(selector.matches("gpu-07", &elsewhere));
        assert!(selector.matches("cpu-1", &here));
        assert!(selector.matches("gpu-07", &here));
        assert!(!selector.matches("cpu-1", &elsewhere));
        assert!(!selector.matches("gpu-017", &labels(&[])));
        let pieces: Vec<_> = selector.pieces().iter().map(ToString::to_string).collect();
        assert_eq!(pieces, ["gpu-0?", "rack=r1*"]);
    }

    #[test]
    fn a_glob_matches_the_whole_name_and_case_matters() {
        let none = labels(&[]);
        let matches = |text: &str, name| Selector::parse(text).unwrap().matches(name, &none);
        assert!(matches("gpu-1", "gpu-1"));
        assert!(!matches("gpu-1", "gpu-10"));
        assert!(!matches("pu-1", "gpu-1"));
        assert!(!matches("GPU-1", "gpu-1"));
        assert!(matches("*-1*1", "gpu-1-11"));
        assert!(!matches("a=*", "a"));
    }

    #[test]
    fn the_empty_selector_selects_all() {
        for text in ["", "  "] {
            let selector: Selector = text.parse().unwrap();
            assert!(selector.selects_all() && selector.matches("any", &labels(&[])));
        }
    }

    #[test]
    fn errors_name_the_piece_and_the_way_out() {
        assert_eq!(
            error("gpu-1,,gpu-2"),
            r#"piece 2 of "gpu-1,,gpu-2" is empty: take out the comma too many"#
        );
        assert!(error("gpu-1,").starts_with("piece 2 of"));
        let name = error("gpu-1 gpu-2");
        assert!(name.starts_with(r#""gpu-1 gpu-2" matches no node: a name has no ' '"#), "{name}");
        assert!(error("gpu-[12]").contains("a name has no '['"));
        for text in ["=r1", "r*=1", "rack!=r1"] {
            let sentence = error(text);
            assert!(sentence.contains("has no label before its '='"), "{sentence}");
        }
        for text in ["rack=", "rack==r1"] {
            assert!(error(text).contains("write rack=VALUE, or rack=* for any value"));
        }
        assert!(error(&"é".repeat(100_000)).len() < 1_000);
    }

    #[test]
    fn a_glob_made_to_backtrack_is_quick() {
        let glob = "*a".repeat(120) + "b";
        assert!(!glob_matches(&glob, &"a".repeat(253)));
    }

    /// By definition, in exponential time.
    fn reference(glob: &[char], text: &[char]) -> bool {
        match (glob.split_first(), text.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), _) => (0..=text.len()).any(|n| reference(rest, &text[n..])),
            (Some((g, glob)), Some((t, text))) => (*g == '?' || g == t) && reference(glob, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn globs_are_as_defined(glob in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(glob_matches(&glob, &text), reference(&chars(&glob), &chars(&text)));
        }

        #[test]
        fn nothing_panics(text in any::<String>(), name in any::<String>()) {
            if let Ok(selector) = Selector::parse(&text) {
                selector.matches(&name, &BTreeMap::new());
            }
        }
    }
}

use std::fmt;

/// One breach of a house rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    /// Path relative to the root.
    pub path: String,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub wrong: String,
    /// What to do instead.
    pub instead: String,
}

impl Complaint {
    /// A complaint about the line with index `index` (from 0) of `path`.
    pub fn at(
        path: &str,
        index: usize,
        wrong: impl Into<String>,
        instead: impl Into<String>,
    ) -> Self {
        Self {
            path: path.to_owned(),
            line: index + 1,
            wrong: wrong.into(),
            instead: instead.into(),
        }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}; {}", self.path, self.line, self.wrong, self.instead)
    }
}

//! What has been said already: an agent that meets the same trouble every second logs it once.

/// Texts remembered; more kinds of trouble than these take turns in being forgotten.
const MOST: usize = 8;

/// Characters of what others say that are kept.
const LONGEST: usize = 200;

/// Texts that were said since all was well.
#[derive(Debug, Default)]
pub struct Said {
    texts: Vec<String>,
}

impl Said {
    /// Whether this was not said before; it has been now.
    pub fn is_news(&mut self, text: &str) -> bool {
        if self.texts.iter().any(|said| said == text) {
            return false;
        }
        if self.texts.len() >= MOST {
            self.texts.remove(0);
        }
        self.texts.push(text.to_owned());
        true
    }

    /// All is well again: what comes next is news.
    pub fn forget(&mut self) {
        self.texts.clear();
    }
}

/// What another machine said, fit for one line of a log.
pub fn printable(text: &str) -> String {
    let kept = text.chars().take(LONGEST);
    kept.map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once() {
        let mut said = Said::default();
        assert!(said.is_news("a") && said.is_news("b"));
        assert!(!said.is_news("a") && !said.is_news("b"));
        for n in 0..MOST {
            assert!(said.is_news(&n.to_string()));
        }
        assert!(said.is_news("a"), "it is long ago");
        said.forget();
        assert!(said.is_news("a"));
    }

    #[test]
    fn others_write_one_short_line() {
        assert_eq!(printable("a\nb\u{1b}[31m"), "a b [31m");
        assert_eq!(printable(&"x".repeat(1000)).len(), LONGEST);
    }
}

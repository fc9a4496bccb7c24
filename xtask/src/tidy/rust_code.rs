//! Rust source with everything that is not code blanked out, so that words in comments and strings do not count.

/// `text` with comments, string contents and character literals replaced by blanks; every line keeps its number.
///
/// Enough of Rust's lexical grammar for that (nested block comments, raw strings, lifetimes that are no
/// characters); on what it does not know it errs by keeping the text.
pub fn without_comments_and_strings(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skipped(&chars, at);
        if end == at {
            code.push(chars[at]);
            at += 1;
            continue;
        }
        code.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    code
}

/// Where the comment or literal that starts at `at` ends; `at` itself when none starts there.
fn skipped(chars: &[char], at: usize) -> usize {
    let next = chars.get(at + 1).copied();
    match (chars[at], next) {
        ('/', Some('/')) => find(chars, at, |rest| rest[0] == '\n'),
        ('/', Some('*')) => block_comment(chars, at),
        ('"', _) => string(chars, at),
        ('r', Some('"' | '#')) if !continues_a_word(chars, at) => raw_string(chars, at),
        ('\'', Some('\\')) => find(chars, at + 3, |rest| rest[0] == '\'') + 1,
        ('\'', Some(_)) if chars.get(at + 2) == Some(&'\'') => at + 3,
        _ => at,
    }
    .min(chars.len())
}

fn continues_a_word(chars: &[char], at: usize) -> bool {
    // `br"…"` is a raw string too; any other letter before the r makes it part of a name.
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_') && chars[at - 1] != 'b'
}

fn find(chars: &[char], from: usize, here: impl Fn(&[char]) -> bool) -> usize {
    (from..chars.len()).find(|at| here(&chars[*at..])).unwrap_or(chars.len())
}

fn block_comment(chars: &[char], at: usize) -> usize {
    let mut depth = 0;
    let mut at = at;
    while at < chars.len() {
        match chars[at..] {
            ['/', '*', ..] => depth += 1,
            ['*', '/', ..] => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    at
}

fn string(chars: &[char], at: usize) -> usize {
    let mut at = at + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

fn raw_string(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    let open = at + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return at; // a raw identifier such as r#type
    }
    let closes = |rest: &[char]| {
        rest[0] == '"' && rest[1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
    };
    find(chars, open + 1, closes) + 1 + hashes
}

/// Whether `word` stands in `line` with no letter, digit or underscore touching it.
pub fn has_word(line: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(part_of_word) && !line[at + word.len()..].starts_with(part_of_word)
    })
}

#[cfg(test)]
mod tests {
    use super::{has_word, without_comments_and_strings};

    fn keeps(text: &str, expected: &str) {
        let code = without_comments_and_strings(text);
        let words: Vec<_> = code.split_whitespace().collect();
        assert_eq!(words.join(" "), expected, "of {text}");
        assert_eq!(code.lines().count(), text.lines().count());
    }

    #[test]
    fn comments_and_literals_go_code_stays() {
        keeps("let a = 1; // unsafe", "let a = 1;");
        keeps("/* a /* nested */ unsafe */ b", "b");
        keeps("f(\"un\\\"safe\", x)", "f( , x)");
        keeps("f(r#\"a\"unsafe\"#, x)", "f( , x)");
        keeps("let c = '\"'; unsafe {}", "let c = ; unsafe {}");
        keeps("let c = '\\''; y", "let c = ; y");
        keeps("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}");
        keeps("let r#type = 1;\nnext", "let r#type = 1; next");
    }

    #[test]
    fn unfinished_literals_end_with_the_text() {
        for text in ["\"abc", "/* abc", "r#\"abc", "'\\", "// abc"] {
            assert_eq!(without_comments_and_strings(text).trim(), "", "of {text}");
        }
    }

    #[test]
    fn words_are_whole_words() {
        assert!(has_word("pub unsafe fn f()", "unsafe"));
        assert!(!has_word("#![allow(unsafe_code)]", "unsafe"));
        assert!(!has_word("my_unsafe = 1", "unsafe"));
    }
}

//! Where `unsafe` may be, and that each one is argued.

use super::{complaint::Complaint, rust_code::has_word};

/// The places where code the compiler cannot check is allowed.
const HOMES: &[&str] = &["fabric/", "testbed/standin-"];

/// How many lines above an `unsafe` its argument may start: a paragraph, not a page.
const ARGUMENT_WITHIN: usize = 12;

/// Complaints about `unsafe` in one Rust file; `code` is `text` without comments and strings.
pub fn check(path: &str, text: &str, code: &str) -> Vec<Complaint> {
    let lines: Vec<&str> = text.lines().collect();
    let unsafe_lines = code.lines().enumerate().filter(|(_, line)| has_word(line, "unsafe"));
    unsafe_lines.filter_map(|(at, line)| complain(path, &lines, at, only_types(line))).collect()
}

/// Whether each `unsafe` of a line belongs to the type of a function pointer: naming a type runs nothing, calling does.
fn only_types(line: &str) -> bool {
    line.split("unsafe").skip(1).all(|rest| {
        let rest = rest.trim_start();
        // The name of the ABI is a string, and blanked.
        rest.strip_prefix("extern").unwrap_or(rest).trim_start().starts_with("fn(")
    })
}

fn complain(path: &str, lines: &[&str], at: usize, only_types: bool) -> Option<Complaint> {
    if !HOMES.iter().any(|home| path.starts_with(home)) {
        let instead = "move it behind a safe function of fabric, the only home of unsafe code";
        return Some(Complaint::at(path, at, "unsafe code outside fabric", instead));
    }
    if only_types {
        return None;
    }
    let near = &lines[at.saturating_sub(ARGUMENT_WITHIN)..=at];
    let argued = near.iter().any(|line| line.contains("SAFETY:") || line.contains("# Safety"));
    let instead = "say above it in a `// SAFETY:` comment (`# Safety` for a fn) why it is sound";
    (!argued).then(|| Complaint::at(path, at, "unsafe without an argument", instead))
}

#[cfg(test)]
mod tests {
    use super::super::check_file;

    fn complaints(path: &str, text: &str) -> Vec<String> {
        check_file(path, text).iter().map(|c| format!("{}: {}", c.line, c.wrong)).collect()
    }

    #[test]
    fn unsafe_has_one_home() {
        let argued = "// SAFETY: nothing is read\nlet x = unsafe { f() };\n";
        assert!(complaints("fabric/src/a.rs", argued).is_empty());
        assert!(complaints("testbed/standin-cuda/src/a.rs", argued).is_empty());
        assert_eq!(complaints("agent/src/a.rs", argued), ["2: unsafe code outside fabric"]);
        assert!(complaints("agent/src/a.rs", "// unsafe is for fabric\n").is_empty());
    }

    #[test]
    fn the_type_of_a_function_needs_no_argument() {
        let table = "struct T { f: unsafe extern \"C\" fn(i32) -> i32, g: Option<unsafe fn()> }\n";
        assert!(complaints("fabric/a.rs", table).is_empty());
        assert_eq!(complaints("agent/a.rs", table), ["1: unsafe code outside fabric"]);
        let definition = "unsafe extern \"C\" fn f() {}\n";
        assert_eq!(complaints("fabric/a.rs", definition), ["1: unsafe without an argument"]);
        let call = "type F = unsafe fn(); fn g(f: F) { unsafe { f() } }\n";
        assert_eq!(complaints("fabric/a.rs", call), ["1: unsafe without an argument"]);
    }

    #[test]
    fn unsafe_is_argued_nearby() {
        assert_eq!(
            complaints("fabric/a.rs", "\nunsafe { f() }\n"),
            ["2: unsafe without an argument"]
        );
        let far = format!("// SAFETY: far away\n{}unsafe {{ f() }}\n", "\n".repeat(12));
        assert_eq!(complaints("fabric/a.rs", &far), ["14: unsafe without an argument"]);
        assert!(
            complaints("fabric/a.rs", "/// # Safety\n/// p is valid\nunsafe fn f() {}\n")
                .is_empty()
        );
    }
}

//! Rules on the text of files: no machine of ours in it, no marker of unfinished work, no file too long to read.

use super::{complaint::Complaint, rust_code::has_word};

// Put together from halves, or this file would complain about itself.
const MACHINE_DIRECTORIES: &[&str] =
    &[concat!("/wor", "k/"), concat!("/roo", "t/"), concat!("/far", "m"), concat!("/hom", "e/")];
const REGISTRY_HOSTS: &[&str] = &[
    concat!("artif", "actory"),
    concat!("jfr", "og.io"),
    concat!("index.cra", "tes.io"),
    concat!("static.cra", "tes.io"),
    concat!("files.python", "hosted.org"),
    concat!("registry.npm", "js.org"),
    concat!("deb.deb", "ian.org"),
];
const MARKERS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// A Rust file longer than this is split.
const MOST_LINES: usize = 600;

/// Rust files that may be longer, with the length they may have. This list only gets shorter.
const LONG_FILES: &[(&str, usize)] = &[];

/// Complaints about any text file. `LICENSE` is not ours to judge, nor what other programs wrote (`Cargo.lock`).
pub fn check(path: &str, text: &str) -> Vec<Complaint> {
    if path == "LICENSE" || path.ends_with("Cargo.lock") {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let mut complain = |wrong: String, instead: &str| {
            complaints.push(Complaint::at(path, at, wrong, instead));
        };
        if let Some(found) = machine_path(line) {
            complain(format!("path `{found}` of one machine"), "make it relative, or an argument");
        }
        if let Some(host) = REGISTRY_HOSTS.iter().find(|host| line.contains(**host)) {
            complain(format!("registry host `{host}`"), "name the package; the client knows where");
        }
        if let Some(marker) = MARKERS.iter().find(|marker| has_word(line, marker)) {
            complain(format!("marker `{marker}`"), "do it now, or open an issue and drop the line");
        }
    }
    complaints
}

/// A directory of a build machine at the start of a path in `line`.
fn machine_path(line: &str) -> Option<&'static str> {
    let starts_a_path =
        |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "_-./}*".contains(c));
    MACHINE_DIRECTORIES
        .iter()
        .copied()
        .find(|directory| line.match_indices(directory).any(|(at, _)| starts_a_path(at)))
}

/// Complaints about one Rust file, given without comments and strings. What is generated is read by no one.
pub fn check_rust(path: &str, code: &str) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    if path.starts_with(crate::wire::DIRECTORY) {
        return complaints;
    }
    for (at, line) in code.lines().enumerate() {
        if line.replace(' ', "").contains("#[ignore]") {
            let instead = "say what it needs: #[ignore = \"needs …\"]";
            complaints.push(Complaint::at(path, at, "a test ignored without a reason", instead));
        }
    }
    complaints.extend(check_length(path, code.lines().count(), LONG_FILES));
    complaints
}

fn check_length(path: &str, lines: usize, exceptions: &[(&str, usize)]) -> Option<Complaint> {
    let exception = exceptions.iter().find(|(long, _)| *long == path).map(|(_, most)| *most);
    let most = exception.unwrap_or(MOST_LINES);
    if lines > most {
        let wrong = format!("{lines} lines where {most} are the most");
        return Some(Complaint::at(
            path,
            most,
            wrong,
            "split the file by what its parts are about",
        ));
    }
    let needless = exception.is_some() && lines <= MOST_LINES;
    let instead = "take it off LONG_FILES in xtask/src/tidy/texts.rs";
    needless.then(|| Complaint::at(path, 0, "listed as long, and is not", instead))
}

/// Complaints about exceptions for files that are gone.
pub fn stale_length_exceptions(files: &[String]) -> Vec<Complaint> {
    let gone = LONG_FILES.iter().filter(|(path, _)| !files.iter().any(|file| file == path));
    gone.map(|(path, _)| {
        let instead = "take it off LONG_FILES in xtask/src/tidy/texts.rs";
        Complaint::at(path, 0, "listed as long, and gone", instead)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> Vec<String> {
        check("docs/a.md", text).into_iter().map(|complaint| complaint.wrong).collect()
    }

    #[test]
    fn machine_paths_and_registry_hosts_are_found() {
        for directory in MACHINE_DIRECTORIES {
            assert_eq!(wrong(&format!("see `{directory}x/y`")).len(), 1, "{directory}");
            assert!(wrong(&format!("some/where{directory}x")).is_empty(), "{directory}");
        }
        for host in REGISTRY_HOSTS {
            assert_eq!(wrong(&format!("https://{host}/a")).len(), 1, "{host}");
        }
    }

    #[test]
    fn markers_are_whole_words() {
        assert_eq!(wrong(&format!("// {}: later", MARKERS[0])).len(), 1);
        assert!(wrong(&format!("mktemp a.{0}{0}", MARKERS[2])).is_empty());
    }

    #[test]
    fn an_ignored_test_says_why() {
        assert_eq!(check_rust("a.rs", "#[test]\n#[ignore]\nfn f() {}")[0].line, 2);
        assert!(check_rust("a.rs", "#[ignore = ]").is_empty());
    }

    #[test]
    fn long_files_only_shrink() {
        let listed = [("a.rs", 700)];
        assert!(check_length("a.rs", 700, &listed).is_none());
        assert!(check_length("a.rs", 701, &listed).is_some());
        assert!(check_length("b.rs", 601, &listed).is_some());
        assert!(check_length("b.rs", 600, &listed).is_none());
        assert!(check_length("a.rs", 600, &listed).unwrap().wrong.contains("is not"));
    }
}

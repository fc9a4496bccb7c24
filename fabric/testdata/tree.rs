//! Unpacks a recorded tree (`*.tree`, see README.md) below a directory of its own, removed with the value.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub struct RecordedTree {
    pub directory: PathBuf,
}

impl RecordedTree {
    pub fn empty() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("railgauge-tree-{}-{number}", std::process::id());
        // Thousands of small files: memory where there is some, else wherever temporary files go.
        let memory = Path::new("/dev/shm").join(&name);
        let directory = match fs::create_dir(&memory) {
            Ok(()) => memory,
            Err(_) => std::env::temp_dir().join(&name),
        };
        fs::create_dir_all(directory.join("sys")).unwrap();
        fs::create_dir_all(directory.join("proc")).unwrap();
        Self { directory }
    }

    pub fn unpack(kind: &str) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fabric/testdata").join(kind);
        let text = fs::read_to_string(file.with_extension("tree")).unwrap();
        let tree = Self::empty();
        tree.add(&text);
        tree
    }

    /// Adds the entries of tree text.
    pub fn add(&self, text: &str) {
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            self.put_all(line);
        }
    }

    /// One line, once for each number of the `{a-b}` in its path.
    fn put_all(&self, line: &str) {
        let Some((before, rest)) = line.split_once('{') else { return self.put(line) };
        let (range, after) = rest.split_once('}').unwrap();
        let (first, last) = range.split_once('-').unwrap();
        for n in first.parse::<i64>().unwrap()..=last.parse().unwrap() {
            self.put(&substitute(&format!("{before}{n}{after}"), n));
        }
    }

    fn put(&self, line: &str) {
        let mut parts = line.splitn(3, ' ');
        let (kind, path) = (parts.next().unwrap(), parts.next().unwrap());
        let value = parts.next().unwrap_or("");
        let path = self.directory.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match kind {
            "f" => fs::write(path, unescape(value)).unwrap(),
            "l" => symlink(value, path).unwrap(),
            "d" | "e" => fs::create_dir_all(path).unwrap(),
            _ => panic!("line {line:?} begins with none of f, l, d, e"),
        }
    }
}

impl Drop for RecordedTree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// `{n}`, `{n+112}`, `{n-112}`.
fn substitute(line: &str, n: i64) -> String {
    let mut pieces = line.split("{n");
    let mut whole = pieces.next().unwrap().to_owned();
    for piece in pieces {
        let (offset, rest) = piece.split_once('}').unwrap();
        let offset = if offset.is_empty() { 0 } else { offset.parse::<i64>().unwrap() };
        whole.push_str(&(n + offset).to_string());
        whole.push_str(rest);
    }
    whole
}

/// `\n`, `\t`, `\\`, `\xNN`.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next().unwrap() {
            b'n' => b'\n',
            b't' => b'\t',
            b'x' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            other => other,
        });
    }
    bytes
}

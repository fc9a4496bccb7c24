//! Bounded reads below a given root. Every failure is a sentence that names the file as it is called on a
//! running machine, so that a recorded tree and the machine it came from read alike.

use super::Reading;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{cell::RefCell, cmp::Ordering};

/// A sysfs attribute is at most one page (Documentation/filesystems/sysfs.rst), 64 KiB on the largest.
const ATTRIBUTE_MAX: u64 = 64 << 10;
/// More entries than any machine has CPUs or PCI functions; a directory beyond it is cut and named.
const ENTRIES_MAX: usize = 16_384;
/// What a sentence quotes of unexpected content.
const QUOTE_MAX: usize = 40;

/// Where sysfs and procfs are. The default is this machine's; a recorded tree has others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// Directory that holds `class`, `devices`, `bus`.
    pub sysfs: PathBuf,
    /// Directory that holds `cpuinfo`, `sys`, `self`.
    pub procfs: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { sysfs: PathBuf::from("/sys"), procfs: PathBuf::from("/proc") }
    }
}

impl Roots {
    /// Whether these describe the running machine, so that its devices may be asked by system call too.
    pub fn is_live(&self) -> bool {
        *self == Self::default()
    }
}

/// One root, with a list of what had to be left out of listings.
#[derive(Debug)]
pub(crate) struct Tree {
    root: PathBuf,
    label: &'static str,
    left_out: RefCell<Vec<String>>,
}

impl Tree {
    pub(crate) fn sysfs(roots: &Roots) -> Self {
        Self { root: roots.sysfs.clone(), label: "/sys", left_out: RefCell::default() }
    }

    pub(crate) fn procfs(roots: &Roots) -> Self {
        Self { root: roots.procfs.clone(), label: "/proc", left_out: RefCell::default() }
    }

    /// Entries that no field could show: one sentence each.
    pub(crate) fn left_out(self) -> Vec<String> {
        self.left_out.into_inner()
    }

    /// The file's name on a running machine.
    pub(crate) fn name(&self, path: &str) -> String {
        format!("{}/{path}", self.label)
    }

    /// The whole file as text without surrounding white space.
    pub(crate) fn text(&self, path: &str) -> Reading<String> {
        match self.read(path, ATTRIBUTE_MAX) {
            Ok((_, true)) => Reading::Failed(format!(
                "{} is longer than {ATTRIBUTE_MAX} bytes, which no attribute is; not read",
                self.name(path)
            )),
            Ok((bytes, false)) => self.decode(path, &bytes),
            Err(error) => self.absent(path, &error),
        }
    }

    /// The first 64 KiB of a file that may be long (`/proc/cpuinfo`: the first processors).
    pub(crate) fn beginning(&self, path: &str) -> Reading<String> {
        match self.read(path, ATTRIBUTE_MAX) {
            Ok((mut bytes, cut)) => {
                if cut {
                    let line_end = bytes.iter().rposition(|b| *b == b'\n').unwrap_or(0);
                    bytes.truncate(line_end);
                }
                self.decode(path, &bytes)
            }
            Err(error) => self.absent(path, &error),
        }
    }

    /// Text that must not be empty to mean anything.
    pub(crate) fn word(&self, path: &str) -> Reading<String> {
        self.text(path).and_then(|text| {
            if text.is_empty() {
                Reading::Unsupported(format!("{} is empty", self.name(path)))
            } else {
                Reading::Known(text)
            }
        })
    }

    /// A number; anything else is quoted in the reason.
    pub(crate) fn number<T: FromStr>(&self, path: &str) -> Reading<T> {
        self.text(path).and_then(|text| match text.parse() {
            Ok(number) => Reading::Known(number),
            Err(_) => self.strange(path, &text, "a number in range"),
        })
    }

    /// `failed: PATH holds "…", not <expected>`.
    pub(crate) fn strange<T>(&self, path: &str, found: &str, expected: &str) -> Reading<T> {
        Reading::Failed(format!("{} holds {}, not {expected}", self.name(path), quote(found)))
    }

    /// The names in a directory, `cpu2` before `cpu10`.
    pub(crate) fn names(&self, path: &str) -> Reading<Vec<String>> {
        let entries = match fs::read_dir(self.root.join(path)) {
            Ok(entries) => entries,
            Err(error) => return self.absent(path, &error),
        };
        let mut names = Vec::new();
        for entry in entries {
            if names.len() == ENTRIES_MAX {
                self.leave_out(format!("{}: more than {ENTRIES_MAX} entries", self.name(path)));
                break;
            }
            match entry.map(|entry| entry.file_name().into_string()) {
                Ok(Ok(name)) => names.push(name),
                Ok(Err(name)) => self.leave_out(format!(
                    "{}: an entry's name is not UTF-8: {}",
                    self.name(path),
                    quote(&name.to_string_lossy())
                )),
                Err(error) => self.leave_out(format!("{}: {error}", self.name(path))),
            }
        }
        names.sort_by(|a, b| natural_order(a, b));
        Reading::Known(names)
    }

    /// The names, none where the directory is missing; an unreadable one is noted as left out.
    pub(crate) fn names_or_none(&self, path: &str) -> Vec<String> {
        match self.names(path) {
            Reading::Known(names) => names,
            Reading::Unsupported(_) => Vec::new(),
            Reading::Failed(why) => {
                self.leave_out(why);
                Vec::new()
            }
        }
    }

    /// The numbers that name a directory's entries, after `prefix`; an entry with the prefix and no number
    /// in range is left out by name.
    pub(crate) fn numbered(&self, path: &str, names: &[String], prefix: &str) -> Vec<u32> {
        let numbered = names.iter().filter_map(|name| Some((name, name.strip_prefix(prefix)?)));
        numbered
            .filter_map(|(name, number)| {
                let number = number.parse().ok();
                if number.is_none() {
                    self.leave_out(format!(
                        "{}/{name}: named by no number in range",
                        self.name(path)
                    ));
                }
                number
            })
            .collect()
    }

    /// Whether the path, links followed, leads to anything.
    pub(crate) fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// A number that tells this directory from another one that had its name before: the kernel gives each entry of sysfs a new
    /// inode number when its driver makes it.
    pub(crate) fn identity(&self, path: &str) -> Reading<u64> {
        match fs::metadata(self.root.join(path)) {
            Ok(metadata) => Reading::Known(metadata.ino()),
            Err(error) => self.absent(path, &error),
        }
    }

    /// The last part of a link's target: a driver's, bond's or group's name.
    pub(crate) fn link_name(&self, path: &str) -> Reading<String> {
        match fs::read_link(self.root.join(path)) {
            Ok(target) => match target.file_name().and_then(|name| name.to_str()) {
                Some(name) => Reading::Known(name.to_owned()),
                None => Reading::Failed(format!("{} links to no name", self.name(path))),
            },
            Err(error) => self.absent(path, &error),
        }
    }

    /// Where a path really is, relative to the root, all links resolved.
    pub(crate) fn resolve(&self, path: &str) -> Reading<String> {
        let root = match fs::canonicalize(&self.root) {
            Ok(root) => root,
            Err(error) => return self.absent("", &error),
        };
        match fs::canonicalize(self.root.join(path)) {
            Ok(real) => match real.strip_prefix(&root).ok().and_then(Path::to_str) {
                Some(inside) => Reading::Known(inside.to_owned()),
                None => Reading::Failed(format!("{} leads out of the root", self.name(path))),
            },
            Err(error) => self.absent(path, &error),
        }
    }

    /// Notes what no field can show.
    pub(crate) fn leave_out(&self, sentence: String) {
        self.left_out.borrow_mut().push(sentence);
    }

    /// Up to `limit` bytes, and whether there were more.
    fn read(&self, path: &str, limit: u64) -> io::Result<(Vec<u8>, bool)> {
        let file = open_regular(&self.root.join(path))?;
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes)?;
        let cut = bytes.len() as u64 > limit;
        Ok((bytes, cut))
    }

    fn decode(&self, path: &str, bytes: &[u8]) -> Reading<String> {
        let control = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
        match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains(control) => Reading::Known(text.trim().to_owned()),
            Ok(text) => self.strange(path, text, "plain text"),
            Err(_) => self.strange(path, &String::from_utf8_lossy(bytes), "UTF-8"),
        }
    }

    fn absent<T>(&self, path: &str, error: &io::Error) -> Reading<T> {
        let name = self.name(path);
        match error.kind() {
            io::ErrorKind::NotFound => Reading::Unsupported(format!("there is no {name}")),
            io::ErrorKind::PermissionDenied => {
                Reading::Failed(format!("{name}: permission denied; run as root to see it"))
            }
            _ if declined(error) => {
                Reading::Unsupported(format!("the driver does not answer for {name} ({error})"))
            }
            _ => Reading::Failed(format!("{name}: {error}")),
        }
    }
}

/// How drivers say "not this device" or "not while it is down" (`speed` and `carrier` of a netdev).
fn declined(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENODEV | libc::ENXIO)
    )
}

/// Opens without waiting and refuses what is no plain file: a pipe in a recorded tree would block for ever.
fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a plain file")) }
}

/// A short, printable quotation.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted: String = text.chars().take(QUOTE_MAX).flat_map(char::escape_default).collect();
    if text.chars().nth(QUOTE_MAX).is_some() {
        quoted.push_str("...");
    }
    format!("\"{quoted}\"")
}

/// Names with a number at the end by that number (`node10` after `node2`), others by text.
fn natural_order(a: &str, b: &str) -> Ordering {
    let split = |name: &str| {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        (name[..stem].to_owned(), name[stem..].parse::<u64>().ok())
    };
    split(a).cmp(&split(b)).then_with(|| a.cmp(b))
}

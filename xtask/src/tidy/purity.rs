//! `core` is rules: no clock, no socket, no file, no thread, not even through std.

use super::{complaint::Complaint, rust_code::has_word};

/// What core does not touch, and where the like belongs.
const FORBIDDEN: &[(&str, &str)] = &[
    ("std::fs", "take bytes as an argument; files are read by the caller"),
    ("std::thread", "stay a rule; threads are started by agent"),
    ("std::process", "stay a rule; processes are started by their driver"),
    ("std::env", "take the value as an argument; the environment is read by cli"),
    ("std::io::stdin", "take bytes as an argument"),
    ("UdpSocket", "take packets as arguments; sockets are fabric's"),
    ("TcpStream", "take packets as arguments; sockets are fabric's"),
    ("TcpListener", "take packets as arguments; sockets are fabric's"),
    ("Instant", "take `time::Monotonic` as an argument; clocks are read by fabric"),
    ("SystemTime", "take `time::Wall` as an argument; clocks are read by fabric"),
];

/// Complaints about one Rust file, given without comments and strings.
pub fn check(path: &str, code: &str) -> Vec<Complaint> {
    if !path.starts_with("core/src/") {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for (at, line) in code.lines().enumerate() {
        for (name, instead) in FORBIDDEN.iter().filter(|(name, _)| has_word(line, name)) {
            complaints.push(Complaint::at(path, at, format!("`{name}` in core"), *instead));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn core_reads_no_clock_and_no_file() {
        let found = check("core/src/a.rs", "use std::time::Duration;\nuse std::fs::File;\n");
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].line, found[0].wrong.as_str()), (2, "`std::fs` in core"));
        assert_eq!(check("core/src/a.rs", "let t = Instant::now();").len(), 1);
        assert!(check("core/src/a.rs", "use std::net::IpAddr;").is_empty());
        assert!(check("fabric/src/a.rs", "use std::fs::File;").is_empty());
    }
}

//! The archive that the kernel unpacks as its first file system: cpio in the format `newc`, which the kernel's documentation
//! (`driver-api/early-userspace/buffer-format`) describes.

/// An archive that grows. Times and owners are all zero: the same files give the same octets.
#[derive(Debug, Default)]
pub struct Archive {
    octets: Vec<u8>,
    entries: u32,
}

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

impl Archive {
    /// Adds a directory.
    pub fn directory(&mut self, name: &str) {
        self.entry(name, DIRECTORY, &[]);
    }

    /// Adds a file that may be run and read by all; its directory comes before it.
    pub fn file(&mut self, name: &str, content: &[u8]) {
        self.entry(name, PROGRAM, content);
    }

    /// The whole.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.octets
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "names and kernel modules are far below 4 GiB"
    )]
    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let links = 1;
        let (size, name_size) = (content.len() as u32, name.len() as u32 + 1);
        // Inode, mode, owner, group, links, time, size, two device numbers, name with its NUL, checksum (none in this format).
        let fields = [self.entries, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
        self.octets.extend(b"070701");
        for field in fields {
            self.octets.extend(format!("{field:08x}").bytes());
        }
        self.octets.extend(name.bytes());
        self.octets.push(0);
        self.pad();
        self.octets.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.octets.resize(self.octets.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_end_with_the_trailer() {
        let mut archive = Archive::default();
        archive.directory("a");
        archive.file("a/b", b"12345");
        let octets = archive.finish();
        // 110 of the header, the name with its NUL, padding; then the content.
        let text = String::from_utf8(octets.clone()).unwrap();
        assert_eq!(&text[..14], "07070100000001");
        assert_eq!(text.find("070701000000020000"), Some(112));
        assert_eq!(text.find("12345\x00\x00\x00070701"), Some(112 + 116));
        assert!(text.trim_end_matches('\0').ends_with("TRAILER!!!"));
        assert_eq!(octets.len() % 4, 0);
    }
}

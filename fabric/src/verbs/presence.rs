//! Whether an open device is still there.
//!
//! Drivers of hardware cut their users off and send `IBV_EVENT_DEVICE_FATAL`. soft-RoCE (and siw) cannot: the kernel takes
//! the uverbs node away first and then waits until the last context is closed, without an event. The node's directory in
//! sysfs goes in both cases; in a container too, where `/dev` may be a copy that never changes.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Whether an open device is still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is.
    Present,
    /// It is not, or another one has taken its place; the sentence says which.
    Gone(String),
}

impl Presence {
    /// Whether it is there.
    pub const fn is_present(&self) -> bool {
        matches!(self, Self::Present)
    }
}

/// Which device it was when it was opened.
#[derive(Debug)]
pub(super) struct Identity {
    directory: PathBuf,
    /// The inode of its directory in sysfs: another device that gets the same name has another one.
    inode: Option<u64>,
}

impl Identity {
    pub(super) fn of(uverbs: &str) -> Self {
        Self::below(Path::new("/sys/class/infiniband_verbs"), uverbs)
    }

    fn below(class: &Path, uverbs: &str) -> Self {
        let directory = class.join(uverbs);
        let inode = inode(&directory).ok();
        Self { directory, inode }
    }

    pub(super) fn look(&self) -> Presence {
        // Without sysfs at opening nothing can be said; events and errors of verbs remain.
        let Some(then) = self.inode else { return Presence::Present };
        match inode(&self.directory) {
            Ok(now) if now == then => Presence::Present,
            Ok(_) => Presence::Gone(format!(
                "{} is another device than before",
                self.directory.display()
            )),
            Err(error) => Presence::Gone(format!("{}: {error}", self.directory.display())),
        }
    }
}

fn inode(directory: &Path) -> io::Result<u64> {
    std::fs::metadata(directory).map(|metadata| metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_went_and_one_in_its_place_are_gone() {
        let class = std::env::temp_dir().join(format!("railgauge-presence-{}", std::process::id()));
        std::fs::create_dir_all(class.join("uverbs0")).unwrap();
        let identity = Identity::below(&class, "uverbs0");
        assert!(identity.look().is_present());
        // The new one is made while the old one stands, so that it cannot get its inode.
        std::fs::create_dir(class.join("other")).unwrap();
        std::fs::remove_dir(class.join("uverbs0")).unwrap();
        assert!(matches!(identity.look(), Presence::Gone(why) if why.contains("uverbs0")));
        std::fs::rename(class.join("other"), class.join("uverbs0")).unwrap();
        assert!(matches!(identity.look(), Presence::Gone(why) if why.contains("another device")));
        std::fs::remove_dir_all(class).unwrap();
    }
}

//! Certificates for a whole fleet, from one authority.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use railgauge_access::authority::{Authority, Request};
use railgauge_access::credentials::Credentials;
use railgauge_access::files::Files;
use railgauge_core::access::Role;

/// An authority in a directory, and what it has issued.
#[derive(Debug)]
pub struct Identities {
    dir: PathBuf,
    authority: Authority,
}

impl Identities {
    /// That of a directory.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(dir: &Path) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(Self { dir: dir.to_owned(), authority: Authority::open(dir)? })
    }

    /// A certificate for somebody. Needs a tokio runtime.
    ///
    /// # Errors
    /// When it cannot be made.
    #[expect(clippy::disallowed_methods, reason = "certificates begin and end by the wall clock")]
    pub fn credentials(
        &self,
        role: Role,
        name: &str,
    ) -> Result<Credentials, Box<dyn Error + Send + Sync>> {
        let valid = Duration::from_secs(86_400);
        let request = Request { role, name, hosts: &[], from: SystemTime::now(), valid };
        let place = |ending: &str| self.dir.join(format!("load-{role}-{name}.{ending}"));
        let (cert, key) = (place("pem"), place("key"));
        if !key.exists() {
            self.authority.issue(&request)?.save(&cert, &key)?;
        }
        Ok(Credentials::load(Files { ca: self.dir.join("ca.pem"), cert, key })?)
    }
}

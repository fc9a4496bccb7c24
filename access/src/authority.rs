//! A certificate authority for trying things out, and for fleets that have none: one key in one file, no revocation.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use railgauge_core::access::{Identity, IdentityError, Role};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};

/// Clocks differ: a certificate begins so long before it was made.
const SKEW: Duration = Duration::from_secs(300);

/// The files of an authority.
const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca.key";

/// Why there is no authority, or no certificate of it.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// There is one already.
    #[error("{file} is there already: choose another directory, move it away, or renew a certificate with --replace", file = .0.display())]
    Exists(PathBuf),
    /// There is none.
    #[error("{dir} holds no authority: make one with `railgauge certs init --dir {dir}`", dir = .0.display())]
    None(PathBuf),
    /// A file.
    #[error("cannot {doing} {file}", file = .file.display())]
    File {
        /// Read or write.
        doing: &'static str,
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A host that is neither name nor address.
    #[error(
        "{0:?} is neither a host name nor an address: write coord.example or 192.0.2.7, without scheme and port"
    )]
    Host(String),
    /// Name, role or trust domain.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Of what is there, something else.
    #[error("{file} is damaged", file = .file.display())]
    Damaged {
        /// Which.
        file: PathBuf,
        /// How.
        source: rcgen::Error,
    },
    /// Cryptography.
    #[error("no certificate can be made")]
    Make(#[from] rcgen::Error),
    /// Before 1970, or after all that a certificate can say.
    #[error("a certificate cannot begin or end then")]
    Time(#[from] time::error::ComponentRange),
}

/// An authority.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    trust_domain: String,
}

/// What a certificate is to say.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Of what role.
    pub role: Role,
    /// Of what name.
    pub name: &'a str,
    /// What a daemon is called by those who connect to it: names and addresses.
    pub hosts: &'a [String],
    /// From when on.
    pub from: SystemTime,
    /// How long.
    pub valid: Duration,
}

/// A certificate and its key, as files hold them.
#[derive(Clone)]
pub struct Issued {
    /// The certificate, PEM.
    pub certificate: String,
    /// Its key, PEM.
    pub key: String,
}

impl std::fmt::Debug for Issued {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

fn at(time: SystemTime) -> Result<time::OffsetDateTime, time::error::ComponentRange> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    time::OffsetDateTime::from_unix_timestamp(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

fn period(
    params: &mut CertificateParams,
    from: SystemTime,
    valid: Duration,
) -> Result<(), time::error::ComponentRange> {
    params.not_before = at(from - SKEW)?;
    params.not_after = at(from + valid)?;
    Ok(())
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::OrganizationName, "Railgauge");
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// Writes a file that was not there.
fn write(file: &Path, mode: u32, text: &str) -> Result<(), AuthorityError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => AuthorityError::Exists(file.to_owned()),
        _ => AuthorityError::File { doing: "write", file: file.to_owned(), source },
    };
    let mut made = OpenOptions::new();
    let mut made = made.write(true).create_new(true).mode(mode).open(file).map_err(failed)?;
    made.write_all(text.as_bytes()).and_then(|()| made.sync_all()).map_err(failed)
}

impl Authority {
    /// A new one, in memory.
    ///
    /// # Errors
    /// When the trust domain is none.
    pub fn new(
        trust_domain: &str,
        from: SystemTime,
        valid: Duration,
    ) -> Result<(Self, String), AuthorityError> {
        // The name does not matter, the trust domain does.
        Identity::new(trust_domain, Role::Admin, "a")?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = named(&format!("{trust_domain} development authority"));
        params.subject_alt_names =
            vec![SanType::URI(format!("spiffe://{trust_domain}").try_into()?)];
        period(&mut params, from, valid)?;
        let pem = params.self_signed(&key)?.pem();
        let secret = key.serialize_pem();
        let issuer = Issuer::new(params, key);
        Ok((Self { issuer, pem, trust_domain: trust_domain.to_owned() }, secret))
    }

    /// Makes one in a directory, which is made too.
    ///
    /// # Errors
    /// When there is one already, or it cannot be written.
    pub fn init(
        dir: &Path,
        trust_domain: &str,
        from: SystemTime,
        valid: Duration,
    ) -> Result<Self, AuthorityError> {
        let (authority, secret) = Self::new(trust_domain, from, valid)?;
        std::fs::create_dir_all(dir).map_err(|source| AuthorityError::File {
            doing: "make",
            file: dir.to_owned(),
            source,
        })?;
        write(&dir.join(KEY), 0o600, &secret)?;
        write(&dir.join(CERTIFICATE), 0o644, &authority.pem)?;
        Ok(authority)
    }

    /// The one in a directory.
    ///
    /// # Errors
    /// When there is none, or it is damaged.
    pub fn open(dir: &Path) -> Result<Self, AuthorityError> {
        let read = |name: &str| {
            let file = dir.join(name);
            std::fs::read_to_string(&file).map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => AuthorityError::None(dir.to_owned()),
                _ => AuthorityError::File { doing: "read", file, source },
            })
        };
        let (pem, secret) = (read(CERTIFICATE)?, read(KEY)?);
        let damaged = |name: &str| {
            let file = dir.join(name);
            move |source| AuthorityError::Damaged { file, source }
        };
        let key = KeyPair::from_pem(&secret).map_err(damaged(KEY))?;
        let trust_domain = trust_domain_of(&pem)
            .ok_or_else(|| damaged(CERTIFICATE)(rcgen::Error::CouldNotParseCertificate))?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key).map_err(damaged(CERTIFICATE))?;
        Ok(Self { issuer, pem, trust_domain })
    }

    /// Its certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Within which its certificates mean something.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The same key for another trust domain: an authority may serve several.
    #[must_use]
    pub fn of_trust_domain(&self, trust_domain: &str) -> Foreign<'_> {
        Foreign { authority: self, trust_domain: trust_domain.to_owned() }
    }

    /// A certificate with a new key.
    ///
    /// # Errors
    /// When a name is none.
    pub fn issue(&self, request: &Request<'_>) -> Result<Issued, AuthorityError> {
        self.issue_in(&self.trust_domain, request)
    }

    fn issue_in(
        &self,
        trust_domain: &str,
        request: &Request<'_>,
    ) -> Result<Issued, AuthorityError> {
        let identity = Identity::new(trust_domain, request.role, request.name)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(request.name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into()?)];
        for host in request.hosts {
            let name = match host.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) if is_host(host) => SanType::DnsName(
                    host.as_str().try_into().map_err(|_| AuthorityError::Host(host.clone()))?,
                ),
                Err(_) => return Err(AuthorityError::Host(host.clone())),
            };
            params.subject_alt_names.push(name);
        }
        params.use_authority_key_identifier_extension = true;
        period(&mut params, request.from, request.valid)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// Whether this is a name that somebody can connect to: DNS's, the first part of it perhaps `*`. One that is none would be in the certificate
/// and never match.
pub fn is_host(name: &str) -> bool {
    let rest = name.strip_prefix("*.").unwrap_or(name);
    rustls::pki_types::DnsName::try_from(rest).is_ok()
}

/// An authority in a trust domain that is not its own.
#[derive(Debug)]
pub struct Foreign<'a> {
    authority: &'a Authority,
    trust_domain: String,
}

impl Foreign<'_> {
    /// A certificate with a new key.
    ///
    /// # Errors
    /// When a name is none.
    pub fn issue(&self, request: &Request<'_>) -> Result<Issued, AuthorityError> {
        self.authority.issue_in(&self.trust_domain, request)
    }
}

/// As the authority's certificate says it.
fn trust_domain_of(pem: &str) -> Option<String> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    crate::certificate::trust_domain(&der)
}

impl Issued {
    /// Writes certificate and key, neither of which was there.
    ///
    /// # Errors
    /// When they cannot be.
    pub fn save(&self, certificate: &Path, key: &Path) -> Result<(), AuthorityError> {
        write(key, 0o600, &self.key)?;
        write(certificate, 0o644, &self.certificate)
    }

    /// Writes certificate and key in place of those that were there, each of them whole at any moment. A daemon that reads them in between
    /// finds that they do not fit, and looks again.
    ///
    /// # Errors
    /// When they cannot be.
    pub fn replace(&self, certificate: &Path, key: &Path) -> Result<(), AuthorityError> {
        for (file, mode, text) in [(key, 0o600, &self.key), (certificate, 0o644, &self.certificate)]
        {
            let mut new = file.to_owned().into_os_string();
            new.push(".new");
            let new = PathBuf::from(new);
            // What an interrupted one left.
            drop(std::fs::remove_file(&new));
            write(&new, mode, text)?;
            std::fs::rename(&new, file).map_err(|source| AuthorityError::File {
                doing: "replace",
                file: file.to_owned(),
                source,
            })?;
        }
        Ok(())
    }
}

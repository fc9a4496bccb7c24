//! Certificate, key and authority as files: read, judged, and made into what rustls wants.

use std::io;
use std::mem::{Discriminant, discriminant};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use railgauge_core::access::Identity;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::certificate::{self, CertificateError, Validity};
use crate::rfc3339;

/// A file beyond this is none of ours.
const LARGEST: u64 = 1 << 20;

/// Where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Certificates of the authorities that vouch for the others, PEM.
    pub ca: PathBuf,
    /// Our certificate, with what leads to its authority, PEM.
    pub cert: PathBuf,
    /// Our private key, PEM, readable by its owner and group alone.
    pub key: PathBuf,
}

/// Why they cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not readable.
    #[error("cannot read {file}", file = .file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Anybody could be us.
    #[error(
        "{file} is a private key that others may read or change (mode {mode:04o}): `chmod 0600 {file}`, and if others have read it, make a \
         new one",
        file = .file.display()
    )]
    Permissions {
        /// Which.
        file: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Nothing in it.
    #[error("{file} holds no {what}: it must be PEM, with -----BEGIN {what}-----", file = .file.display())]
    Empty {
        /// Which.
        file: PathBuf,
        /// What is looked for.
        what: &'static str,
    },
    /// Not what it should be.
    #[error("{file} is damaged: {why}", file = .file.display())]
    Damaged {
        /// Which.
        file: PathBuf,
        /// How.
        why: String,
    },
    /// Not for us.
    #[error("{file}", file = .file.display())]
    Certificate {
        /// Which.
        file: PathBuf,
        /// Why.
        source: CertificateError,
    },
    /// Over.
    #[error(
        "{file} ended at {ends}, and this machine's clock says {now}: renew it, or set the clock",
        file = .file.display()
    )]
    Expired {
        /// Which.
        file: PathBuf,
        /// When.
        ends: String,
        /// By our clock.
        now: String,
    },
    /// Not begun.
    #[error(
        "{file} begins at {begins}, and this machine's clock says {now}: set the clock, or wait",
        file = .file.display()
    )]
    NotYet {
        /// Which.
        file: PathBuf,
        /// When.
        begins: String,
        /// By our clock.
        now: String,
    },
    /// Not ours.
    #[error("the key in {key} is not that of the certificate in {cert}", key = .key.display(), cert = .cert.display())]
    Mismatch {
        /// The key.
        key: PathBuf,
        /// The certificate.
        cert: PathBuf,
    },
    /// Of somebody else.
    #[error("{file} is of {is}, and this daemon began as {was}: restart it, or put the right one there", file = .file.display())]
    Another {
        /// Which.
        file: PathBuf,
        /// As read.
        is: Identity,
        /// As in force.
        was: Identity,
    },
    /// rustls does not want it.
    #[error("{file} cannot be used", file = .file.display())]
    Unusable {
        /// Which.
        file: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

impl LoadError {
    /// Whether it passes by itself, when somebody renews the certificate or sets the clock, as after a boot: no mistake of configuration.
    pub const fn passes(&self) -> bool {
        matches!(self, Self::Expired { .. } | Self::NotYet { .. })
    }

    /// Whether there is no such file.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// What kind of mistake it is, and in which file: two of the same say the same but for the time.
    pub(crate) fn kind(&self) -> (Discriminant<Self>, PathBuf) {
        let file = match self {
            Self::Read { file, .. }
            | Self::Permissions { file, .. }
            | Self::Empty { file, .. }
            | Self::Damaged { file, .. }
            | Self::Certificate { file, .. }
            | Self::Expired { file, .. }
            | Self::NotYet { file, .. }
            | Self::Another { file, .. }
            | Self::Unusable { file, .. } => file,
            Self::Mismatch { cert, .. } => cert,
        };
        (discriminant(self), file.clone())
    }
}

/// What there is to do where no certificate is.
pub const WITHOUT: &str = "`railgauge certs` makes certificates for trying out, and insecure = true does without, on loopback";

/// The octets of the three files.
#[derive(PartialEq, Eq)]
pub(crate) struct Octets {
    ca: Vec<u8>,
    cert: Vec<u8>,
    key: Vec<u8>,
}

/// What makes us one of the trust domain.
pub struct Material {
    /// Who we are.
    pub identity: Identity,
    /// Our certificate's time.
    pub own: Validity,
    /// Of the authorities' certificates the first that ends.
    pub authority_ends: SystemTime,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
    servers: Arc<dyn ServerCertVerifier>,
    provider: Arc<CryptoProvider>,
}

impl std::fmt::Debug for Material {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Material")
            .field("identity", &self.identity)
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

fn read(file: &Path) -> Result<Vec<u8>, LoadError> {
    let failed = |source| LoadError::Read { file: file.to_owned(), source };
    if std::fs::metadata(file).map_err(failed)?.len() > LARGEST {
        return Err(LoadError::Damaged {
            file: file.to_owned(),
            why: "it is larger than 1 MiB".to_owned(),
        });
    }
    std::fs::read(file).map_err(failed)
}

fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let damaged = |error: rustls::pki_types::pem::Error| LoadError::Damaged {
        file: file.to_owned(),
        why: error.to_string(),
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(damaged)?;
    if found.is_empty() {
        return Err(LoadError::Empty { file: file.to_owned(), what: "CERTIFICATE" });
    }
    Ok(found)
}

impl Files {
    /// Their octets, unjudged but for the key's mode.
    pub(crate) fn read(&self) -> Result<Octets, LoadError> {
        let mode = std::fs::metadata(&self.key)
            .map_err(|source| LoadError::Read { file: self.key.clone(), source })?
            .permissions()
            .mode();
        if mode & 0o027 != 0 {
            return Err(LoadError::Permissions { file: self.key.clone(), mode: mode & 0o7777 });
        }
        Ok(Octets { ca: read(&self.ca)?, cert: read(&self.cert)?, key: read(&self.key)? })
    }

    /// Reads and judges them.
    ///
    /// # Errors
    /// The first thing that is wrong, with the file it is in.
    pub fn load(&self, now: SystemTime) -> Result<Material, LoadError> {
        self.judge(&self.read()?, now)
    }

    pub(crate) fn judge(&self, octets: &Octets, now: SystemTime) -> Result<Material, LoadError> {
        let (roots, authority_ends) = self.roots(&octets.ca)?;
        let chain = certificates(&self.cert, &octets.cert)?;
        let of = |source| LoadError::Certificate { file: self.cert.clone(), source };
        let own = certificate::validity(&chain[0]).map_err(of)?;
        let identity = certificate::identity(&chain[0]).map_err(of)?;
        self.in_time(own, now)?;
        let key = PrivateKeyDer::from_pem_slice(&octets.key).map_err(|error| match error {
            rustls::pki_types::pem::Error::NoItemsFound => {
                LoadError::Empty { file: self.key.clone(), what: "PRIVATE KEY" }
            }
            other => LoadError::Damaged { file: self.key.clone(), why: other.to_string() },
        })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let unusable = |why: String| LoadError::Damaged { file: self.ca.clone(), why };
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|error| unusable(error.to_string()))?;
        let servers =
            WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|error| unusable(error.to_string()))?;
        let material = Material {
            identity,
            own,
            authority_ends,
            chain,
            key,
            roots,
            clients,
            servers,
            provider,
        };
        // Whether key and certificate belong together is found by making use of them.
        self.used(material.server(b"h2", true))?;
        Ok(material)
    }

    fn used<T>(&self, made: Result<T, rustls::Error>) -> Result<T, LoadError> {
        made.map_err(|source| match source {
            rustls::Error::InconsistentKeys(_) => {
                LoadError::Mismatch { key: self.key.clone(), cert: self.cert.clone() }
            }
            source => LoadError::Unusable { file: self.cert.clone(), source },
        })
    }

    fn roots(&self, pem: &[u8]) -> Result<(Arc<RootCertStore>, SystemTime), LoadError> {
        let mut roots = RootCertStore::empty();
        let mut ends = None::<SystemTime>;
        for root in certificates(&self.ca, pem)? {
            let validity = certificate::validity(&root)
                .map_err(|source| LoadError::Certificate { file: self.ca.clone(), source })?;
            ends = Some(ends.map_or(validity.ends, |first| first.min(validity.ends)));
            roots
                .add(root)
                .map_err(|source| LoadError::Unusable { file: self.ca.clone(), source })?;
        }
        Ok((Arc::new(roots), ends.unwrap_or(SystemTime::UNIX_EPOCH)))
    }

    fn in_time(&self, own: Validity, now: SystemTime) -> Result<(), LoadError> {
        let file = self.cert.clone();
        if now > own.ends {
            return Err(LoadError::Expired { file, ends: rfc3339(own.ends), now: rfc3339(now) });
        }
        if now < own.begins {
            return Err(LoadError::NotYet { file, begins: rfc3339(own.begins), now: rfc3339(now) });
        }
        Ok(())
    }
}

impl Material {
    /// For a listener that speaks `alpn`; `closed`: to nobody without a certificate.
    ///
    /// # Errors
    /// When key and certificate do not fit.
    pub fn server(&self, alpn: &[u8], closed: bool) -> Result<ServerConfig, rustls::Error> {
        let clients = if closed {
            Arc::clone(&self.clients)
        } else {
            WebPkiClientVerifier::builder_with_provider(
                Arc::clone(&self.roots),
                Arc::clone(&self.provider),
            )
            .allow_unauthenticated()
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
        };
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(clients)
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![alpn.to_vec()];
        // Who resumes a session shows no certificate, and may have none any more.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// For a connection to a daemon.
    ///
    /// # Errors
    /// When key and certificate do not fit.
    pub fn client(&self, alpn: &[u8]) -> Result<ClientConfig, rustls::Error> {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            // rustls' own verifier: its builder for it takes the roots alone, and not our provider.
            .with_custom_certificate_verifier(Arc::clone(&self.servers))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![alpn.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }

    /// Whether these authorities still vouch for somebody whom they, or others before them, have vouched for: a server of this name,
    /// or a client.
    pub fn vouches_for(
        &self,
        chain: &[CertificateDer<'static>],
        server: Option<&ServerName<'_>>,
        now: SystemTime,
    ) -> bool {
        let Some((leaf, rest)) = chain.split_first() else { return false };
        let Ok(since) = now.duration_since(SystemTime::UNIX_EPOCH) else { return false };
        let now = UnixTime::since_unix_epoch(since);
        match server {
            Some(name) => self.servers.verify_server_cert(leaf, rest, name, &[], now).is_ok(),
            None => self.clients.verify_client_cert(leaf, rest, now).is_ok(),
        }
    }
}

/// What is in a file of certificates.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Shown {
    /// Which file.
    pub file: String,
    /// Its identity; of an authority, its trust domain; of any other, why it has none.
    pub whose: String,
    /// What a daemon with it may be called by those who connect: names and addresses.
    pub hosts: Vec<String>,
    /// From when on, RFC 3339.
    pub begins: String,
    /// Until when, RFC 3339.
    pub ends: String,
    /// Whether it is good now.
    pub in_force: bool,
}

/// What is in a file of certificates.
///
/// # Errors
/// When there is none in it.
pub fn show(file: &Path, now: SystemTime) -> Result<Vec<Shown>, LoadError> {
    shown(file, &read(file)?, now)
}

/// What is in it, where these are its octets.
///
/// # Errors
/// When there is none in it.
pub fn shown(file: &Path, pem: &[u8], now: SystemTime) -> Result<Vec<Shown>, LoadError> {
    let of = |source| LoadError::Certificate { file: file.to_owned(), source };
    let shown = |der: &CertificateDer<'_>| {
        let validity = certificate::validity(der).map_err(of)?;
        let whose = match (certificate::identity(der), certificate::trust_domain(der)) {
            (Ok(identity), _) => identity.to_string(),
            (Err(_), Some(domain)) if !domain.contains('/') => format!("authority of {domain}"),
            (Err(error), _) => error.to_string(),
        };
        Ok(Shown {
            file: file.display().to_string(),
            whose,
            hosts: certificate::hosts(der).map_err(of)?,
            begins: rfc3339(validity.begins),
            ends: rfc3339(validity.ends),
            in_force: (validity.begins..=validity.ends).contains(&now),
        })
    };
    certificates(file, pem)?.iter().map(shown).collect()
}

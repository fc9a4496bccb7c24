//! What a certificate says: whose it is, and from when to when.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use railgauge_core::access::{Identity, IdentityError};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Why a certificate is of no use.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Not a certificate.
    #[error("it is no X.509 certificate: {0}")]
    Encoding(String),
    /// It says not who it is, or too often: a SPIFFE certificate has exactly one URI (X.509-SVID, section 2).
    #[error(
        "it has {0} URIs where an identity of ours has exactly one, spiffe://TRUST-DOMAIN/railgauge/ROLE/NAME"
    )]
    Uris(usize),
    /// It says something else.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// From when to when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Not valid before.
    pub begins: SystemTime,
    /// Not valid after.
    pub ends: SystemTime,
}

fn time(unix_seconds: i64) -> SystemTime {
    let seconds = Duration::from_secs(unix_seconds.unsigned_abs());
    let time = if unix_seconds < 0 {
        UNIX_EPOCH.checked_sub(seconds)
    } else {
        UNIX_EPOCH.checked_add(seconds)
    };
    time.unwrap_or(UNIX_EPOCH)
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    let (_, certificate) = X509Certificate::from_der(der)
        .map_err(|error| CertificateError::Encoding(error.to_string()))?;
    Ok(certificate)
}

/// From when to when.
///
/// # Errors
/// When it is no certificate.
pub fn validity(der: &[u8]) -> Result<Validity, CertificateError> {
    let certificate = parse(der)?;
    let validity = certificate.validity();
    Ok(Validity {
        begins: time(validity.not_before.timestamp()),
        ends: time(validity.not_after.timestamp()),
    })
}

fn uris<'a>(certificate: &'a X509Certificate<'_>) -> Result<Vec<&'a str>, CertificateError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| CertificateError::Encoding(error.to_string()))?;
    let names = names.map_or(&[][..], |names| &names.value.general_names);
    let uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    Ok(uris.collect())
}

/// Whose it is.
///
/// # Errors
/// When it does not say so as we do.
pub fn identity(der: &[u8]) -> Result<Identity, CertificateError> {
    let certificate = parse(der)?;
    let uris = uris(&certificate)?;
    match uris[..] {
        [uri] => Ok(uri.parse()?),
        _ => Err(CertificateError::Uris(uris.len())),
    }
}

/// What a daemon with it may be called by those who connect: names and addresses.
pub(crate) fn hosts(der: &[u8]) -> Result<Vec<String>, CertificateError> {
    let certificate = parse(der)?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| CertificateError::Encoding(error.to_string()))?;
    let names = names.map_or(&[][..], |names| &names.value.general_names);
    let hosts = names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(octets) => address(octets).map(|address| address.to_string()),
        _ => None,
    });
    Ok(hosts.collect())
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        _ => None,
    }
}

/// The trust domain of an authority, which has it as its whole identity (X.509-SVID, section 3.2).
pub(crate) fn trust_domain(der: &[u8]) -> Option<String> {
    let certificate = parse(der).ok()?;
    match uris(&certificate).ok()?[..] {
        [uri] => Some(uri.strip_prefix("spiffe://")?.to_owned()),
        _ => None,
    }
}

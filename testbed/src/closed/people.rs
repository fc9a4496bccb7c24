//! Who tries: with no certificate, with bad ones, and with one of each role.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use railgauge_access::authority::{Authority, AuthorityError, Request};
use railgauge_core::access::Role;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

const DAY: Duration = Duration::from_secs(86_400);

/// Somebody who tries.
#[derive(Clone, Debug)]
pub struct Person {
    /// As in the table.
    pub name: &'static str,
    /// Whether the coordinator's gRPC lets them in at all; pages let in who has none, too.
    pub known: bool,
    /// With what they come.
    pub tls: Arc<ClientConfig>,
}

fn config(
    authority: &Authority,
    certificate: Option<(String, String)>,
) -> Result<Arc<ClientConfig>, io::Error> {
    let bad = |error: &dyn std::error::Error| io::Error::other(error.to_string());
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.pem().as_bytes()).map_err(|e| bad(&e))?;
    roots.add(root).map_err(|e| bad(&e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| bad(&e))?
        .with_root_certificates(roots);
    let config = match certificate {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain: Result<Vec<_>, _> =
                CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| bad(&e))?;
            let chain = chain.map_err(|e| bad(&e))?;
            builder.with_client_auth_cert(chain, key).map_err(|e| bad(&e))?
        }
    };
    Ok(Arc::new(config))
}

/// All of them. `authority` is the fleet's.
///
/// # Errors
/// When a certificate cannot be made.
pub fn people(authority: &Authority, now: SystemTime) -> Result<Vec<Person>, io::Error> {
    let failed = |error: AuthorityError| io::Error::other(error.to_string());
    let domain = authority.trust_domain().to_owned();
    // Another authority that claims the same trust domain, and one of another trust domain that is vouched for by neither.
    let (imposter, _) = Authority::new(&domain, now, DAY).map_err(failed)?;
    let of = |by: &Authority, role: Role, name: &str, from: SystemTime| {
        let issued = by.issue(&Request { role, name, hosts: &[], from, valid: DAY });
        issued.map(|issued| Some((issued.certificate, issued.key))).map_err(failed)
    };
    let mut people = Vec::new();
    let mut add = |name, known, certificate| -> Result<(), io::Error> {
        people.push(Person { name, known, tls: config(authority, certificate)? });
        Ok(())
    };
    add("nobody", false, None)?;
    add("imposter", false, of(&imposter, Role::Admin, "root", now)?)?;
    add("expired", false, of(authority, Role::Admin, "old", now - 10 * DAY)?)?;
    add("not-yet", false, of(authority, Role::Admin, "new", now + 10 * DAY)?)?;
    add("stranger", false, Some(stranger(authority, &domain, now)?))?;
    for (name, role) in [
        ("agent", Role::Agent),
        ("other-agent", Role::Agent),
        ("coordinator", Role::Coordinator),
        ("viewer", Role::Viewer),
        ("operator", Role::Operator),
        ("admin", Role::Admin),
    ] {
        add(name, true, of(authority, role, name, now)?)?;
    }
    Ok(people)
}

/// A certificate of the fleet's authority for another trust domain, as of an authority that serves several.
fn stranger(
    authority: &Authority,
    domain: &str,
    now: SystemTime,
) -> Result<(String, String), io::Error> {
    let foreign = authority.of_trust_domain(&format!("other.{domain}"));
    let request = Request { role: Role::Admin, name: "root", hosts: &[], from: now, valid: DAY };
    let issued = foreign.issue(&request).map_err(|error| io::Error::other(error.to_string()))?;
    Ok((issued.certificate, issued.key))
}

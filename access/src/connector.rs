//! The way to the coordinator: connects, and makes sure that it is one.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use http::Uri;
use hyper_util::rt::TokioIo;
use railgauge_core::access::{Identity, Role};
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use rustls::{AlertDescription, CertificateError as Unvouched};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use crate::certificate::{self, CertificateError};
use crate::connection::Vouched;
use crate::credentials::Credentials;
use crate::rfc3339;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No host in it, or none that can be asked for.
    #[error("{0} names no host")]
    Url(Uri),
    /// As it says.
    #[error("{0} is no host name")]
    Name(String, #[source] InvalidDnsNameError),
    /// TCP.
    #[error("{0}")]
    Tcp(#[source] io::Error),
    /// Our own certificate.
    #[error("our own certificate cannot be used")]
    Own(#[source] rustls::Error),
    /// Our own certificate is over.
    #[error(
        "our own certificate ended at {ends}, and this machine's clock says {now}: renew it, or set the clock"
    )]
    OwnExpired {
        /// When.
        ends: String,
        /// By our clock.
        now: String,
    },
    /// What is there speaks something else.
    #[error(
        "what answers there speaks no TLS: is it a daemon with insecure = true, or another port?"
    )]
    NoTls,
    /// Its certificate is of another authority.
    #[error(
        "no authority in our CA file vouches for its certificate: one of the two has the wrong CA"
    )]
    UnknownAuthority,
    /// Its certificate is for another name.
    #[error(
        "its certificate is for {presented}, and not for {expected}: use a name that it has, or give it one with this name"
    )]
    OtherName {
        /// As asked for.
        expected: String,
        /// As it has.
        presented: String,
    },
    /// Its certificate is over.
    #[error(
        "its certificate ended at {ends}, and this machine's clock says {now}: renew it, or set the clock"
    )]
    Expired {
        /// When.
        ends: String,
        /// By our clock.
        now: String,
    },
    /// Its certificate has not begun.
    #[error(
        "its certificate begins at {begins}, and this machine's clock says {now}: set the clock, or wait"
    )]
    NotYet {
        /// When.
        begins: String,
        /// By our clock.
        now: String,
    },
    /// What it has against our certificate.
    #[error("{0}")]
    Refused(io::Error),
    /// It closed the connection instead of beginning.
    #[error("it closes the connection: is it a coordinator, and does its log say why?")]
    Closed,
    /// Anything else in the handshake.
    #[error("no TLS with what answers there: {0}")]
    Tls(rustls::Error),
    /// The certificate says not who it is.
    #[error("its certificate: {0}")]
    Nobody(CertificateError),
    /// It is not the daemon that we look for.
    #[error("it is {0}, and no coordinator of our trust domain")]
    NotCoordinator(Identity),
}

/// Connects with a certificate, or without any TLS.
#[derive(Clone, Debug)]
pub struct Connector(pub Option<Credentials>);

impl Service<Uri> for Connector {
    type Response = TokioIo<ToCoordinator>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let credentials = self.0.clone();
        Box::pin(async move { connect(credentials, &uri).await.map(TokioIo::new) })
    }
}

async fn connect(
    credentials: Option<Credentials>,
    uri: &Uri,
) -> Result<ToCoordinator, ConnectError> {
    let none = || ConnectError::Url(uri.clone());
    let authority = uri.authority().ok_or_else(none)?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let port = authority.port_u16().ok_or_else(none)?;
    let stream = TcpStream::connect((host, port)).await.map_err(ConnectError::Tcp)?;
    // Where it is refused, it is only later.
    drop(stream.set_nodelay(true));
    let Some(credentials) = credentials else { return Ok(ToCoordinator::Plain(stream)) };
    let changes = credentials.changes();
    let material = credentials.current();
    let (ends, now) = (material.own.ends, crate::now());
    if now > ends {
        return Err(ConnectError::OwnExpired { ends: rfc3339(ends), now: rfc3339(now) });
    }
    let config = material.client(b"h2").map_err(ConnectError::Own)?;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| ConnectError::Name(host.to_owned(), error))?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name.clone(), stream).await;
    let stream = stream.map_err(said)?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let chain: Vec<_> = chain.iter().map(|each| each.clone().into_owned()).collect();
    let identity =
        chain.first().map_or(Err(CertificateError::Uris(0)), |c| certificate::identity(c));
    let identity = identity.map_err(ConnectError::Nobody)?;
    let ours = material.identity.trust_domain() == identity.trust_domain();
    if identity.role() != Role::Coordinator || !ours {
        return Err(ConnectError::NotCoordinator(identity));
    }
    // In TLS 1.3 the other end judges our certificate after we think that all is well; a coordinator speaks first, one way or the other.
    let mut stream = BufReader::new(stream);
    match stream.fill_buf().await {
        Err(error) => return Err(ConnectError::Refused(refusal(error))),
        Ok([]) => return Err(ConnectError::Closed),
        Ok(_) => {}
    }
    Ok(ToCoordinator::Tls(Box::new(stream), Vouched::server(chain, name, changes)))
}

/// `DnsName("a")` and the like, as rustls prints names; without URIs, which nobody connects to.
fn readable(presented: &[String]) -> String {
    let names = presented.iter().filter(|name| !name.starts_with("Uniform"));
    let inner = names.map(|name| {
        let name = name.split_once('(').map_or(name.as_str(), |(_, rest)| rest);
        name.trim_end_matches(')').trim_matches('"').to_owned()
    });
    inner.collect::<Vec<_>>().join(", ")
}

fn said(error: io::Error) -> ConnectError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let time = |at: &rustls::pki_types::UnixTime| {
        rfc3339(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(at.as_secs()))
    };
    match inner {
        None => ConnectError::Tcp(error),
        Some(rustls::Error::InvalidMessage(_)) => ConnectError::NoTls,
        Some(rustls::Error::InvalidCertificate(why)) => match why {
            Unvouched::UnknownIssuer | Unvouched::BadSignature => ConnectError::UnknownAuthority,
            Unvouched::ExpiredContext { time: now, not_after } => {
                ConnectError::Expired { ends: time(not_after), now: time(now) }
            }
            Unvouched::NotValidYetContext { time: now, not_before } => {
                ConnectError::NotYet { begins: time(not_before), now: time(now) }
            }
            Unvouched::NotValidForNameContext { expected, presented } => ConnectError::OtherName {
                expected: expected.to_str().into_owned(),
                presented: readable(presented),
            },
            other => ConnectError::Tls(rustls::Error::InvalidCertificate(other.clone())),
        },
        Some(other) => ConnectError::Tls(other.clone()),
    }
}

/// A connection to the coordinator; it ends with the coordinator's certificate.
#[derive(Debug)]
pub enum ToCoordinator {
    /// As it is.
    Plain(TcpStream),
    /// In TLS.
    Tls(Box<BufReader<TlsStream<TcpStream>>>, Vouched),
}

/// What the coordinator had against our certificate: in TLS 1.3 it says so after we think that all is well.
fn refusal(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return io::Error::new(io::ErrorKind::UnexpectedEof, "it was closed at the other end");
    }
    let alert = match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => *alert,
        _ => return error,
    };
    let why = match alert {
        AlertDescription::CertificateExpired => {
            "our certificate has ended, or by its clock not begun"
        }
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "no authority that it knows vouches for our certificate"
        }
        AlertDescription::CertificateRequired => "it wants a certificate",
        AlertDescription::BadCertificate => "our certificate is none for it",
        _ => return error,
    };
    io::Error::new(io::ErrorKind::PermissionDenied, format!("the coordinator refuses us: {why}"))
}

impl AsyncRead for ToCoordinator {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream, vouched) => {
                vouched.check(cx)?;
                Pin::new(stream).poll_read(cx, buffer).map_err(refusal)
            }
        }
    }
}

impl AsyncWrite for ToCoordinator {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, octets),
            Self::Tls(stream, vouched) => {
                vouched.check(cx)?;
                Pin::new(stream).poll_write(cx, octets).map_err(refusal)
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream, _) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream, _) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

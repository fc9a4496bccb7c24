//! One try: connect, ask, say what came.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use railgauge_proto::v1;
use railgauge_proto::v1::agents_client::AgentsClient;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tower_service::Service;

const BOUND: Duration = Duration::from_secs(10);

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// No connection: what TLS said.
    Tls(String),
    /// An RPC's status.
    Rpc(Code, String),
    /// A page's status.
    Page(u16),
}

/// A person at a coordinator.
#[derive(Clone, Debug)]
pub struct Client {
    /// With what they come.
    pub tls: Arc<ClientConfig>,
    /// Where its gRPC is.
    pub grpc: SocketAddr,
    /// Where its pages are.
    pub http: SocketAddr,
}

struct Way {
    tls: Arc<ClientConfig>,
    to: SocketAddr,
}

impl Service<http::Uri> for Way {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let (tls, to) = (Arc::clone(&self.tls), self.to);
        Box::pin(async move { dial(tls, b"h2", to).await.map(TokioIo::new) })
    }
}

async fn dial(
    tls: Arc<ClientConfig>,
    alpn: &[u8],
    to: SocketAddr,
) -> io::Result<TlsStream<TcpStream>> {
    let mut config = ClientConfig::clone(&tls);
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(to).await?;
    let name = ServerName::IpAddress(to.ip().into());
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

fn innermost(error: &dyn std::error::Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

impl Client {
    /// A TLS connection, to do with as one likes.
    pub(super) async fn dial(
        &self,
        alpn: &[u8],
        to: SocketAddr,
    ) -> io::Result<TlsStream<TcpStream>> {
        dial(Arc::clone(&self.tls), alpn, to).await
    }

    async fn channel(&self) -> Result<Channel, String> {
        let way = Way { tls: Arc::clone(&self.tls), to: self.grpc };
        let endpoint = Endpoint::from_shared(format!("http://{}", self.grpc));
        let endpoint = endpoint.map_err(|error| innermost(&error))?;
        let connected = timeout(BOUND, endpoint.connect_with_connector(way)).await;
        connected.map_err(|_| "silence".to_owned())?.map_err(|error| innermost(&error))
    }

    /// Calls an RPC with an empty message, whatever it wants.
    pub async fn rpc(&self, path: &'static str) -> Answer {
        let channel = match self.channel().await {
            Ok(channel) => channel,
            Err(said) => return Answer::Tls(said),
        };
        let mut grpc = Grpc::new(channel);
        if let Err(error) = grpc.ready().await {
            return Answer::Tls(innermost(&error));
        }
        let path = http::uri::PathAndQuery::from_static(path);
        let codec: ProstCodec<(), ()> = ProstCodec::default();
        let called =
            timeout(BOUND, grpc.streaming(Request::new(tokio_stream::once(())), path, codec));
        let status = match called.await {
            Err(_) => return Answer::Rpc(Code::DeadlineExceeded, "silence".to_owned()),
            Ok(Err(status)) => status,
            Ok(Ok(stream)) => {
                let mut stream = stream.into_inner();
                match timeout(BOUND, stream.message()).await {
                    Ok(Err(status)) => status,
                    Ok(Ok(_)) => Status::ok("an answer"),
                    Err(_) => return Answer::Rpc(Code::DeadlineExceeded, "silence".to_owned()),
                }
            }
        };
        said(&status)
    }

    /// Says hello as the agent of `node`.
    pub async fn hello(&self, hello: v1::Hello) -> Answer {
        let channel = match self.channel().await {
            Ok(channel) => channel,
            Err(said) => return Answer::Tls(said),
        };
        let message = v1::agent_message::Message::Hello(hello);
        let hello = tokio_stream::once(v1::AgentMessage { message: Some(message) });
        match timeout(BOUND, AgentsClient::new(channel).session(hello)).await {
            Err(_) => Answer::Rpc(Code::DeadlineExceeded, "silence".to_owned()),
            Ok(Err(status)) => said(&status),
            Ok(Ok(stream)) => match timeout(BOUND, stream.into_inner().message()).await {
                Ok(Err(status)) => said(&status),
                Ok(Ok(_)) => Answer::Rpc(Code::Ok, "welcome".to_owned()),
                Err(_) => Answer::Rpc(Code::DeadlineExceeded, "silence".to_owned()),
            },
        }
    }

    /// Gets a page.
    pub async fn page(&self, path: &str) -> Answer {
        let got = timeout(BOUND, self.get(path)).await;
        match got {
            Ok(Ok(status)) => Answer::Page(status),
            Ok(Err(error)) => Answer::Tls(innermost(&error)),
            Err(_) => Answer::Tls("silence".to_owned()),
        }
    }

    async fn get(&self, path: &str) -> io::Result<u16> {
        let mut stream = dial(Arc::clone(&self.tls), b"http/1.1", self.http).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        // Who closes without a word after the answer has answered.
        let ended = stream.read_to_end(&mut answer).await;
        let status =
            String::from_utf8_lossy(&answer).split(' ').nth(1).and_then(|s| s.parse().ok());
        status.ok_or_else(|| match ended {
            Err(error) => error,
            Ok(_) => io::Error::other("no answer"),
        })
    }
}

/// A status of the server's own, or one that tonic made of a connection that was closed.
fn said(status: &Status) -> Answer {
    use std::error::Error as _;
    match status.source() {
        Some(cause) => Answer::Tls(innermost(cause)),
        None => Answer::Rpc(status.code(), status.message().to_owned()),
    }
}

//! Asking the coordinator.

use std::error::Error;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use railgauge_access::connector::{ConnectError, Connector};
use railgauge_access::credentials::Credentials;
use railgauge_access::files::{Files, LoadError};
use railgauge_proto::v1::operator_client::OperatorClient;
use railgauge_proto::{MAX_MESSAGE, v1};
use railgauge_report::doc::{self, Document, Findings, Paths, Sweep};
use serde::Serialize;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::args::{AskArgs, Output};
use crate::columns::ascii;
use crate::{Exit, output};

/// How long connecting may take, and an answer that needs no measuring.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(30);

/// How long new keys may take: two waits of 10 s for nodes that do not answer, and twice the longest time-out.
const ROTATION: Duration = Duration::from_secs(180);

/// Documents of a large fleet are longer than a message between daemons: 4,096 paths with their histograms take 60 MiB.
const MOST_ANSWER: usize = 32 * MAX_MESSAGE;

/// How often a request to stop is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// A coordinator that is asked to cancel a sweep and is silent for so many looks does not answer any more: 30 s.
const LOOKS_AFTER_CANCEL: u32 = 300;

/// A way that has gone silent is found dead after twice this.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// What was typed is no URL.
    #[error(
        "{0:?} is no coordinator: write https://HOST:PORT, as https://coordinator.example:7460"
    )]
    Url(String),
    /// TLS, and nothing to say who asks.
    #[error(
        "{url} wants to know who asks: give --{missing} (or RAILGAUGE_{}); `railgauge certs issue viewer NAME` makes certificates for \
         trying out",
        .missing.to_uppercase()
    )]
    Anonymous {
        /// Where.
        url: String,
        /// The first that is not there.
        missing: &'static str,
    },
    /// A certificate for plaintext.
    #[error(
        "{0} is plaintext, and --ca, --cert and --key are for TLS: write https://, or leave them out"
    )]
    Plaintext(String),
    /// Our certificate.
    #[error(transparent)]
    Certificate(#[from] LoadError),
    /// Nobody there.
    #[error(
        "no coordinator answers at {url}: is railgauge-coordinator running there? --coordinator URL names another"
    )]
    Connect {
        /// Where.
        url: String,
        /// What the system said.
        source: tonic::transport::Error,
    },
    /// Somebody is there, and TLS fails.
    #[error("no connection with what answers at {url}: {said}")]
    Tls {
        /// Where.
        url: String,
        /// Why.
        said: String,
    },
    /// A web server, as the coordinator's own page.
    #[error(
        "what answers at {0} is no coordinator's gRPC: its page has another port than --coordinator, by default 7461 and 7460"
    )]
    NotGrpc(String),
    /// No plaintext, as a coordinator with TLS.
    #[error(
        "what answers at {0} speaks no plaintext gRPC: if it is a coordinator with TLS, write https:// and give --ca, --cert and --key"
    )]
    WantsTls(String),
    /// It refuses, in its own words.
    #[error("{0}")]
    Refused(String),
    /// What was asked for is wrong, in its own words.
    #[error("{0}")]
    Usage(String),
    /// It went away, or the way there did.
    #[error("the coordinator at {url} does not answer any more: {said}")]
    Lost {
        /// Where.
        url: String,
        /// What is known.
        said: String,
    },
    /// It speaks of what we do not know.
    #[error("the coordinator's answer cannot be read: are both of one version?")]
    Document(#[from] doc::ReadError),
    /// No thread, no descriptor.
    #[error("cannot begin")]
    System(#[from] std::io::Error),
}

impl RemoteError {
    /// Whether what was typed is wrong (exit code 2), as against the world (3).
    pub const fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Url(_)
                | Self::NotGrpc(_)
                | Self::WantsTls(_)
                | Self::Usage(_)
                | Self::Anonymous { .. }
                | Self::Plaintext(_)
                | Self::Certificate(_)
        )
    }
}

/// A document as read, and as it came.
#[derive(Debug)]
pub struct Answer<D> {
    /// As read: without what this version does not know.
    pub document: D,
    /// As it came: all of it.
    pub json: String,
}

/// A coordinator that answered.
pub struct Remote {
    runtime: Runtime,
    client: OperatorClient<Channel>,
    url: String,
}

/// What came of a sweep.
#[derive(Debug)]
pub enum SweepEnd {
    /// It ran, or was cancelled while it did.
    Finished(Box<Answer<Sweep>>),
    /// It goes on without us, under this name.
    Detached(String),
    /// It was only announced.
    Announced,
}

/// Where the coordinator is, and by what we are known there.
fn place(args: &AskArgs) -> Result<(String, Option<Files>), RemoteError> {
    let named = args.ca.is_some() || args.cert.is_some() || args.key.is_some();
    let scheme = if named { "https" } else { "http" };
    let url = args.coordinator.clone().unwrap_or_else(|| format!("{scheme}://127.0.0.1:7460"));
    if !url.starts_with("https://") {
        return if named && url.starts_with("http://") {
            Err(RemoteError::Plaintext(url))
        } else {
            Ok((url, None))
        };
    }
    let files = (args.ca.clone(), args.cert.clone(), args.key.clone());
    let missing = match files {
        (Some(ca), Some(cert), Some(key)) => return Ok((url, Some(Files { ca, cert, key }))),
        (None, ..) => "ca",
        (_, None, _) => "cert",
        (.., None) => "key",
    };
    Err(RemoteError::Anonymous { url, missing })
}

impl Remote {
    /// Connects to the one that was asked for.
    ///
    /// # Errors
    /// When nobody answers there, or nobody should.
    pub fn asked(args: &AskArgs) -> Result<Self, RemoteError> {
        let (url, files) = place(args)?;
        Self::connect(&url, files)
    }

    /// Connects.
    ///
    /// # Errors
    /// When nobody answers there.
    pub fn connect(url: &str, files: Option<Files>) -> Result<Self, RemoteError> {
        // A thread of its own answers the coordinator's keep-alives while nobody asks: without an answer it ends the connection
        // after 20 s.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let endpoint = ["http://", "https://"]
            .iter()
            .any(|scheme| url.starts_with(scheme))
            .then(|| Endpoint::from_shared(url.to_owned()).ok())
            .flatten()
            // Ports of the web are none of ours, so that each URL names its own.
            .filter(|endpoint| endpoint.uri().port_u16().is_some())
            .ok_or_else(|| RemoteError::Url(url.to_owned()))?;
        let credentials = {
            let _within = runtime.enter();
            files.map(Credentials::load).transpose()?
        };
        let endpoint = endpoint
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE);
        let channel = runtime.block_on(endpoint.connect_with_connector(Connector(credentials)));
        let channel = channel.map_err(|source| unconnected(url, source))?;
        let client = OperatorClient::new(channel).max_decoding_message_size(MOST_ANSWER);
        Ok(Self { runtime, client, url: url.to_owned() })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn ask<T>(
        &self,
        request: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, RemoteError> {
        self.ask_for(ANSWER, request)
    }

    fn ask_for<T>(
        &self,
        most: Duration,
        request: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, RemoteError> {
        let within = async { tokio::time::timeout(most, request).await };
        match self.runtime.block_on(within) {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.failed(&status)),
            Err(_) => Err(self.lost(&format!("nothing for {} s", most.as_secs()))),
        }
    }

    fn lost(&self, said: &str) -> RemoteError {
        RemoteError::Lost { url: self.url.clone(), said: said.to_owned() }
    }

    fn failed(&self, status: &Status) -> RemoteError {
        // What tonic made of a connection that broke has the reason inside.
        let text = status.source().map_or_else(|| status.message().to_owned(), innermost);
        let said = if text.is_empty() { status.code().description().to_owned() } else { text };
        match status.code() {
            // Tonic's own words: it has no code for an answer that is not gRPC.
            Code::Internal if said.contains("compression flag") => {
                RemoteError::NotGrpc(self.url.clone())
            }
            // What it says in TLS is no HTTP/2.
            _ if said.contains("frame with invalid size") && self.url.starts_with("http://") => {
                RemoteError::WantsTls(self.url.clone())
            }
            Code::InvalidArgument | Code::NotFound => RemoteError::Usage(said),
            Code::Unavailable | Code::Unknown | Code::Cancelled => {
                RemoteError::Lost { url: self.url.clone(), said }
            }
            _ => RemoteError::Refused(said),
        }
    }

    /// The nodes it knows, and its version.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn nodes(&self) -> Result<v1::ListNodesResponse, RemoteError> {
        let mut client = self.client.clone();
        self.ask(client.list_nodes(v1::ListNodesRequest {}))
    }

    /// New keys for the fleet's probes.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub fn rotate_probe_keys(
        &self,
        withdraw: bool,
    ) -> Result<v1::RotateProbeKeysResponse, RemoteError> {
        let mut client = self.client.clone();
        let request = v1::RotateProbeKeysRequest { withdraw };
        self.ask_for(ROTATION, client.rotate_probe_keys(request))
    }

    /// The paths over the last `since`, those with a selected node at either end.
    ///
    /// # Errors
    /// When it does not answer, or the selection is none.
    pub fn paths(&self, since: Duration, nodes: &str) -> Result<Answer<Paths>, RemoteError> {
        let since_ns = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        let request = v1::ListPathsRequest { since_ns, nodes: nodes.to_owned() };
        let mut client = self.client.clone();
        let answer = self.ask(client.list_paths(request))?;
        document(&answer.json)
    }

    /// What is judged wrong or unknown now.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn findings(&self) -> Result<Answer<Findings>, RemoteError> {
        let mut client = self.client.clone();
        let answer = self.ask(client.list_findings(v1::ListFindingsRequest {}))?;
        document(&answer.json)
    }

    /// A sweep that is over; `None` while it runs, with how far it is.
    ///
    /// # Errors
    /// When it does not answer, or knows no such sweep.
    pub fn sweep(
        &self,
        id: &str,
    ) -> Result<(Option<Answer<Sweep>>, v1::GetSweepResponse), RemoteError> {
        let mut client = self.client.clone();
        let answer = self.ask(client.get_sweep(v1::GetSweepRequest { id: id.to_owned() }))?;
        let sweep = if answer.running { None } else { Some(document(&answer.json)?) };
        Ok((sweep, answer))
    }

    /// The sweeps it knows.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn sweeps(&self) -> Result<Vec<v1::SweepEntry>, RemoteError> {
        let mut client = self.client.clone();
        Ok(self.ask(client.list_sweeps(v1::ListSweepsRequest {}))?.sweeps)
    }

    /// Ends a sweep, or with an empty name all; returns those that were running.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn cancel(&self, id: &str) -> Result<Vec<String>, RemoteError> {
        let mut client = self.client.clone();
        let request = v1::CancelSweepRequest { id: id.to_owned() };
        Ok(self.ask(client.cancel_sweep(request))?.cancelled)
    }

    /// Runs a sweep. `on` hears of everything as it happens. When `stop` is set, the sweep is cancelled and what it has measured
    /// returned.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub fn run_sweep(
        &self,
        request: v1::StartSweepRequest,
        stop: &AtomicBool,
        mut on: impl FnMut(&v1::sweep_event::Event),
    ) -> Result<SweepEnd, RemoteError> {
        use v1::sweep_event::Event;
        let (detach, dry_run) = (request.detach, request.dry_run);
        let mut client = self.client.clone();
        let mut events = self.ask(client.start_sweep(request))?;
        let (mut id, mut cancelled, mut silent) = (String::new(), false, 0);
        loop {
            let next = async { tokio::time::timeout(LOOK, events.message()).await };
            match self.runtime.block_on(next) {
                Ok(Ok(Some(v1::SweepEvent { event: Some(event) }))) => {
                    on(&event);
                    match event {
                        Event::Announced(announced) if dry_run => {
                            drop(announced);
                            return Ok(SweepEnd::Announced);
                        }
                        Event::Announced(announced) if detach => {
                            return Ok(SweepEnd::Detached(announced.id));
                        }
                        Event::Announced(announced) => id = announced.id,
                        Event::Finished(finished) => {
                            return Ok(SweepEnd::Finished(Box::new(document(&finished.json)?)));
                        }
                        _ => {}
                    }
                }
                Ok(Ok(Some(_))) => {}
                Err(_) if cancelled && silent == LOOKS_AFTER_CANCEL => {
                    return Err(self.lost("asked to cancel the sweep, it says nothing"));
                }
                Err(_) => silent += u32::from(cancelled),
                Ok(Ok(None)) => return Err(self.lost("its account of the sweep ended early")),
                Ok(Err(status)) => return Err(self.failed(&status)),
            }
            if stop.load(Ordering::Relaxed) && !cancelled && !id.is_empty() {
                cancelled = true;
                match self.cancel(&id) {
                    // It ended meanwhile, and its result is on the way.
                    Ok(_) | Err(RemoteError::Usage(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

/// Nobody there, or somebody with whom there is no TLS.
fn unconnected(url: &str, source: tonic::transport::Error) -> RemoteError {
    let url = url.to_owned();
    let mut cause = source.source();
    while let Some(error) = cause {
        match error.downcast_ref::<ConnectError>() {
            Some(ConnectError::Tcp(_)) | None => cause = error.source(),
            Some(said) => return RemoteError::Tls { url, said: said.to_string() },
        }
    }
    RemoteError::Connect { url, source }
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn document<D: Document>(json: &[u8]) -> Result<Answer<D>, RemoteError> {
    let document = doc::from_json(json)?;
    Ok(Answer { document, json: output::harmless(String::from_utf8_lossy(json).trim_end()) })
}

/// What a command prints that could not do its work.
#[derive(Serialize)]
struct Failure<'a> {
    schema: &'a str,
    error: &'a str,
}

/// Says why `command` has no result, on stderr and, where an object was asked for, as one.
#[must_use]
pub fn refuse(
    command: &str,
    schema: &str,
    output: Output,
    error: &dyn std::error::Error,
    exit: Exit,
) -> Exit {
    let error = ascii(&output::sentence(error));
    output::say(&format!("railgauge {command}: {error}"));
    match output {
        Output::Json => output::json(&Failure { schema, error: &error }, exit),
        Output::Table => exit,
    }
}

impl From<&RemoteError> for Exit {
    fn from(error: &RemoteError) -> Self {
        if error.is_usage() { Self::Usage } else { Self::Unmeasured }
    }
}

/// A time on the wire as RFC 3339 in UTC; `None` for never.
pub fn rfc3339(unix_ns: u64) -> Option<String> {
    let at = jiff::Timestamp::from_nanosecond(unix_ns.into()).ok()?;
    (unix_ns > 0).then(|| format!("{at:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc() {
        let at = rfc3339(1_763_884_980_123_000_000);
        assert_eq!(at.as_deref(), Some("2025-11-23T08:03:00.123Z"));
        assert_eq!(rfc3339(0), None);
    }
}

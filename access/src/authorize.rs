//! Nobody does what the policy does not let them: one gate before all RPCs, one before all pages.

use std::future::{Future, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use railgauge_core::access::{Need, Refusal, decide, is_held_back_unwritten, page_need, rpc_need};
use tonic::Status;
use tower_layer::Layer;
use tower_service::Service;

use crate::audit::{Audit, AuditError, Decision, Verdict};
use crate::connection::{Peer, Who};

fn judge(need: Need, peer: &Peer) -> Result<(), Refusal> {
    match &peer.who {
        // The operator has said that whoever is on this machine may do all.
        Who::Insecure if need != Need::Nobody => Ok(()),
        who => decide(need, who.identity()),
    }
}

/// Writes the decision.
fn record(
    audit: &Audit,
    peer: &Peer,
    what: &str,
    need: Need,
    judged: &Result<(), Refusal>,
) -> Result<(), AuditError> {
    let (verdict, detail) = match judged {
        Ok(()) => (Verdict::Allowed, String::new()),
        Err(refusal) => (Verdict::Refused, refusal.to_string()),
    };
    let decision = Decision { peer, what, verdict, detail: &detail };
    match need {
        Need::Operator | Need::Admin => audit.record(&decision),
        _ => audit.record_read(&decision),
    }
}

/// What is not done because it cannot be written who did it.
pub fn unwritten(error: &AuditError) -> Status {
    let why = crate::sentence(error);
    Status::failed_precondition(format!(
        "nothing is changed that cannot be written down: {why}; make room there, or set audit_log"
    ))
}

/// The gate before RPCs.
#[derive(Clone, Debug)]
pub struct Rpcs(pub Audit);

impl<S> Layer<S> for Rpcs {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, audit: self.0.clone() }
    }
}

/// What is behind that gate.
#[derive(Clone, Debug)]
pub struct Guarded<S> {
    inner: S,
    audit: Audit,
}

impl<S, B> Service<http::Request<B>> for Guarded<S>
where
    S: Service<http::Request<B>, Response = http::Response<tonic::body::Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        match admit(&self.audit, request.extensions().get::<Peer>(), request.uri().path()) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(status) => Box::pin(ready(Ok(status.into_http()))),
        }
    }
}

fn admit(audit: &Audit, peer: Option<&Peer>, path: &str) -> Result<(), Status> {
    // Only a listener that is not ours says nothing of the peer.
    let peer = peer.ok_or_else(|| Status::internal("it is not known who asks"))?;
    let need = rpc_need(path);
    let judged = judge(need, peer);
    // Reading, measuring and stopping go on with a full disk; the failure is counted and has been said.
    if let Err(error) = record(audit, peer, path, need, &judged)
        && judged.is_ok()
        && is_held_back_unwritten(path)
    {
        return Err(unwritten(&error));
    }
    judged.map_err(|refusal| match refusal {
        Refusal::Unknown(_) => Status::unauthenticated(refusal.to_string()),
        Refusal::Role { need: Need::Nobody, .. } => Status::unimplemented(refusal.to_string()),
        Refusal::Role { .. } => Status::permission_denied(refusal.to_string()),
    })
}

/// What pages may be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// All of them, to whoever is on this machine.
    Here,
    /// Metrics and health to whoever comes, and nothing else to anybody.
    MetricsOnly,
    /// What the policy says, to whom it says.
    ByPolicy,
}

/// The gate before pages, for [`axum::middleware::from_fn_with_state`].
pub async fn pages(
    State((shown, audit)): State<(Shown, Audit)>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    let need = page_need(&path);
    let judged = match shown {
        Shown::Here => Ok(()),
        Shown::MetricsOnly if path == "/metrics" || need == Need::Anyone => Ok(()),
        Shown::MetricsOnly => Err(Refusal::Unknown(need)),
        Shown::ByPolicy => judge(need, &peer),
    };
    // A health check comes every second from several sides, and decides nothing. Nor does what is not read: pages do nothing else, and the
    // path of an RPC that is posted here would read in the log as if it had been done.
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if need != Need::Anyone && (reads || judged.is_err()) {
        drop(record(&audit, &peer, &path, need, &judged));
    }
    match judged {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            let status = match &refusal {
                Refusal::Unknown(_) if shown == Shown::ByPolicy => StatusCode::UNAUTHORIZED,
                _ => StatusCode::FORBIDDEN,
            };
            let text = match shown {
                Shown::MetricsOnly => {
                    "without TLS only /metrics and /healthz are shown here\n".to_owned()
                }
                _ => format!("{refusal}\n"),
            };
            let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
            (status, plain, text).into_response()
        }
    }
}

//! Nobody does what the policy does not let them: one gate before all RPCs, one before all pages.

use std::future::{Future, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use railgauge_core::access::{Need, Refusal, decide, page_need, rpc_need};
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

/// Writes the decision; what changes something is not done where that cannot be written.
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
        // Reading, and measuring, goes on with a full disk; the failure is counted and has been said.
        _ => {
            drop(audit.record_read(&decision));
            Ok(())
        }
    }
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
    record(audit, peer, path, need, &judged)
        .map_err(|error| Status::unavailable(crate::sentence(&error)))?;
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
    // A health check comes every second from several sides, and decides nothing.
    if need != Need::Anyone {
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

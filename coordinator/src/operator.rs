//! The Operator service: what people and programs ask.

use std::pin::Pin;
use std::sync::Arc;

use railgauge_access::audit::{Audit, Decision, Verdict};
use railgauge_access::authorize::unwritten;
use railgauge_access::connection::Peer;
use railgauge_proto::{convert, v1};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Extensions, Request, Response, Status};

use crate::VERSION;
use crate::documents;
use crate::fleet::Fleet;
use crate::hello;
use crate::ingest::Ingest;
use crate::judging::Judging;
use crate::probe_keys::RotateError;
use crate::registry::{Node, State};
use crate::sweeps::Sweeps;

/// The service.
#[derive(Clone, Debug)]
pub struct Operator {
    /// Who is there.
    pub fleet: Arc<Fleet>,
    /// What was measured, and what it says.
    pub judging: Judging,
    /// What is measured now.
    pub sweeps: Sweeps,
    /// Whether windows are stored.
    pub ingest: Ingest,
    /// Where it is written who did what.
    pub audit: Audit,
}

impl Operator {
    /// Writes what is about to be done, and by whom; without that it is not done.
    fn record(&self, extensions: &Extensions, what: &str, detail: &str) -> Result<(), Status> {
        let peer =
            extensions.get::<Peer>().ok_or_else(|| Status::internal("it is not known who asks"))?;
        let decision = Decision { peer, what, verdict: Verdict::Allowed, detail };
        self.audit.record(&decision).map_err(|error| unwritten(&error))
    }
}

#[tonic::async_trait]
impl v1::operator_server::Operator for Operator {
    type StartSweepStream = Pin<Box<dyn Stream<Item = Result<v1::SweepEvent, Status>> + Send>>;

    async fn list_nodes(
        &self,
        _: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        let failing = self.ingest.counters().failing();
        let nodes = self.fleet.nodes();
        let planless = self.fleet.planless();
        let message = |node: &Node| {
            let mut message = node_message(node, failing.as_deref(), planless.as_deref());
            let is_there = node.state == State::Connected;
            message.notes.extend(self.fleet.keys.note(&node.hello.node).filter(|_| is_there));
            message
        };
        let nodes = nodes.iter().map(message).collect();
        let coordinator_version = VERSION.to_owned();
        Ok(Response::new(v1::ListNodesResponse { nodes, coordinator_version }))
    }

    async fn list_paths(
        &self,
        request: Request<v1::ListPathsRequest>,
    ) -> Result<Response<v1::ListPathsResponse>, Status> {
        let json = documents::paths(&self.fleet, &self.judging, &request.into_inner()).await?;
        Ok(Response::new(v1::ListPathsResponse { json }))
    }

    async fn list_findings(
        &self,
        _: Request<v1::ListFindingsRequest>,
    ) -> Result<Response<v1::ListFindingsResponse>, Status> {
        let json = documents::findings(&self.judging);
        Ok(Response::new(v1::ListFindingsResponse { json }))
    }

    async fn start_sweep(
        &self,
        request: Request<v1::StartSweepRequest>,
    ) -> Result<Response<Self::StartSweepStream>, Status> {
        let detail = sweep_detail(request.get_ref());
        self.record(request.extensions(), "sweep", &detail)?;
        let (_, extensions, request) = request.into_parts();
        // Asked for by somebody who may, and yet not run, as beyond a bound: the log is to say that too.
        let (audit, peer) = (self.audit.clone(), extensions.get::<Peer>().cloned());
        let refused = move |why: &Status| {
            let Some(peer) = &peer else { return };
            let detail = format!("{detail}: {}", why.message());
            let decision =
                Decision { peer, what: "sweep", verdict: Verdict::Refused, detail: &detail };
            // Nothing is done that is not written.
            drop(audit.record(&decision));
        };
        let events = self.sweeps.start(request).inspect_err(&refused)?;
        let events = events.map(move |event| event.inspect_err(&refused));
        Ok(Response::new(Box::pin(events)))
    }

    async fn get_sweep(
        &self,
        request: Request<v1::GetSweepRequest>,
    ) -> Result<Response<v1::GetSweepResponse>, Status> {
        self.sweeps.get(&request.into_inner().id).await.map(Response::new)
    }

    async fn list_sweeps(
        &self,
        _: Request<v1::ListSweepsRequest>,
    ) -> Result<Response<v1::ListSweepsResponse>, Status> {
        Ok(Response::new(v1::ListSweepsResponse { sweeps: self.sweeps.list() }))
    }

    async fn cancel_sweep(
        &self,
        request: Request<v1::CancelSweepRequest>,
    ) -> Result<Response<v1::CancelSweepResponse>, Status> {
        let id = hello::printable(&request.get_ref().id);
        let which = if id.is_empty() { "all" } else { &id };
        // What disturbs a fleet is stopped, whether or not that can be written down; the failure is counted and has been said.
        drop(self.record(request.extensions(), "cancel sweep", which));
        let cancelled = self.sweeps.cancel(&request.into_inner().id)?;
        Ok(Response::new(v1::CancelSweepResponse { cancelled }))
    }

    async fn rotate_probe_keys(
        &self,
        request: Request<v1::RotateProbeKeysRequest>,
    ) -> Result<Response<v1::RotateProbeKeysResponse>, Status> {
        let withdraw = request.get_ref().withdraw;
        self.record(request.extensions(), "rotate probe keys", &format!("withdraw={withdraw}"))?;
        let keys = &self.fleet.keys;
        let report = keys.rotate(withdraw).await.map_err(|error| match error {
            RotateError::Off => Status::failed_precondition(error.to_string()),
            RotateError::Unwritten(_) => Status::internal(error.to_string()),
            RotateError::Stopping => Status::unavailable(error.to_string()),
        })?;
        let live = self.fleet.nodes().into_iter().filter(Node::is_live);
        let without = keys.without_keys(live.map(|node| node.hello.node));
        Ok(Response::new(v1::RotateProbeKeysResponse {
            epoch: report.epoch,
            nodes_confirmed: u32::try_from(report.confirmed).unwrap_or(u32::MAX),
            nodes_without_keys: without.iter().map(ToString::to_string).collect(),
            old_keys_withdrawn: withdraw || report.laggards.is_empty(),
            waits_for: report.laggards.iter().map(ToString::to_string).collect(),
        }))
    }
}

/// What somebody wants swept, for the audit log.
fn sweep_detail(request: &v1::StartSweepRequest) -> String {
    let text = format!(
        "suite={} nodes={} max_rounds={} expected={} dry_run={} detach={}",
        request.suite,
        if request.nodes.is_empty() { "all" } else { &request.nodes },
        request.max_rounds,
        request.expected.len(),
        request.dry_run,
        request.detach
    );
    hello::printable(&text).chars().take(1_000).collect()
}

/// `failing` is why the coordinator cannot store windows, `planless` why it gives out no plan, if so.
fn node_message(node: &Node, failing: Option<&str>, planless: Option<&str>) -> v1::Node {
    let mut notes = node.notes();
    // It is not the node that is ill: its stream ends with each batch, and begins anew.
    if let Some(why) = failing.filter(|_| node.state == State::Reconnecting) {
        notes.push(format!("the coordinator cannot store its windows, which stay with it: {why}"));
    }
    if let Some(why) = planless.filter(|_| node.state == State::Connected) {
        notes.push(format!("the coordinator can give it no new plan: {why}"));
    }
    let state = match node.state {
        State::Connected => v1::NodeState::Connected,
        State::Reconnecting => v1::NodeState::Reconnecting,
        State::Lost => v1::NodeState::Lost,
        State::Left => v1::NodeState::Left,
    };
    let endpoints = node.hello.endpoints.iter().map(|each| v1::NodeEndpoint {
        endpoint: Some(convert::endpoint_message(&each.endpoint)),
        address: each.address.to_string(),
    });
    v1::Node {
        name: node.hello.node.to_string(),
        state: state.into(),
        endpoints: endpoints.collect(),
        labels: node.hello.labels.clone().into_iter().collect(),
        software_version: node.hello.software_version.clone(),
        connected_at_unix_ns: node.connected_at.as_unix_nanos(),
        last_heard_unix_ns: node.last_heard.wall.as_unix_nanos(),
        clock_skew_ns: node.clock_skew_ns(),
        windows_ingested: node.windows_ingested,
        windows_refused: node.windows_refused,
        windows_in_spool: node.health.windows_in_spool,
        windows_dropped: node.health.windows_dropped,
        windows_unrecorded: node.health.windows_unrecorded,
        restarts: node.restarts,
        reboots: node.reboots,
        cpu_permille: node.health.cpu_permille,
        notes,
    }
}

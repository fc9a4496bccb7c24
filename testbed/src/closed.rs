//! Every RPC and every page, tried by everybody: who gets what is compared with a table written here by hand, and each try with the
//! line that the audit log must have of it.
//!
//! Whoever tries uses rustls as it is, with whatever certificate: nothing of ours checks anything on this side.

mod client;
mod hostile;
mod people;

pub use client::{Answer, Client};
pub use hostile::Hostility;
pub use people::{Person, people};

/// Who may, by the name of the person.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// RPC or page.
    pub what: &'static str,
    /// Those who are served.
    pub served: &'static [&'static str],
}

const VIEWERS: &[&str] = &["viewer", "operator", "admin"];
const OPERATORS: &[&str] = &["operator", "admin"];
const KNOWN: &[&str] = &["agent", "other-agent", "coordinator", "viewer", "operator", "admin"];

/// RPCs. An RPC of the descriptors that is not here is a mistake of this table.
pub const RPCS: &[Cell] = &[
    Cell { what: "/railgauge.v1.Agents/Session", served: &["agent", "other-agent"] },
    Cell { what: "/railgauge.v1.Operator/ListNodes", served: VIEWERS },
    Cell { what: "/railgauge.v1.Operator/ListPaths", served: VIEWERS },
    Cell { what: "/railgauge.v1.Operator/ListFindings", served: VIEWERS },
    Cell { what: "/railgauge.v1.Operator/GetSweep", served: VIEWERS },
    Cell { what: "/railgauge.v1.Operator/ListSweeps", served: VIEWERS },
    Cell { what: "/railgauge.v1.Operator/StartSweep", served: OPERATORS },
    Cell { what: "/railgauge.v1.Operator/CancelSweep", served: OPERATORS },
    Cell { what: "/railgauge.v1.Operator/RotateProbeKeys", served: &["admin"] },
    Cell { what: "/grpc.health.v1.Health/Check", served: KNOWN },
    Cell { what: "/grpc.health.v1.Health/Watch", served: KNOWN },
    Cell { what: "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", served: VIEWERS },
    Cell { what: "/railgauge.v1.Operator/NoSuchThing", served: &[] },
    Cell { what: "/no.such.Service/Method", served: &[] },
];

/// Everybody who gets through the handshake of a page.
const THROUGH: &[&str] =
    &["nobody", "agent", "other-agent", "coordinator", "viewer", "operator", "admin"];

/// Pages of an agent. `/nowhere` is served with 404.
pub const AGENT_PAGES: &[Cell] = &[
    Cell { what: "/healthz", served: THROUGH },
    Cell { what: "/", served: VIEWERS },
    Cell { what: "/metrics", served: VIEWERS },
    Cell { what: "/nowhere", served: VIEWERS },
];

/// Pages of the coordinator. `/nowhere` is served with 404.
pub const PAGES: &[Cell] = &[
    Cell { what: "/healthz", served: THROUGH },
    Cell { what: "/", served: VIEWERS },
    Cell { what: "/paths.json", served: VIEWERS },
    Cell { what: "/findings.json", served: VIEWERS },
    Cell { what: "/nodes.json", served: VIEWERS },
    Cell { what: "/sweeps", served: VIEWERS },
    Cell { what: "/sweeps/s1", served: VIEWERS },
    Cell { what: "/metrics", served: VIEWERS },
    Cell { what: "/nowhere", served: VIEWERS },
];

//! The policy: one table, and what is not in it is for nobody.

use std::fmt;

use super::{Identity, Role};

/// Who may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Whoever can connect.
    Anyone,
    /// Whoever has an identity in the trust domain.
    Known,
    /// Agents, each for its own node.
    Agent,
    /// Viewers, operators and admins.
    Viewer,
    /// Operators and admins.
    Operator,
    /// Admins.
    Admin,
    /// Nobody.
    Nobody,
}

impl Need {
    const fn is_met_by(self, role: Role) -> bool {
        match self {
            Self::Anyone | Self::Known => true,
            Self::Agent => matches!(role, Role::Agent),
            Self::Viewer => matches!(role, Role::Viewer | Role::Operator | Role::Admin),
            Self::Operator => matches!(role, Role::Operator | Role::Admin),
            Self::Admin => matches!(role, Role::Admin),
            Self::Nobody => false,
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anyone => "anyone",
            Self::Known => "anyone with a certificate",
            Self::Agent => "agents",
            Self::Viewer => "viewers, operators and admins",
            Self::Operator => "operators and admins",
            Self::Admin => "admins",
            Self::Nobody => "nobody",
        })
    }
}

/// Every RPC, and who may call it.
pub const POLICY: &[(&str, Need)] = &[
    ("/railgauge.v1.Agents/Session", Need::Agent),
    ("/railgauge.v1.Operator/ListNodes", Need::Viewer),
    ("/railgauge.v1.Operator/ListPaths", Need::Viewer),
    ("/railgauge.v1.Operator/ListFindings", Need::Viewer),
    ("/railgauge.v1.Operator/GetSweep", Need::Viewer),
    ("/railgauge.v1.Operator/ListSweeps", Need::Viewer),
    ("/railgauge.v1.Operator/StartSweep", Need::Operator),
    ("/railgauge.v1.Operator/CancelSweep", Need::Operator),
    ("/railgauge.v1.Operator/RotateProbeKeys", Need::Admin),
    ("/grpc.health.v1.Health/Check", Need::Known),
    ("/grpc.health.v1.Health/Watch", Need::Known),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Need::Viewer),
];

/// Who may call the RPC of this path.
pub fn rpc_need(path: &str) -> Need {
    POLICY.iter().find(|(known, _)| *known == path).map_or(Need::Nobody, |(_, need)| *need)
}

/// Whether an RPC of this path is done only where it can be written who did it: what changes anything, and not what ends it. The switch that
/// stops sweeps works with a full disk too.
pub fn is_held_back_unwritten(path: &str) -> bool {
    let changes = matches!(rpc_need(path), Need::Operator | Need::Admin);
    changes && path != "/railgauge.v1.Operator/CancelSweep"
}

/// Who may read the page of this path: the health of a daemon says nothing of the fabric, all else does, even that there is no such
/// page.
pub fn page_need(path: &str) -> Need {
    if path == "/healthz" { Need::Anyone } else { Need::Viewer }
}

/// Why somebody may not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody said who they are.
    #[error("this is for {0}: show a certificate")]
    Unknown(Need),
    /// They are somebody else.
    #[error("this is for {need}, and {who} is none of them")]
    Role {
        /// Who may.
        need: Need,
        /// Who tried.
        who: Identity,
    },
}

/// Whether `who` may do what needs `need`.
///
/// # Errors
/// Why not.
pub fn decide(need: Need, who: Option<&Identity>) -> Result<(), Refusal> {
    match who {
        _ if need == Need::Anyone => Ok(()),
        Some(who) if need.is_met_by(who.role()) => Ok(()),
        Some(who) => Err(Refusal::Role { need, who: who.clone() }),
        None => Err(Refusal::Unknown(need)),
    }
}

//! `railgauge certs`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use railgauge_core::access::Role;

use super::Output;
use crate::number;

/// `railgauge certs`
#[derive(Debug, Args)]
#[command(
    after_help = "An authority of one key in one file, for trying out and for fleets that have no other: who has DIR/ca.key can be anybody. \
Identities are spiffe://TRUST-DOMAIN/railgauge/ROLE/NAME; any authority that writes these into its certificates will do.\n\n\
Exit codes: 0 done; 1 a certificate has ended, or has not begun; 2 usage, or a file is in the way."
)]
pub struct CertsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: CertsCommand,
}

/// What can be done with certificates.
#[derive(Debug, Subcommand)]
pub enum CertsCommand {
    /// Make an authority
    Init(InitArgs),
    /// Make a certificate and its key
    Issue(IssueArgs),
    /// Whose certificates these are, and until when
    Show(ShowCertArgs),
}

/// `railgauge certs init`
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Where ca.pem and ca.key go
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Within which identities mean something, as the cluster's domain
    #[arg(long, value_name = "NAME", default_value = "railgauge.internal")]
    pub trust_domain: String,
    /// How long it vouches
    #[arg(long, value_name = "N", default_value = "3650", value_parser = number::whole(1_u32..=36_500), allow_hyphen_values = true)]
    pub days: u32,
    /// How to print the result
    #[arg(long, value_enum, default_value = "table")]
    pub output: Output,
}

/// For whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoleArgument {
    /// The coordinator; NAME is any, --host what agents and operators call it
    Coordinator,
    /// The agent of node NAME
    Agent,
    /// Reads everything: people, dashboards, Prometheus
    Viewer,
    /// Reads, sweeps, and stops sweeps
    Operator,
    /// May also change keys
    Admin,
}

impl From<RoleArgument> for Role {
    fn from(role: RoleArgument) -> Self {
        match role {
            RoleArgument::Coordinator => Self::Coordinator,
            RoleArgument::Agent => Self::Agent,
            RoleArgument::Viewer => Self::Viewer,
            RoleArgument::Operator => Self::Operator,
            RoleArgument::Admin => Self::Admin,
        }
    }
}

/// `railgauge certs issue`
#[derive(Debug, Args)]
pub struct IssueArgs {
    /// For whom
    #[arg(value_enum)]
    pub role: RoleArgument,
    /// Which of them: an agent's node, a person
    pub name: String,
    /// Where the authority is, and where ROLE-NAME.pem and ROLE-NAME.key go
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// A host name or address under which a daemon is reached, repeatable [default: those of the one that is replaced; else localhost, 127.0.0.1, ::1, and an agent's NAME]
    #[arg(long, value_name = "HOST")]
    pub host: Vec<String>,
    /// Put it in place of the one there, as daemons that read it again while they run want it
    #[arg(long)]
    pub replace: bool,
    /// How long it is good
    #[arg(long, value_name = "N", default_value = "90", value_parser = number::whole(1_u32..=36_500), allow_hyphen_values = true)]
    pub days: u32,
    /// How to print the result
    #[arg(long, value_enum, default_value = "table")]
    pub output: Output,
}

/// `railgauge certs show`
#[derive(Debug, Args)]
pub struct ShowCertArgs {
    /// Certificates, PEM
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// How to print the result
    #[arg(long, value_enum, default_value = "table")]
    pub output: Output,
}

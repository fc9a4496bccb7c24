//! Identities.

use std::fmt;
use std::str::FromStr;

/// What somebody may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The daemon of a cluster: what agents and operators look for at the other end.
    Coordinator,
    /// The daemon of one node, whose name is the identity's.
    Agent,
    /// Reads everything and changes nothing: people, dashboards, Prometheus.
    Viewer,
    /// A viewer who may also sweep, and stop sweeps.
    Operator,
    /// An operator who may also change keys.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Coordinator, Self::Agent, Self::Viewer, Self::Operator, Self::Admin];

    /// As in an identity.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Agent => "agent",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let role = Self::ALL.into_iter().find(|role| role.as_str() == text);
        role.ok_or_else(|| IdentityError::Role(cut(text)))
    }
}

/// Why a text is no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not the form.
    #[error("{0:?} is no identity of ours: write spiffe://TRUST-DOMAIN/railgauge/ROLE/NAME")]
    Form(String),
    /// A trust domain with what none has.
    #[error("{0:?} is no trust domain: 1 to 255 of a-z 0-9 . _ -")]
    TrustDomain(String),
    /// Not one of the roles.
    #[error("{0:?} is no role: coordinator, agent, viewer, operator or admin")]
    Role(String),
    /// A name with what none has.
    #[error("{0:?} is no name: 1 to 253 of A-Z a-z 0-9 . _ -, and neither . nor ..")]
    Name(String),
}

/// As much of a text as an error quotes.
fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// Who somebody is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    trust_domain: Box<str>,
    role: Role,
    name: Box<str>,
}

impl Identity {
    /// An identity of these parts.
    ///
    /// # Errors
    /// When trust domain or name is none.
    pub fn new(trust_domain: &str, role: Role, name: &str) -> Result<Self, IdentityError> {
        let in_domain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        if !(1..=255).contains(&trust_domain.len()) || !trust_domain.chars().all(in_domain) {
            return Err(IdentityError::TrustDomain(cut(trust_domain)));
        }
        let in_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let dots = name == "." || name == "..";
        if !(1..=253).contains(&name.len()) || !name.chars().all(in_name) || dots {
            return Err(IdentityError::Name(cut(name)));
        }
        Ok(Self { trust_domain: trust_domain.into(), role, name: name.into() })
    }

    /// Within which names mean something: those of another one are strangers.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// What they may be.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Who of that role: an agent's node.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/railgauge/{}/{}", self.trust_domain, self.role, self.name)
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let form = || IdentityError::Form(cut(text));
        let rest = text.strip_prefix("spiffe://").ok_or_else(form)?;
        let mut parts = rest.split('/');
        let (Some(domain), Some("railgauge"), Some(role), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(form());
        };
        Self::new(domain, role.parse()?, name)
    }
}

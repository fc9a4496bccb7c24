//! Which versions of the protocol understand each other.

use crate::v1;

/// The version spoken here.
pub const OURS: v1::Protocol = v1::Protocol { major: 1, minor: 2 };

/// From this minor on an agent knows of keys.
pub const KEYS_SINCE_MINOR: u32 = 1;

/// From this minor on an end knows RDMA transports: a batch that has one is refused by a coordinator before, whole and for ever,
/// and a plan that has one by an agent before.
pub const RDMA_SINCE_MINOR: u32 = 2;

/// Two ends that do not understand each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the agent speaks protocol {agent} (software {agent_software}), the coordinator {coordinator} (software \
     {coordinator_software}): majors must be equal and minors differ by at most 1; upgrade the older one"
)]
pub struct Incompatible {
    agent: String,
    agent_software: String,
    coordinator: String,
    coordinator_software: String,
}

/// Whether an agent of version `agent` can work with a coordinator of version `coordinator`; each with its software's version, for
/// the sentence.
///
/// # Errors
/// When they do not fit, or either does not say its version.
pub fn fit(
    (agent, agent_software): (Option<&v1::Protocol>, &str),
    (coordinator, coordinator_software): (Option<&v1::Protocol>, &str),
) -> Result<(), Incompatible> {
    if let (Some(a), Some(c)) = (agent, coordinator)
        && a.major == c.major
        && a.minor.abs_diff(c.minor) <= 1
    {
        return Ok(());
    }
    let text = |p: Option<&v1::Protocol>| {
        p.map_or_else(|| "unknown".to_owned(), |p| format!("{}.{}", p.major, p.minor))
    };
    // What a stranger calls its software is quoted, not trusted with the terminal.
    let name = |software: &str| software.chars().filter(|c| !c.is_control()).take(80).collect();
    Err(Incompatible {
        agent: text(agent),
        agent_software: name(agent_software),
        coordinator: text(coordinator),
        coordinator_software: name(coordinator_software),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(major: u32, minor: u32) -> v1::Protocol {
        v1::Protocol { major, minor }
    }

    #[test]
    fn one_minor_apart_works_and_the_refusal_names_both() {
        let ours = version(1, 3);
        let ok = |theirs| fit((Some(&theirs), "0.2.0"), (Some(&ours), "0.3.0")).is_ok();
        assert!(ok(version(1, 2)) && ok(version(1, 3)) && ok(version(1, 4)));
        assert!(!ok(version(1, 1)) && !ok(version(1, 5)) && !ok(version(2, 3)));
        let error = fit((Some(&version(1, 1)), "0.1.0\n"), (Some(&ours), "0.3.0")).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("protocol 1.1 (software 0.1.0), the coordinator 1.3 (software 0.3.0)")
        );
        assert!(fit((None, ""), (Some(&ours), "0.3.0")).is_err());
    }
}

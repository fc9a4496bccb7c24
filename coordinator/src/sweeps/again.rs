//! Who stands out is measured again, with partners that were proven good, before it is accused (design D9).

use railgauge_core::finding::{ComponentKind, Finding, FindingKind, Severity, Verdict};
use railgauge_core::path::{NodeName, Path};
use railgauge_core::verdict::Judgement;

/// Nodes measured again at most: a sweep that accuses more is about something larger than a node.
const MOST: usize = 4;

/// Partners that they are measured with.
const PARTNERS: usize = 2;

/// Who is measured again, and with whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Again {
    /// Those who stand out.
    pub suspects: Vec<NodeName>,
    /// Those whose paths to each other are healthy.
    pub partners: Vec<NodeName>,
}

impl Again {
    /// Whoever the judgement would accuse of delay or loss; `None` when that is nobody, too many, or nobody is proven good.
    pub fn of(judgement: &Judgement, paths: &[Path]) -> Option<Self> {
        let mut suspects: Vec<NodeName> = Vec::new();
        for finding in judgement.findings.iter().filter(|finding| is_measurable(finding)) {
            for node in nodes_of(finding, paths) {
                if !suspects.contains(node) {
                    suspects.push(node.clone());
                }
            }
        }
        let healthy = judgement
            .nodes
            .iter()
            .filter(|(name, verdict)| **verdict == Verdict::Healthy && !suspects.contains(name));
        let partners: Vec<NodeName> =
            healthy.map(|(name, _)| name.clone()).take(PARTNERS).collect();
        let can_be = !partners.is_empty() && (1..=MOST).contains(&suspects.len());
        can_be.then_some(Self { suspects, partners })
    }

    /// What the document says of it.
    pub fn sentence(&self) -> String {
        let list = |names: &[NodeName]| {
            names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
        };
        let (suspects, partners) = (list(&self.suspects), list(&self.partners));
        format!(
            "{suspects} stood out and was measured again with {partners}, which did not: the numbers of those paths are of both \
             measurements, and so is the verdict"
        )
    }
}

/// Silence does not get clearer by more of it.
const fn is_measurable(finding: &Finding) -> bool {
    let kind = matches!(
        finding.kind,
        FindingKind::NetworkLatency | FindingKind::HostDelay | FindingKind::Loss
    );
    kind && !matches!(finding.severity, Severity::Unknown)
}

fn nodes_of<'p>(finding: &Finding, paths: &'p [Path]) -> Vec<&'p NodeName> {
    let name = &finding.component.name;
    let ends = paths.iter().flat_map(|path| [&path.src, &path.dst]);
    match finding.component.kind {
        ComponentKind::Node => {
            ends.map(|end| &end.node).find(|n| n.as_str() == name).into_iter().collect()
        }
        ComponentKind::Port => {
            let port = ends.clone().find(|end| end.to_string() == *name);
            port.map(|end| &end.node).into_iter().collect()
        }
        ComponentKind::Path => {
            let path = paths.iter().find(|path| path.to_string() == *name);
            path.map(|path| vec![&path.src.node, &path.dst.node]).unwrap_or_default()
        }
        ComponentKind::Rail | ComponentKind::Fleet => Vec::new(),
    }
}

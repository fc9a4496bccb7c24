//! The fleet's certificates: made, renewed, and their authority replaced, while everything runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use railgauge_access::authority::{Authority, Request};
use railgauge_core::access::Role;
use railgauge_testbed::fleet::Trouble;
use railgauge_testbed::fleet::process::{now, pause};
use serde_json::{Value, json};

use super::{Fleet, SECOND, next_second, wait_until};

const DAY: Duration = Duration::from_secs(86_400);
/// How long the fleet may take to be whole again.
const SETTLE: Duration = Duration::from_secs(30);
/// Each so many rotations the authority is replaced, too.
const AUTHORITY_EVERY: u64 = 10;

/// Who has a certificate.
#[derive(Clone, Debug)]
struct Holder {
    role: Role,
    name: String,
}

/// The fleet's certificates, in a directory.
pub struct Pki {
    dir: PathBuf,
    authority: Authority,
    holders: Vec<Holder>,
}

#[expect(clippy::disallowed_methods, reason = "certificates begin and end by the wall clock")]
fn wall() -> SystemTime {
    SystemTime::now()
}

impl Pki {
    /// An authority, and certificates for a coordinator, an admin and these agents.
    pub fn new(dir: &Path, agents: impl Iterator<Item = String>) -> Result<Self, Trouble> {
        let authority = Authority::init(dir, "rotation.internal", wall(), DAY)?;
        let mut holders = vec![
            Holder { role: Role::Coordinator, name: "main".to_owned() },
            Holder { role: Role::Admin, name: "sre".to_owned() },
        ];
        holders.extend(agents.map(|name| Holder { role: Role::Agent, name }));
        let pki = Self { dir: dir.to_owned(), authority, holders };
        pki.issue()?;
        Ok(pki)
    }

    /// CA, certificate and key of one of them.
    pub fn files(&self, role: Role, name: &str) -> [PathBuf; 3] {
        let own = |ending: &str| self.dir.join(format!("{role}-{name}.{ending}"));
        [self.dir.join("ca.pem"), own("pem"), own("key")]
    }

    fn issue(&self) -> Result<(), Trouble> {
        let hosts = ["127.0.0.1".to_owned()];
        for Holder { role, name } in &self.holders {
            let request = Request { role: *role, name, hosts: &hosts, from: wall(), valid: DAY };
            let [_, certificate, key] = self.files(*role, name);
            self.authority.issue(&request)?.replace(&certificate, &key)?;
        }
        Ok(())
    }

    /// Whom everybody believes from now on.
    fn believe(&self, authorities: &str) -> Result<(), Trouble> {
        let new = self.dir.join("ca.pem.new");
        fs::write(&new, authorities)?;
        fs::rename(&new, self.dir.join("ca.pem"))?;
        Ok(())
    }
}

impl Fleet {
    /// Renews everybody's certificates again and again, and now and then their authority.
    pub fn rotate_certificates(&mut self, times: u64) -> Result<Vec<Value>, Trouble> {
        let mut each = Vec::new();
        let first = next_second();
        for number in 1..=times {
            // One a second, so that each of them happens while something is measured.
            wait_until(first + (number - 1) * SECOND);
            let began = now();
            let authority = number % AUTHORITY_EVERY == 0;
            if authority {
                self.replace_authority()?;
            } else {
                self.renewed(|pki| pki.issue())?;
            }
            each.push(json!({"authority": authority, "seconds": began.elapsed().as_secs_f64()}));
        }
        Ok(each)
    }

    /// Both are believed, then all are of the new one, then it alone is believed.
    fn replace_authority(&mut self) -> Result<(), Trouble> {
        let (next, _) = Authority::new("rotation.internal", wall(), DAY)?;
        let both = self.pki.authority.pem().to_owned() + next.pem();
        let alone = next.pem().to_owned();
        self.renewed(|pki| pki.believe(&both))?;
        self.pki.authority = next;
        self.renewed(|pki| pki.issue())?;
        self.renewed(|pki| pki.believe(&alone))
    }

    /// Changes files, tells every daemon, and waits until each has taken them over: an agent connects anew with what it has, the
    /// coordinator says so in its log.
    fn renewed(&self, change: impl FnOnce(&Pki) -> Result<(), Trouble>) -> Result<(), Trouble> {
        let before = self.connections()?;
        let taken = self.takeovers()?;
        change(&self.pki)?;
        for daemon in self.agents.iter().chain([&self.coordinator]) {
            daemon.hang_up()?;
        }
        let until = now() + SETTLE;
        loop {
            let now_there = self.connections()?;
            let anew = now_there.iter().filter(|(node, at)| before.get(*node) < Some(*at)).count();
            let taken_now = self.takeovers()?;
            if anew == before.len() && taken_now > taken {
                return Ok(());
            }
            if now() > until {
                let (all, logs) = (before.len(), taken_now - taken);
                return Err(format!(
                    "renewed certificates are not in force: {anew} of {all} agents came anew, the coordinator took over {logs}"
                )
                .into());
            }
            pause(Duration::from_millis(50));
        }
    }

    /// Since when each connected node is.
    fn connections(&self) -> Result<BTreeMap<String, String>, Trouble> {
        let (_, nodes) = self.railgauge(&["nodes"])?;
        let text = |node: &Value, key: &str| node[key].as_str().unwrap_or_default().to_owned();
        let nodes = nodes["nodes"].as_array().into_iter().flatten();
        Ok(nodes
            .filter(|node| node["state"] == "connected")
            .map(|node| (text(node, "name"), text(node, "connected_at")))
            .collect())
    }

    /// How often the coordinator has said that it took over what is in its files.
    fn takeovers(&self) -> Result<usize, Trouble> {
        let log = fs::read_to_string(self.out.join("coordinator.log"))?;
        Ok(log.matches("certificate and key are those of").count())
    }
}

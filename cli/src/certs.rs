//! `railgauge certs`: a development authority, its certificates, and what is in a certificate.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use railgauge_access::authority::{Authority, AuthorityError, Request, is_host};
use railgauge_access::files::{LoadError, Shown, show};
use railgauge_core::access::Role;
use serde::Serialize;

use crate::args::{CertsArgs, CertsCommand, InitArgs, IssueArgs, Output, ShowCertArgs};
use crate::columns::{Columns, ascii};
use crate::remote::refuse;
use crate::{Exit, output};

const SCHEMA: &str = "railgauge/certs/v1";
const DAY: Duration = Duration::from_secs(86_400);

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
enum CertsError {
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// What was made.
#[derive(Debug, Serialize)]
struct Made {
    schema: &'static str,
    identity: String,
    certificate: PathBuf,
    key: PathBuf,
    ca: PathBuf,
    hosts: Vec<String>,
    days: u32,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Found {
    schema: &'static str,
    certificates: Vec<Shown>,
}

#[expect(clippy::disallowed_methods, reason = "certificates begin and end by the wall clock")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// Runs the command.
pub(crate) fn run(args: &CertsArgs) -> Exit {
    let (done, output) = match &args.command {
        CertsCommand::Init(args) => (init(args), args.output),
        CertsCommand::Issue(args) => (issue(args), args.output),
        CertsCommand::Show(args) => (certificates(args), args.output),
    };
    done.unwrap_or_else(|error| refuse("certs", SCHEMA, output, &error, Exit::Usage))
}

fn init(args: &InitArgs) -> Result<Exit, CertsError> {
    let authority = Authority::init(&args.dir, &args.trust_domain, now(), DAY * args.days)?;
    let made = Made {
        schema: SCHEMA,
        identity: format!("spiffe://{}", authority.trust_domain()),
        certificate: args.dir.join("ca.pem"),
        key: args.dir.join("ca.key"),
        ca: args.dir.join("ca.pem"),
        hosts: Vec::new(),
        days: args.days,
    };
    let dir = args.dir.display();
    let next = format!(
        "Keep {key} to yourself: who has it can be anybody. Next:\n\
         \x20 railgauge certs issue coordinator NAME --dir {dir} --host HOST\n\
         \x20 railgauge certs issue agent NODE --dir {dir}            # one for each node\n\
         \x20 railgauge certs issue operator YOUR-NAME --dir {dir}\n",
        key = made.key.display()
    );
    Ok(print(&made, &next, args.output))
}

fn issue(args: &IssueArgs) -> Result<Exit, CertsError> {
    let authority = Authority::open(&args.dir)?;
    let role = Role::from(args.role);
    let file = |ending: &str| args.dir.join(format!("{role}-{}.{ending}", args.name));
    let (certificate, key) = (file("pem"), file("key"));
    let hosts = hosts(args, role, &certificate)?;
    let request =
        Request { role, name: &args.name, hosts: &hosts, from: now(), valid: DAY * args.days };
    let issued = authority.issue(&request)?;
    if args.replace {
        issued.replace(&certificate, &key)?;
    } else {
        issued.save(&certificate, &key)?;
    }
    let identity = format!("spiffe://{}/railgauge/{role}/{}", authority.trust_domain(), args.name);
    let ca = args.dir.join("ca.pem");
    let next = next(role, (&certificate, &key, &ca));
    let made = Made { schema: SCHEMA, identity, certificate, key, ca, hosts, days: args.days };
    Ok(print(&made, &next, args.output))
}

/// By what a daemon is going to be called. A renewed one keeps its names: without them nobody would connect any more.
fn hosts(args: &IssueArgs, role: Role, before: &Path) -> Result<Vec<String>, CertsError> {
    if !args.host.is_empty() {
        return Ok(args.host.clone());
    }
    if args.replace && before.exists() {
        return Ok(show(before, now())?.into_iter().next().map_or_else(Vec::new, |c| c.hosts));
    }
    if !matches!(role, Role::Coordinator | Role::Agent) {
        return Ok(Vec::new());
    }
    let mut hosts = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    // A node whose name is no host name is reached by what --host says.
    if role == Role::Agent && !args.name.contains('_') && is_host(&args.name) {
        hosts.push(args.name.clone());
    }
    Ok(hosts)
}

/// What to do with it.
fn next(role: Role, (certificate, key, ca): (&Path, &Path, &Path)) -> String {
    let (certificate, key, ca) = (certificate.display(), key.display(), ca.display());
    match role {
        Role::Coordinator | Role::Agent => format!(
            "On its host these go to /etc/railgauge/tls as {role}.pem and {role}.key, {ca} as ca.pem; the key is to be readable by the daemon alone.\n"
        ),
        Role::Viewer | Role::Operator | Role::Admin => format!(
            "For the `railgauge` command:\n  export RAILGAUGE_CA={ca} RAILGAUGE_CERT={certificate} RAILGAUGE_KEY={key}\n"
        ),
    }
}

fn print(made: &Made, next: &str, output: Output) -> Exit {
    if output == Output::Json {
        return output::json(made, Exit::Healthy);
    }
    let mut hosts = made.hosts.join(", ");
    if !hosts.is_empty() {
        hosts = format!("  reached as  {hosts}\n");
    }
    let text = format!(
        "{}\n  certificate {}\n  key         {}\n{hosts}  good for {} days\n{next}",
        made.identity,
        made.certificate.display(),
        made.key.display(),
        made.days
    );
    output::result(&text, Exit::Healthy)
}

fn certificates(args: &ShowCertArgs) -> Result<Exit, CertsError> {
    let now = now();
    let mut found = Vec::new();
    for file in &args.files {
        found.extend(show(file, now)?);
    }
    let exit = if found.iter().all(|each| each.in_force) { Exit::Healthy } else { Exit::Degraded };
    if args.output == Output::Json {
        return Ok(output::json(&Found { schema: SCHEMA, certificates: found }, exit));
    }
    let mut columns = Columns::new(&["FILE", "WHOSE", "BEGINS", "ENDS", "REACHED AS"]);
    for each in found {
        let state = if each.in_force { "" } else { " (not in force)" };
        columns.row(vec![
            ascii(&each.file),
            ascii(&each.whose),
            each.begins,
            format!("{}{state}", each.ends),
            ascii(&each.hosts.join(", ")),
        ]);
    }
    Ok(output::result(&columns.text(), exit))
}

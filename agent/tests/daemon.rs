//! The daemon as its coordinator and its operator meet it: a real process, a coordinator in the hands of the test.

#[path = "daemon/fake.rs"]
mod fake;

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use fake::{Agent, Answering, Fake, LONG, Session, WINDOW_NS, command, target, write_config};
use nix::sys::signal::Signal;
use railgauge_core::probe_keys::Secret;
use railgauge_core::stamp::{RequestTemplate, SenderConfig};
use railgauge_core::time::Wall;
use railgauge_proto::convert::Batch;
use railgauge_proto::v1;
use railgauge_proto::v1::agent_message::Message as FromAgent;
use railgauge_proto::v1::coordinator_message::Message as ToAgent;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);

fn octets(state: &Path) -> u64 {
    let files = std::fs::read_dir(state.join("spool")).into_iter().flatten().flatten();
    files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

fn intervals(batch: &Batch) -> BTreeSet<u64> {
    batch.windows.iter().map(|(_, window)| window.parameters.interval_ns).collect()
}

#[tokio::test]
async fn windows_wait_for_a_coordinator_that_is_away_and_arrive_once() {
    let dir = tempfile::tempdir().unwrap();
    let (answering, mut fake) = (Answering::start(), Fake::start());
    let agent = Agent::start(dir.path(), fake.address, "[labels]\nrack = \"r1\"", |_| ());
    let mut session = fake.session().await;
    let hello = &session.hello;
    assert_eq!((hello.node.as_str(), hello.labels.get("rack").unwrap().as_str()), ("a", "r1"));
    assert_eq!(hello.endpoints.len(), 1);
    assert!(hello.endpoints[0].port > 0 && hello.identity.len() == 16 && hello.instance != 0);
    assert!(hello.inventory_json.starts_with(b"{"));
    let (instance, identity) = (hello.instance, hello.identity.clone());

    session.plan(1, HOUR, vec![target("b", answering.at, 5 * MS, SECOND)]);
    let (mut stored, mut answered) = (BTreeSet::new(), 0);
    while answered < 60 {
        let batch = session.stored().await;
        assert_eq!((batch.plan_epoch, batch.length_ns), (1, WINDOW_NS));
        answered += batch.windows.iter().map(|(_, w)| w.account.received).sum::<u64>();
        assert!(stored.insert(batch.first_sequence), "a batch came again");
    }
    // Sent, and never acknowledged: it comes again.
    let unacknowledged = session.batch().await.first_sequence;
    let address = fake.address;
    drop((session, fake));
    let before = octets(&agent.state);
    let grows = async {
        while octets(&agent.state) < before + 4_000 {
            tokio::time::sleep(10 * MS).await;
        }
    };
    tokio::time::timeout(LONG, grows).await.expect("probing goes on, and is recorded");

    let mut fake = Fake::start_at(address);
    let mut session = fake.session().await;
    assert_eq!((session.hello.instance, &session.hello.identity), (instance, &identity));
    let mut next = unacknowledged;
    for _ in 0..4 {
        let batch = session.stored().await;
        assert!(stored.insert(batch.first_sequence), "a batch came though it was acknowledged");
        assert_eq!(batch.first_sequence, next, "in the order in which they were recorded");
        next += batch.windows.len() as u64;
    }
    assert_eq!(agent.said().matches("probing goes on").count(), agent.said().lines().count());
}

/// A page of the agent, which says in `addresses` where it serves them.
async fn page(addresses: &Path, path: &str) -> String {
    let written = async {
        loop {
            if let Ok(text) = std::fs::read_to_string(addresses) {
                return text;
            }
            tokio::time::sleep(10 * MS).await;
        }
    };
    let text = tokio::time::timeout(LONG, written).await.expect("it listens");
    let address: SocketAddr = text.strip_prefix("http=").unwrap().trim().parse().unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("{path} HTTP/1.0\r\nHost: a\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn its_metrics_say_what_it_did() {
    let dir = tempfile::tempdir().unwrap();
    let (answering, mut fake) = (Answering::start(), Fake::start());
    let addresses = dir.path().join("addresses");
    let mut agent =
        Agent::start(dir.path(), fake.address, "[budget]\ncpu_percent = 50", |command| {
            command.arg("--addresses-file").arg(&addresses);
        });
    let mut session = fake.session().await;
    session.plan(7, HOUR, vec![target("b", answering.at, 5 * MS, SECOND)]);
    let mut answered = 0;
    while answered < 60 {
        answered +=
            session.stored().await.windows.iter().map(|(_, w)| w.account.received).sum::<u64>();
    }
    let metrics = page(&addresses, "GET /metrics").await;
    let value = |series: &str| -> f64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in {metrics}")).parse().unwrap()
    };
    let class = "locality=\"rail\",memory=\"host\",transport=\"udp\"";
    assert!(value(&format!("railgauge_probes_received_total{{{class}}}")) >= 60.0);
    assert!(value("railgauge_windows_recorded_total") >= 1.0);
    assert_eq!(value("railgauge_coordinator_connected"), 1.0);
    assert_eq!(value("railgauge_plan_epoch"), 7.0);
    assert_eq!(value("railgauge_plan_lease_valid"), 1.0);
    assert_eq!(value("railgauge_paths_probed"), 1.0);
    assert_eq!(value("railgauge_budget_cpu_percent"), 50.0);
    assert_eq!(value("railgauge_spool_capacity_bytes"), 268_435_456.0);
    assert_eq!(value("railgauge_reflector_requests_total"), 0.0);
    assert!(metrics.contains("timestamp_source=\"user/none/none/user\""), "{metrics}");
    assert!(page(&addresses, "GET /healthz").await.ends_with("\r\n\r\nok\n"));
    assert!(page(&addresses, "GET /").await.contains("/metrics"));
    assert!(page(&addresses, "POST /metrics").await.starts_with("HTTP/1.0 405"));
    assert!(page(&addresses, "GET /nowhere").await.starts_with("HTTP/1.0 404"));
    // A configuration that cannot be read changes nothing, and is told.
    std::fs::write(&agent.config, "nonsense").unwrap();
    agent.signal(Signal::SIGHUP);
    let told = async {
        let line = "railgauge_configuration_last_reload_successful 0\n";
        while !page(&addresses, "GET /metrics").await.contains(line) {
            tokio::time::sleep(10 * MS).await;
        }
    };
    tokio::time::timeout(LONG, told).await.expect("the failed reload is in the metrics");
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.end().await, Some(0));
}

#[tokio::test]
async fn without_a_lease_it_goes_on_at_a_tenth() {
    let dir = tempfile::tempdir().unwrap();
    let (answering, mut fake) = (Answering::start(), Fake::start());
    let _agent = Agent::start(dir.path(), fake.address, "", |_| ());
    let mut session = fake.session().await;
    session.plan(7, 500 * MS, vec![target("b", answering.at, 10 * MS, 50 * MS)]);
    while !intervals(&session.stored().await).contains(&100_000_000) {}
    // Of another plan: not this one's.
    session.say(ToAgent::LeaseRenewal(v1::LeaseRenewal { epoch: 6 }));
    assert_eq!(intervals(&session.stored().await), [100_000_000].into());
    session.plan(8, HOUR, vec![target("b", answering.at, 10 * MS, 50 * MS)]);
    // An older plan changes nothing.
    session.plan(3, HOUR, Vec::new());
    let mut full = 0;
    while full < 2 {
        let batch = session.stored().await;
        full += u32::from(batch.plan_epoch == 8 && intervals(&batch) == [10_000_000].into());
    }
}

type Change = fn(&mut v1::SweepOrder);

fn order(number: u64, at: SocketAddr, count: u64, limit: Duration) -> v1::SweepOrder {
    v1::SweepOrder {
        sweep_id: "s".to_owned(),
        order: number,
        target: Some(target("b", at, MS, 100 * MS)),
        count,
        warmup: 2,
        limit_ns: u64::try_from(limit.as_nanos()).unwrap(),
    }
}

#[tokio::test]
async fn told_to_end_it_delivers_everything_within_five_seconds() {
    let dir = tempfile::tempdir().unwrap();
    // Bound and never read.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (answering, mut fake) = (Answering::start(), Fake::start());
    let mut agent = Agent::start(dir.path(), fake.address, "", |_| ());
    let mut session = fake.session().await;
    let mut targets = vec![target("b", answering.at, 5 * MS, SECOND)];
    targets.push(target("c", silent.local_addr().unwrap(), 50 * MS, 60 * SECOND));
    session.plan(1, HOUR, targets);
    session.stored().await;
    agent.signal(Signal::SIGTERM);
    // Its probes to `c` have no verdict within a minute: they are given up, and said to be.
    let mut in_flight = 0;
    while in_flight == 0 {
        let batch = session.stored().await;
        in_flight += batch.windows.iter().map(|(_, w)| w.account.in_flight).sum::<u64>();
    }
    let (ended, code) = tokio::join!(session.ended(), agent.end());
    assert_eq!((ended, code), (true, Some(0)), "{}", agent.said());
}

#[tokio::test]
async fn told_to_end_it_ends_without_a_coordinator_too() {
    let dir = tempfile::tempdir().unwrap();
    let (answering, mut fake) = (Answering::start(), Fake::start());
    let mut agent = Agent::start(dir.path(), fake.address, "", |_| ());
    let mut session = fake.session().await;
    session.plan(1, HOUR, vec![target("b", answering.at, 5 * MS, SECOND)]);
    session.stored().await;
    // It is there and says nothing: batches are neither read nor acknowledged.
    agent.signal(Signal::SIGTERM);
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.end().await, Some(0), "{}", agent.said());
    assert!(octets(&agent.state) > 0);
}

/// Reads what the service manager would until `line` comes.
async fn notified(socket: &tokio::net::UnixDatagram, line: &str) {
    let find = async {
        let mut octets = [0; 4096];
        loop {
            let n = socket.recv(&mut octets).await.unwrap();
            let text = String::from_utf8_lossy(&octets[..n]).into_owned();
            if text.lines().any(|said| said.starts_with(line)) {
                return;
            }
        }
    };
    tokio::time::timeout(LONG, find).await.unwrap_or_else(|_| panic!("nobody said {line}"));
}

#[tokio::test]
async fn the_service_manager_hears_and_labels_are_reloaded() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("notify");
    let socket = UnixDatagram::bind(&at).unwrap();
    socket.set_nonblocking(true).unwrap();
    let socket = tokio::net::UnixDatagram::from_std(socket).unwrap();
    let mut fake = Fake::start();
    let agent = Agent::start(dir.path(), fake.address, "labels = { rack = \"r1\" }", |command| {
        command.env("NOTIFY_SOCKET", &at).env("WATCHDOG_USEC", "200000");
    });
    notified(&socket, "READY=1").await;
    let mut session = fake.session().await;
    notified(&socket, "STATUS=connected").await;
    notified(&socket, "WATCHDOG=1").await;

    std::fs::write(&agent.config, "labels = 5").unwrap();
    agent.signal(Signal::SIGHUP);
    notified(&socket, "RELOADING=1").await;
    notified(&socket, "READY=1").await;
    assert!(agent.said().contains("the configuration stays as it was"), "{}", agent.said());

    write_config(&agent.config, &agent.state, fake.address, "labels = { rack = \"r2\" }");
    agent.signal(Signal::SIGHUP);
    assert!(session.ended().await);
    let session = fake.session().await;
    assert_eq!(session.hello.labels.get("rack").unwrap(), "r2");
    agent.signal(Signal::SIGTERM);
    notified(&socket, "STOPPING=1").await;
}

#[tokio::test]
async fn orders_end_by_count_by_cancel_by_limit_and_by_sense() {
    let dir = tempfile::tempdir().unwrap();
    let (answering, mut fake) = (Answering::start(), Fake::start());
    let _agent = Agent::start(dir.path(), fake.address, "", |_| ());
    let mut session = fake.session().await;
    let say = |session: &Session, order| session.say(ToAgent::SweepOrder(order));

    say(&session, order(1, answering.at, 50, HOUR));
    let result = session.result().await;
    assert_eq!((result.order, result.error.as_str()), (1, ""));
    let batch = railgauge_proto::convert::batch(&result.windows.unwrap()).unwrap();
    let answered: u64 = batch.windows.iter().map(|(_, w)| w.account.received).sum();
    assert!(answered >= 45, "{answered} of 50");

    say(&session, order(2, answering.at, u64::MAX, HOUR));
    session.say(ToAgent::SweepCancel(v1::SweepCancel { sweep_id: "s".to_owned(), order: Some(2) }));
    let result = session.result().await;
    assert_eq!((result.order, result.error.as_str()), (2, "cancelled"));

    say(&session, order(3, answering.at, u64::MAX, 300 * MS));
    let result = session.result().await;
    assert!(result.order == 3 && result.error.starts_with("abandoned"), "{}", result.error);

    let change = |number, change: Change| {
        let mut order = order(number, answering.at, 10, HOUR);
        change(&mut order);
        order
    };
    let hostile: &[(Change, &str)] = &[
        (|o| o.target = None, "no target"),
        (|o| o.count = 0, "no probes"),
        (|o| o.limit_ns = 0, "no time"),
        (|o| o.target.as_mut().unwrap().interval_ns = 0, "an interval of 0ns"),
        (|o| o.target.as_mut().unwrap().address = "255.255.255.255".to_owned(), "one machine"),
        (|o| o.target.as_mut().unwrap().size_bytes = u32::MAX, "octets"),
    ];
    for (number, (hostility, said)) in (10..).zip(hostile) {
        say(&session, change(number, *hostility));
        let result = session.result().await;
        assert!(result.order == number && result.error.contains(said), "{}", result.error);
    }
}

#[tokio::test]
async fn budgets_hold_whatever_the_plan_and_the_sweeps_want() {
    let dir = tempfile::tempdir().unwrap();
    let (answering, mut fake) = (Answering::start(), Fake::start());
    let budget = "[budget]\npackets_per_second = 250";
    let agent = Agent::start(dir.path(), fake.address, budget, |_| ());
    let mut session = fake.session().await;
    session.say(ToAgent::SweepOrder(order(1, answering.at, 50, HOUR)));
    let refused = session.result().await.error;
    assert!(refused.starts_with("over this node's budget: 1000 packets/s"), "{refused}");
    // 1,000 a second, and what nobody can probe.
    let good = target("b", answering.at, MS, 50 * MS);
    let mut own = target("c", answering.at, MS, 50 * MS);
    own.address = "0.0.0.0".to_owned();
    let mut never = target("d", answering.at, MS, 50 * MS);
    never.interval_ns = 0;
    session.plan(1, HOUR, vec![own, good.clone(), good, never]);
    while intervals(&session.stored().await) != [4_000_000].into() {}
    let over = session.next(|m| match m {
        v1::agent_message::Message::Heartbeat(beat) => {
            Some(beat.probes_over_budget).filter(|n| *n > 0)
        }
        _ => None,
    });
    over.await;
    let said = agent.said();
    assert!(said.contains("the plan has 3 targets that are left out, such as: "), "{said}");
}

/// The key of the reflector in an epoch.
fn secret(epoch: u8) -> Secret {
    Secret::new([epoch; 32])
}

fn keys(epochs: &[u8]) -> ToAgent {
    let key = |epoch: &u8| v1::AcceptedProbeKey {
        key: Some(v1::ProbeKey::of((*epoch).into(), &secret(*epoch))),
        valid_ns: 3_600_000_000_000,
    };
    ToAgent::ProbeKeys(v1::ProbeKeys {
        keys: epochs.iter().map(key).collect(),
        forget_from_epoch: 0,
    })
}

/// Whether a request gets a reply: signed with the key of an epoch, or not at all.
fn is_answered(at: SocketAddr, epoch: Option<u8>) -> bool {
    let key = epoch.map(|epoch| secret(epoch).key());
    let template = RequestTemplate::new(SenderConfig { key, ..SenderConfig::default() }).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(300 * MS)).unwrap();
    let mut octets = [0; 256];
    let request = template.write(1, Wall::from_unix_nanos(1), &mut octets).to_vec();
    // Asked again: on a busy machine the first may take long.
    (0..3).any(|_| {
        socket.send_to(&request, at).unwrap();
        socket.recv(&mut octets).is_ok_and(|n| template.parse_reply(&octets[..n]).is_ok())
    })
}

async fn confirmed(session: &mut Session) -> u64 {
    let beat = |m| if let FromAgent::Heartbeat(beat) = m { Some(beat) } else { None };
    session.next(|m| beat(m).map(|b| b.probe_key_epoch).filter(|epoch| *epoch > 0)).await
}

#[tokio::test]
async fn the_responder_answers_the_keys_it_was_given_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut fake = Fake::start();
    let mut agent = Agent::start(dir.path(), fake.address, "", |_| ());
    let mut session = fake.session().await;
    let at = |session: &Session| {
        let endpoint = &session.hello.endpoints[0];
        SocketAddr::new(endpoint.address.parse().unwrap(), endpoint.port.try_into().unwrap())
    };
    let here = at(&session);
    assert!(is_answered(here, None) && !is_answered(here, Some(1)));
    session.say(keys(&[1, 2]));
    assert_eq!(confirmed(&mut session).await, 2);
    assert!(is_answered(here, Some(1)) && is_answered(here, Some(2)) && is_answered(here, None));
    assert!(!is_answered(here, Some(3)), "forged");
    session.say(keys(&[2, 3]));
    while confirmed(&mut session).await != 3 {}
    assert!(
        !is_answered(here, Some(1)) && is_answered(here, Some(2)) && is_answered(here, Some(3))
    );
    let said = agent.said();
    agent.signal(Signal::SIGKILL);
    agent.end().await;

    let _agent = Agent::start(dir.path(), fake.address, "answer_unauthenticated = false", |_| ());
    let mut session = fake.session().await;
    assert!(session.hello.refuses_unauthenticated);
    // Nothing was given on this stream: they are those of the file.
    let here = at(&session);
    assert!(is_answered(here, Some(2)) && is_answered(here, Some(3)));
    assert!(!is_answered(here, None) && !is_answered(here, Some(1)));
    let beat = |m| if let FromAgent::Heartbeat(beat) = m { Some(beat) } else { None };
    assert_eq!(session.next(beat).await.probe_key_epoch, 0, "this coordinator has given none");
    assert_eq!(said, "");
}

/// A plan with other keys and nothing else goes on in the same windows, and a heartbeat says so at once.
#[tokio::test]
async fn a_plan_with_another_key_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (answering, mut fake) =
        (Answering::with(&[secret(1).key(), secret(2).key()]), Fake::start());
    let _agent = Agent::start(dir.path(), fake.address, "", |_| ());
    let mut session = fake.session().await;
    let with = |epoch: u8| {
        let mut target = target("b", answering.at, 5 * MS, SECOND);
        target.probe_key = Some(v1::ProbeKey::of(epoch.into(), &secret(epoch)));
        target
    };
    let (mut windows, mut seen) = (Vec::new(), 0);
    for epoch in [1, 2, 1, 2] {
        seen += 1;
        session.plan(seen, HOUR, vec![with(epoch)]);
        let in_force = |m| match m {
            FromAgent::Heartbeat(beat) if beat.plan_epoch == seen => Some(()),
            _ => None,
        };
        session.next(in_force).await;
        for _ in 0..3 {
            let batch = session.stored().await;
            windows.extend(batch.windows.into_iter().map(|(_, w)| (batch.start_unix_ns, w)));
        }
    }
    assert!(windows.iter().all(|(_, w)| w.account.lost == 0 && w.parameters.size_bytes == 160));
    // 200 ms of one probe each 5 ms, but for the first.
    let first = windows.iter().map(|(start, _)| *start).min();
    let later = windows.iter().filter(|(start, _)| Some(*start) != first);
    let slots: Vec<u64> = later.map(|(_, window)| window.account.scheduled).collect();
    assert!(slots.len() >= 10 && slots.iter().all(|slots| *slots == 40), "{slots:?}");
}

#[tokio::test]
async fn a_coordinator_of_bad_manners_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (answering, mut fake) = (Answering::start(), Fake::start());
    let agent = Agent::start(dir.path(), fake.address, "", |_| ());
    let mut session = fake.session().await;
    // Plans without end, acknowledgements of what was never sent, commands for what is not there.
    for epoch in 1..500 {
        session.plan(epoch, HOUR, vec![target("b", answering.at, 5 * MS, 50 * MS)]);
        let key = v1::BatchKey { instance: epoch, first_sequence: u64::MAX, windows: u32::MAX };
        let refused = v1::RefusedBatch { key: Some(key), reason: "x\n".repeat(500) };
        let (stored, refused) = (vec![key], vec![refused, v1::RefusedBatch::default()]);
        session.say(ToAgent::Acknowledgement(v1::Acknowledgement { stored, refused }));
        session.say(ToAgent::SweepCancel(v1::SweepCancel::default()));
        session.say(ToAgent::Welcome(v1::Welcome::default()));
    }
    // It refuses everything: each is forgotten and counted, and the reason said once.
    for _ in 0..3 {
        let batch = session.batch().await;
        let refused =
            v1::RefusedBatch { key: Some(fake::key(&batch)), reason: "no\nroom".to_owned() };
        let refused = vec![refused];
        session.say(ToAgent::Acknowledgement(v1::Acknowledgement { stored: Vec::new(), refused }));
    }
    let beat = session.next(|m| match m {
        v1::agent_message::Message::Heartbeat(beat) => {
            beat.spool.filter(|s| s.windows_refused >= 3)
        }
        _ => None,
    });
    beat.await;
    let said = agent.said();
    assert_eq!(said.matches("windows: no room").count(), 1, "{said}");
}

#[tokio::test]
async fn mistakes_of_the_operator_end_it_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let good = format!(
        "insecure = true\nnode = \"a\"\nhttp_listen = \"127.0.0.1:0\"\nstate_dir = {:?}\n",
        dir.path().join("state")
    );
    let endpoint = |address: &str, port: u16| {
        format!("{good}[[endpoint]]\nport = \"lo\"\naddress = \"{address}\"\nudp_port = {port}\n")
    };
    let unwritable = good.replace("/state\"", "/file/below\"");
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let page = busy.local_addr().unwrap().to_string();
    for (text, code, said) in [
        ("insecure = maybe".to_owned(), 2, "agent.toml:1"),
        ("state_dir = \"/x\"".to_owned(), 2, "/etc/railgauge/tls/"),
        (unwritable, 3, "below"),
        (good.replace("127.0.0.1:0", &page), 3, "the port is in use"),
        (good.replace("127.0.0.1:0", "0.0.0.0:0"), 2, "that is no loopback address"),
        (endpoint("127.0.0.1", port), 3, "in use by another process"),
        (endpoint("192.0.2.1", 0), 3, "is not an address of this machine"),
    ] {
        let config = dir.path().join("agent.toml");
        std::fs::write(&config, &text).unwrap();
        let output = command().arg("--config").arg(&config).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}: {stderr}");
        assert!(
            stderr.starts_with("railgauge-agent: ") && stderr.contains(said),
            "{text}: {stderr}"
        );
    }
    let config = dir.path().join("agent.toml");
    std::fs::write(&config, &good).unwrap();
    let output = command().arg("--config").arg(&config).arg("--check-config").output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && printed.contains("node = \"a\""), "{printed}");
    let output = command().arg("--config").arg(dir.path().join("absent")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

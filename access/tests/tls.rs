//! Doors and connectors with real certificates over loopback: who gets in, who is told what, and when it ends.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use railgauge_access::audit::Audit;
use railgauge_access::authority::{Authority, Request};
use railgauge_access::connection::{Connection, Who};
use railgauge_access::connector::{Connector, ToCoordinator};
use railgauge_access::credentials::Credentials;
use railgauge_access::door::{Door, Guard, Use};
use railgauge_access::files::{Files, LoadError};
use railgauge_core::access::Role;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tower_service::Service;

const DAY: Duration = Duration::from_secs(86_400);

#[expect(clippy::disallowed_methods, reason = "certificates begin and end by the wall clock")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// An authority in a directory.
struct World {
    dir: TempDir,
    authority: Authority,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::init(dir.path(), "test.internal", now(), DAY).unwrap();
        Self { dir, authority }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Files of a certificate from `from` for `valid`.
    fn files(&self, role: Role, name: &str, from: SystemTime, valid: Duration) -> Files {
        let hosts = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let request = Request { role, name, hosts: &hosts, from, valid };
        let issued = self.authority.issue(&request).unwrap();
        let place =
            |ending: &str| self.path(&format!("{role}-{name}-{}.{ending}", valid.as_secs()));
        let (cert, key) = (place("pem"), place("key"));
        for file in [&cert, &key] {
            if file.exists() {
                std::fs::remove_file(file).unwrap();
            }
        }
        issued.save(&cert, &key).unwrap();
        Files { ca: self.path("ca.pem"), cert, key }
    }

    fn credentials(&self, role: Role, name: &str) -> Credentials {
        Credentials::load(self.files(role, name, now(), DAY)).unwrap()
    }

    fn audit(&self) -> Audit {
        Audit::open(&self.path("audit.jsonl")).unwrap()
    }

    fn audited(&self) -> String {
        std::fs::read_to_string(self.path("audit.jsonl")).unwrap()
    }

    async fn door(&self, guard: Guard) -> (Door, SocketAddr) {
        self.door_for(guard, 100).await
    }

    async fn door_for(&self, guard: Guard, most: usize) -> (Door, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let purpose = Use { alpn: b"h2", most, longest: None };
        (Door::open(listener, guard, purpose, self.audit()).unwrap(), address)
    }
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), what).await.expect("it happens within 20 s")
}

async fn connect(
    credentials: Option<Credentials>,
    host: &str,
    address: SocketAddr,
) -> Result<ToCoordinator, String> {
    let uri = format!("https://{host}:{}", address.port()).parse().unwrap();
    let connected = within(Connector(credentials).call(uri)).await;
    connected.map(hyper_util::rt::TokioIo::into_inner).map_err(|error| error.to_string())
}

async fn come(door: &mut Door) -> Connection {
    within(door.next()).await.unwrap().unwrap()
}

/// Both ends of a new connection; the server greets first, as HTTP/2 does.
async fn meet(
    door: &mut Door,
    credentials: Credentials,
    host: &str,
    address: SocketAddr,
) -> (ToCoordinator, Connection) {
    let greeted = async {
        let mut server = come(door).await;
        server.write_all(b"!").await.unwrap();
        server.flush().await.unwrap();
        server
    };
    let (client, server) = tokio::join!(connect(Some(credentials), host, address), greeted);
    let mut client = client.unwrap();
    let mut read = [0; 1];
    within(client.read_exact(&mut read)).await.unwrap();
    (client, server)
}

async fn echo(client: &mut ToCoordinator, server: &mut Connection) -> std::io::Result<()> {
    client.write_all(b"probe").await?;
    client.flush().await?;
    let mut read = [0; 5];
    within(server.read_exact(&mut read)).await?;
    server.write_all(&read).await?;
    server.flush().await?;
    within(client.read_exact(&mut read)).await?;
    assert_eq!(&read, b"probe");
    Ok(())
}

#[tokio::test]
async fn both_ends_know_who_is_at_the_other() {
    let world = World::new();
    let (mut door, address) =
        world.door(Guard::Closed(world.credentials(Role::Coordinator, "main"))).await;
    let agent = world.credentials(Role::Agent, "gpu-07");
    for host in ["127.0.0.1", "localhost"] {
        let (mut client, mut server) = meet(&mut door, agent.clone(), host, address).await;
        echo(&mut client, &mut server).await.unwrap();
        let who = server.peer().who.to_string();
        assert_eq!(who, "spiffe://test.internal/railgauge/agent/gpu-07");
    }
}

#[tokio::test]
async fn strangers_stay_out_and_are_told_why() {
    let world = World::new();
    let other = World::new();
    let (_door, address) =
        world.door(Guard::Closed(world.credentials(Role::Coordinator, "main"))).await;
    // Another authority: the client does not know ours either, unless it is given it.
    let files = other.files(Role::Agent, "gpu-07", now(), DAY);
    let said = connect(Some(Credentials::load(files.clone()).unwrap()), "127.0.0.1", address)
        .await
        .unwrap_err();
    assert!(said.contains("no authority in our CA file vouches for its certificate"), "{said}");
    let files = Files { ca: world.path("ca.pem"), ..files };
    let said =
        connect(Some(Credentials::load(files).unwrap()), "127.0.0.1", address).await.unwrap_err();
    assert!(said.contains("no authority that it knows vouches for our certificate"), "{said}");
    // Plaintext.
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    drop(within(plain.read_to_end(&mut rest)).await);
    let audited = within(async {
        loop {
            let audited = world.audited();
            if audited.lines().count() >= 3 {
                return audited;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(audited.lines().all(|line| line.contains("\"refused\"")), "{audited}");
    assert!(audited.contains("certificate") && audited.contains("\"what\":\"tls\""), "{audited}");
}

#[tokio::test]
async fn a_daemon_that_is_no_coordinator_is_not_taken_for_one() {
    let world = World::new();
    let (_door, address) = world.door(Guard::Closed(world.credentials(Role::Agent, "evil"))).await;
    let said = connect(Some(world.credentials(Role::Agent, "gpu-07")), "127.0.0.1", address).await;
    let said = said.unwrap_err();
    assert!(said.contains("railgauge/agent/evil, and no coordinator"), "{said}");
    let (_door, address) =
        world.door(Guard::Closed(world.credentials(Role::Coordinator, "main"))).await;
    let said = connect(Some(world.credentials(Role::Agent, "gpu-07")), "127.0.0.2", address).await;
    // Nobody listens there: the name is asked first.
    assert!(said.is_err());
}

#[tokio::test]
async fn a_door_that_is_open_says_who_nobody_is() {
    let world = World::new();
    let (mut door, address) =
        world.door(Guard::Open(world.credentials(Role::Coordinator, "main"))).await;
    let (_known, server) =
        meet(&mut door, world.credentials(Role::Viewer, "prometheus"), "127.0.0.1", address).await;
    assert!(matches!(&server.peer().who, Who::Known(identity) if identity.role() == Role::Viewer));
}

#[tokio::test]
async fn a_connection_ends_with_its_certificate() {
    let world = World::new();
    let (mut door, address) =
        world.door(Guard::Closed(world.credentials(Role::Coordinator, "main"))).await;
    let soon = world.files(Role::Agent, "gpu-07", now(), Duration::from_secs(3));
    let soon = Credentials::load(soon).unwrap();
    let (mut client, mut server) = meet(&mut door, soon.clone(), "127.0.0.1", address).await;
    echo(&mut client, &mut server).await.unwrap();
    let mut read = [0; 1];
    let ended = within(server.read_exact(&mut read)).await.unwrap_err();
    assert_eq!(ended.to_string(), "its certificate has ended");
    assert!(server.write_all(b"more").await.is_err());
    drop(server);
    // Whose it is knows why, without asking: which of the two has ended is no riddle for its log.
    let closed = within(client.read_exact(&mut read)).await.unwrap_err();
    assert_eq!(closed.to_string(), "it was closed at the other end");
    let own = connect(Some(soon), "127.0.0.1", address).await.unwrap_err();
    assert!(own.starts_with("our own certificate ended at "), "{own}");
}

#[tokio::test]
async fn what_is_renewed_is_in_force_without_a_restart_and_what_is_damaged_is_not() {
    let world = World::new();
    let files = world.files(Role::Coordinator, "main", now(), DAY);
    let credentials = Credentials::load(files.clone()).unwrap();
    let mut changes = credentials.changes();
    let (mut door, address) = world.door(Guard::Closed(credentials.clone())).await;
    let agent = world.credentials(Role::Agent, "gpu-07");
    let (mut old, mut old_server) = meet(&mut door, agent.clone(), "127.0.0.1", address).await;

    let before = credentials.current().own.ends;
    let again = world.files(Role::Coordinator, "main", now(), 2 * DAY);
    std::fs::copy(&again.key, &files.key).unwrap();
    std::fs::copy(&again.cert, &files.cert).unwrap();
    credentials.look();
    within(changes.changed()).await.unwrap();
    assert!(credentials.current().own.ends > before);
    // Who is in stays in, and who comes finds the new one.
    echo(&mut old, &mut old_server).await.unwrap();
    let (mut new, mut new_server) = meet(&mut door, agent, "127.0.0.1", address).await;
    echo(&mut new, &mut new_server).await.unwrap();

    std::fs::write(&files.cert, "nothing").unwrap();
    within(async {
        while !credentials.reloads().failing {
            credentials.look();
            tokio::task::yield_now().await;
        }
    })
    .await;
    echo(&mut old, &mut old_server).await.unwrap();
    assert_eq!(credentials.reloads().replaced, 1);
    // Mended by another mistake: that is said too.
    assert_eq!(credentials.reloads().failed, 1);
    std::fs::copy(&again.cert, &files.cert).unwrap();
    let mode = |mode| std::fs::set_permissions(&files.key, PermissionsExt::from_mode(mode));
    mode(0o644).unwrap();
    within(async {
        while credentials.reloads().failed < 2 {
            credentials.look();
            tokio::task::yield_now().await;
        }
    })
    .await;
    mode(0o600).unwrap();
    // One that has ended is no better, though its sentence has another time in it at each look.
    let ended = world.files(Role::Coordinator, "main", now() - 10 * DAY, 3 * DAY);
    std::fs::copy(&again.cert, &files.cert).unwrap();
    within(async {
        while credentials.reloads().failing {
            credentials.look();
            tokio::task::yield_now().await;
        }
    })
    .await;
    std::fs::copy(&ended.key, &files.key).unwrap();
    std::fs::copy(&ended.cert, &files.cert).unwrap();
    within(async {
        let mut look = tokio::time::interval(Duration::from_millis(1_100));
        while !credentials.reloads().failing {
            look.tick().await;
            credentials.look();
        }
    })
    .await;
    assert_eq!(credentials.reloads().replaced, 1);
    std::fs::copy(&again.key, &files.key).unwrap();
    std::fs::copy(&again.cert, &files.cert).unwrap();
    within(async {
        while credentials.reloads().failing {
            credentials.look();
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn whom_no_authority_vouches_for_any_more_is_out() {
    let world = World::new();
    let other = World::new();
    let files = world.files(Role::Coordinator, "main", now(), DAY);
    let credentials = Credentials::load(files.clone()).unwrap();
    let (mut door, address) = world.door(Guard::Closed(credentials.clone())).await;
    let (mut client, mut server) =
        meet(&mut door, world.credentials(Role::Agent, "a"), "127.0.0.1", address).await;
    echo(&mut client, &mut server).await.unwrap();
    // Both authorities: nothing changes for who is here.
    let both = world.authority.pem().to_owned() + other.authority.pem();
    let mut changes = credentials.changes();
    std::fs::write(&files.ca, both).unwrap();
    credentials.look();
    within(changes.changed()).await.unwrap();
    echo(&mut client, &mut server).await.unwrap();
    std::fs::write(&files.ca, other.authority.pem()).unwrap();
    credentials.look();
    within(changes.changed()).await.unwrap();
    let mut read = [0; 1];
    let ended = within(server.read_exact(&mut read)).await.unwrap_err();
    assert!(ended.to_string().contains("no authority vouches"), "{ended}");
}

#[tokio::test]
async fn who_says_nothing_keeps_nobody_out() {
    let world = World::new();
    let (mut door, address) =
        world.door(Guard::Closed(world.credentials(Role::Coordinator, "main"))).await;
    let mut idle = Vec::new();
    for _ in 0..1_500 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    let agent = world.credentials(Role::Agent, "gpu-07");
    let (mut client, mut server) = meet(&mut door, agent, "127.0.0.1", address).await;
    echo(&mut client, &mut server).await.unwrap();
    // And with all places taken, the oldest goes.
    let (mut door, address) = world.door_for(Guard::Plain, 2).await;
    let mut strangers = Vec::new();
    for _ in 0..3 {
        let stream = TcpStream::connect(address).await.unwrap();
        strangers.push((stream, come(&mut door).await));
    }
    let mut read = [0; 1];
    let gone = within(strangers[0].1.read_exact(&mut read)).await.unwrap_err();
    assert!(gone.to_string().contains("others need its place"), "{gone}");
    let (client, server) = &mut strangers[2];
    client.write_all(b"x").await.unwrap();
    within(server.read_exact(&mut read)).await.unwrap();
    // Who was given up is who is told of, and not who came after.
    let first = idle[0].local_addr().unwrap().to_string();
    let told = world.audited();
    let told = told.lines().find(|line| line.contains("too many are at the door")).unwrap();
    assert!(told.contains(&first), "{told} is not of {first}");
}

#[tokio::test]
async fn one_certificate_does_not_take_the_places_of_others() {
    let world = World::new();
    let guard = Guard::Closed(world.credentials(Role::Coordinator, "main"));
    let (mut door, address) = world.door_for(guard, 4).await;
    let good = world.credentials(Role::Agent, "gpu-07");
    let evil = world.credentials(Role::Agent, "evil");
    let (mut client, mut server) = meet(&mut door, good, "127.0.0.1", address).await;
    let mut many = Vec::new();
    for _ in 0..8 {
        many.push(meet(&mut door, evil.clone(), "127.0.0.1", address).await);
    }
    echo(&mut client, &mut server).await.unwrap();
    let mut read = [0; 1];
    for (_, server) in &mut many[..5] {
        let gone = within(server.read_exact(&mut read)).await.unwrap_err();
        assert!(gone.to_string().contains("others need its place"), "{gone}");
    }
    let (client, server) = &mut many[7];
    echo(client, server).await.unwrap();
}

#[test]
fn files_that_cannot_be_used_say_which_and_why() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    let good = world.files(Role::Agent, "gpu-07", now(), DAY);
    let load = |files: &Files| files.load(now()).unwrap_err().to_string();
    assert!(good.load(now()).is_ok());
    let says = |files: Files, what: &[&str]| {
        let said = load(&files);
        assert!(what.iter().all(|what| said.contains(what)), "{said}");
    };
    let put = |name: &str, text: &str| -> PathBuf {
        let file = world.path(name);
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        file
    };
    says(Files { key: world.path("none.key"), ..good.clone() }, &["cannot read", "none.key"]);
    let empty = put("empty", "");
    says(Files { ca: empty.clone(), ..good.clone() }, &["empty", "CERTIFICATE"]);
    says(Files { cert: empty.clone(), ..good.clone() }, &["empty", "CERTIFICATE"]);
    says(Files { key: empty, ..good.clone() }, &["empty", "PRIVATE KEY"]);
    let cut: String = std::fs::read_to_string(&good.cert).unwrap().chars().take(200).collect();
    says(Files { cert: put("cut.pem", &cut), ..good.clone() }, &["cut.pem"]);
    let other = world.files(Role::Agent, "gpu-08", now(), DAY);
    says(Files { key: other.key.clone(), ..good.clone() }, &["gpu-08", "is not that of"]);
    let past = world.files(Role::Agent, "past", now() - 10 * DAY, DAY);
    says(past, &["past", "ended at", "this machine's clock says", "renew it, or set the clock"]);
    let future = world.files(Role::Agent, "future", now() + 10 * DAY, DAY);
    says(future, &["begins at", "set the clock, or wait"]);
    std::fs::set_permissions(&good.key, std::fs::Permissions::from_mode(0o644)).unwrap();
    says(good.clone(), &["others may read", "mode 0644", "chmod 0600"]);
    let error = good.load(now()).unwrap_err();
    assert!(matches!(error, LoadError::Permissions { mode: 0o644, .. }));
    says(Files { cert: world.path("ca.pem"), key: other.key, ..good }, &["ca.pem"]);
}

#[test]
fn an_authority_is_made_once_and_found_again() {
    let world = World::new();
    let error = Authority::init(world.dir.path(), "x.internal", now(), DAY).unwrap_err();
    assert!(error.to_string().contains("is there already"), "{error}");
    let again = Authority::open(world.dir.path()).unwrap();
    assert_eq!(again.trust_domain(), "test.internal");
    let request = Request { role: Role::Viewer, name: "me", hosts: &[], from: now(), valid: DAY };
    let issued = again.issue(&request).unwrap();
    issued.save(&world.path("me.pem"), &world.path("me.key")).unwrap();
    let files =
        Files { ca: world.path("ca.pem"), cert: world.path("me.pem"), key: world.path("me.key") };
    assert_eq!(files.load(now()).unwrap().identity.name(), "me");
    let error = Authority::open(Path::new("/nowhere")).unwrap_err().to_string();
    assert!(error.contains("railgauge certs init --dir /nowhere"), "{error}");
    for (name, hosts, says) in [
        ("a b", vec![], "is no name"),
        ("a", vec!["höst".to_owned()], "neither a host name nor an address"),
    ] {
        let request = Request { name, hosts: &hosts, ..request.clone() };
        let error = again.issue(&request).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let error = Authority::init(&world.path("y"), "No Domain", now(), DAY).unwrap_err();
    assert!(error.to_string().contains("is no trust domain"), "{error}");
}

//! The network between an agent and the coordinator: it can be cut, and hold back either direction.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::process::{now, pause};

/// How often something held back looks whether it may go on.
const LOOK: Duration = Duration::from_millis(5);

#[derive(Default)]
struct Shared {
    target: Mutex<Option<SocketAddr>>,
    connections: Mutex<Vec<Arc<Connection>>>,
    /// Nothing goes to the agent: acknowledgements are lost when the connection is cut.
    hold_down: AtomicBool,
    /// Nothing goes to the coordinator beyond so many octets of each connection.
    most_up: AtomicU64,
}

struct Connection {
    agent: TcpStream,
    coordinator: TcpStream,
    over: AtomicBool,
    since: std::time::Instant,
}

impl Connection {
    fn cut(&self) {
        self.over.store(true, SeqCst);
        // An end that is gone already is as good.
        let _ = self.agent.shutdown(Shutdown::Both);
        let _ = self.coordinator.shutdown(Shutdown::Both);
    }
}

/// One agent's way to the coordinator.
pub struct Proxy {
    /// Where the agent dials.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Begins, without a coordinator yet.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { most_up: u64::MAX.into(), ..Shared::default() });
        let own = Arc::clone(&shared);
        // It listens for as long as the program runs, which is one run.
        thread::spawn(move || {
            for agent in listener.incoming().flatten() {
                let target = *lock(&own.target);
                let coordinator = target.and_then(|at| TcpStream::connect(at).ok());
                if let Some(coordinator) = coordinator {
                    let _ = join(&own, agent, coordinator);
                }
            }
        });
        Ok(Self { address, shared })
    }

    /// Where the coordinator is now; `None` refuses connections.
    pub fn lead_to(&self, target: Option<SocketAddr>) {
        *lock(&self.shared.target) = target;
    }

    /// Ends all connections.
    pub fn cut(&self) {
        lock(&self.shared.connections).drain(..).for_each(|connection| connection.cut());
    }

    /// Holds back what the coordinator says.
    pub fn hold_down(&self, hold: bool) {
        self.shared.hold_down.store(hold, SeqCst);
    }

    /// Holds back what the agent says, beyond so many octets of each connection.
    pub fn most_up(&self, octets: u64) {
        self.shared.most_up.store(octets, SeqCst);
    }

    /// How long the connection stands, if one does.
    pub fn connected_for(&self) -> Option<Duration> {
        let connections = lock(&self.shared.connections);
        let open = connections.iter().rfind(|connection| !connection.over.load(SeqCst))?;
        Some(now().duration_since(open.since))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn join(shared: &Arc<Shared>, agent: TcpStream, coordinator: TcpStream) -> io::Result<()> {
    agent.set_nodelay(true)?;
    coordinator.set_nodelay(true)?;
    let ends = [agent.try_clone()?, coordinator.try_clone()?];
    let connection =
        Arc::new(Connection { agent, coordinator, over: AtomicBool::new(false), since: now() });
    lock(&shared.connections).push(Arc::clone(&connection));
    for is_up in [true, false] {
        let [from_agent, from_coordinator] = [ends[0].try_clone()?, ends[1].try_clone()?];
        let (from, to) =
            if is_up { (from_agent, from_coordinator) } else { (from_coordinator, from_agent) };
        let (shared, connection) = (Arc::clone(shared), Arc::clone(&connection));
        thread::spawn(move || {
            // However it ends, the connection does.
            let _ = pump(&shared, &connection, from, to, is_up);
            connection.cut();
        });
    }
    Ok(())
}

fn pump(
    shared: &Shared,
    connection: &Connection,
    mut from: TcpStream,
    mut to: TcpStream,
    is_up: bool,
) -> io::Result<()> {
    let (mut octets, mut passed) = ([0; 4_096], 0);
    loop {
        let len = from.read(&mut octets)?;
        if len == 0 {
            return Ok(());
        }
        let held = || {
            if is_up {
                passed >= shared.most_up.load(SeqCst)
            } else {
                shared.hold_down.load(SeqCst)
            }
        };
        while held() {
            if connection.over.load(SeqCst) {
                return Ok(());
            }
            pause(LOOK);
        }
        to.write_all(&octets[..len])?;
        passed += len as u64;
    }
}

//! perftest between two NICs of the guest: an RDMA measurement that is none of ours.

use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use super::fabric::{Family, device, gid_index};
use crate::fleet::Trouble;
use crate::fleet::process::pause;

/// Which of its programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `ib_write_lat`: a ping-pong of RC writes, seen by polling memory. It never ends when a write is lost for good.
    WriteLatency,
    /// `ib_send_lat` over RC.
    SendLatency,
    /// `ib_send_lat` over UD.
    DatagramLatency,
    /// `ib_write_bw`: RC writes from client to server.
    WriteBandwidth,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::WriteLatency => "ib_write_lat",
            Self::SendLatency | Self::DatagramLatency => "ib_send_lat",
            Self::WriteBandwidth => "ib_write_bw",
        }
    }
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Perftest {
    /// Which program.
    pub program: Program,
    /// The NIC that waits.
    pub server: u8,
    /// The NIC that begins, and whose figures are read.
    pub client: u8,
    /// By which of their addresses.
    pub family: Family,
    /// Octets of a message.
    pub size: u32,
    /// Messages.
    pub iterations: u32,
    /// The queue pair's time-out for an acknowledgement, 4.096 us x 2^n.
    pub timeout: u8,
    /// It is not done after this time: it is ended.
    pub bound: Duration,
}

impl Perftest {
    /// `program` from `client` to `server` by IPv4, with its own defaults but for the counts, which suit emulation.
    pub fn new(program: Program, client: u8, server: u8) -> Self {
        let (size, iterations) = match program {
            Program::WriteBandwidth => (65_536, 40),
            _ => (2, 200),
        };
        Self {
            program,
            server,
            client,
            family: Family::V4,
            size,
            iterations,
            timeout: 14,
            bound: Duration::from_secs(60),
        }
    }
}

/// Half round trips, as perftest defines them, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// The fastest.
    pub least_us: f64,
    /// The median.
    pub typical_us: f64,
    /// Its maximum, which is not that of all samples: it drops two.
    pub most_us: f64,
}

/// Throughput in octets a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bandwidth {
    /// Over the whole.
    pub mean: f64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Measured {
    /// Of the programs for latency.
    Latency(Latency),
    /// Of that for throughput.
    Bandwidth(Bandwidth),
    /// It ended without figures, or did not end: what the client said last.
    Nothing(String),
}

/// A server of perftest that waits. Dropping it ends it.
struct Listener {
    server: Child,
    port: u16,
}

impl Drop for Listener {
    fn drop(&mut self) {
        // One that has ended is reaped; neither call can fail in a way that could be mended here.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Perftest {
    /// Runs both sides to the end of the client.
    ///
    /// # Errors
    /// When a side cannot be started or prints what cannot be read; a measurement that fails is no error.
    pub fn run(&self) -> Result<Measured, Trouble> {
        let listener = match self.listen()? {
            Ok(listener) => listener,
            // It looks at its port first, and does not wait on one that is down.
            Err(said) => return Ok(Measured::Nothing(said)),
        };
        let mut client = Command::new("timeout");
        client.args(["--signal=KILL", &self.bound.as_secs().to_string()]);
        client.arg(self.program.name()).args(self.arguments(self.client, listener.port)?);
        // Control goes by loopback: both sides are in one kernel.
        let said = client.arg("127.0.0.1").stdin(Stdio::null()).output()?;
        drop(listener);
        self.read(&said)
    }

    /// Starts the side that waits, and returns when it listens; or what became of it.
    fn listen(&self) -> Result<Result<Listener, String>, Trouble> {
        const LOOKS: u32 = 2000;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new(self.program.name());
        command.args(self.arguments(self.server, port)?).stdin(Stdio::null());
        let server = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut listener = Listener { server, port };
        for _ in 0..LOOKS {
            if listens(port)? {
                return Ok(Ok(listener));
            }
            if let Some(status) = listener.server.try_wait()? {
                return Ok(Err(format!("the server ended at once ({status})")));
            }
            pause(Duration::from_millis(10));
        }
        Err(format!("{} does not come to listen", self.program.name()).into())
    }

    fn arguments(&self, cable: u8, port: u16) -> Result<Vec<String>, Trouble> {
        let gid = gid_index(cable, self.family)?.to_string();
        let (size, count) = (self.size.to_string(), self.iterations.to_string());
        let (port, timeout) = (port.to_string(), self.timeout.to_string());
        // `-F`: what it says of the CPU's clock under emulation is no reason to stop.
        let mut words = vec!["-F", "-d"];
        let device = device(cable);
        words.extend(
            [&device, "-x", &gid, "-s", &size, "-n", &count, "-p", &port].map(|word| word as &str),
        );
        match self.program {
            // No time-out there: nothing is acknowledged.
            Program::DatagramLatency => words.extend(["-c", "UD"]),
            Program::WriteBandwidth => words.extend(["-u", &timeout, "-t", "16"]),
            _ => words.extend(["-u", &timeout]),
        }
        Ok(words.into_iter().map(str::to_owned).collect())
    }

    fn read(&self, said: &Output) -> Result<Measured, Trouble> {
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&said.stdout),
            String::from_utf8_lossy(&said.stderr)
        );
        let size = self.size.to_string();
        let figures = text.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some(size.as_str())).then(|| words.map(str::parse).collect())
        });
        let figures: Vec<f64> = match figures {
            Some(figures) if said.status.success() => figures_of(figures, &text)?,
            _ => {
                let last = text.lines().rev().find(|line| line.chars().any(char::is_alphabetic));
                let status = said.status;
                return Ok(Measured::Nothing(format!(
                    "{} ({status})",
                    last.unwrap_or("nothing").trim()
                )));
            }
        };
        // Behind the size: iterations, then what the program's head line says.
        match (self.program, figures.as_slice()) {
            (Program::WriteBandwidth, [_, _peak, mean, ..]) => {
                const MEBI: f64 = 1_048_576.0;
                Ok(Measured::Bandwidth(Bandwidth { mean: mean * MEBI }))
            }
            (_, [_, least, most, typical, ..]) => Ok(Measured::Latency(Latency {
                least_us: *least,
                typical_us: *typical,
                most_us: *most,
            })),
            _ => Err(format!("{} printed too few figures: {text}", self.program.name()).into()),
        }
    }
}

fn figures_of(
    figures: Result<Vec<f64>, std::num::ParseFloatError>,
    text: &str,
) -> Result<Vec<f64>, Trouble> {
    figures.map_err(|error| format!("perftest printed no figures ({error}): {text}").into())
}

/// Whether somebody listens on a port of TCP, without a connection to try it: perftest takes the first for its peer.
fn listens(port: u16) -> Result<bool, Trouble> {
    const LISTENING: &str = "0A";
    let wanted = format!(":{port:04X}");
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        // A kernel without IPv6 has no second table.
        let text = std::fs::read_to_string(table).unwrap_or_default();
        let found = text.lines().any(|line| {
            let mut words = line.split_whitespace().skip(1);
            let (local, _remote, state) = (words.next(), words.next(), words.next());
            local.is_some_and(|local| local.ends_with(&wanted)) && state == Some(LISTENING)
        });
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    fn said(text: &str, status: i32) -> Output {
        Output { status: ExitStatus::from_raw(status), stdout: text.into(), stderr: Vec::new() }
    }

    #[test]
    fn figures_are_read() {
        let latency = Perftest::new(Program::WriteLatency, 2, 1);
        let text = " #bytes #iterations    t_min[usec]    t_max[usec]  t_typical[usec]\n \
                    2       200          20.71          14064.14      24.05    \t       561.05      \t1854.19\t\t13071.66 \t\t14064.14\n---\n";
        let read = latency.read(&said(text, 0)).unwrap();
        let expected = Latency { least_us: 20.71, typical_us: 24.05, most_us: 14064.14 };
        assert_eq!(read, Measured::Latency(expected));
        let bandwidth = Perftest::new(Program::WriteBandwidth, 2, 1);
        let read = bandwidth.read(&said(
            " 65536      40             3.00               2.00   \t\t   0.000050\n",
            0,
        ));
        assert_eq!(read.unwrap(), Measured::Bandwidth(Bandwidth { mean: 2_097_152.0 }));
    }

    #[test]
    fn a_measurement_that_fails_says_why() {
        let latency = Perftest::new(Program::SendLatency, 2, 1);
        let read = latency.read(&said(" Completion with error at client\n-----\n", 256)).unwrap();
        assert_eq!(
            read,
            Measured::Nothing("Completion with error at client (exit status: 1)".to_owned())
        );
        assert!(latency.read(&said(" 2 200 x y z\n", 0)).is_err());
    }

    #[test]
    fn who_listens_is_seen_without_a_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(listens(port).unwrap());
        drop(listener);
        assert!(!listens(port).unwrap());
    }
}

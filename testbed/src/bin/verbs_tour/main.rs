//! Verbs on live devices: one JSON line for each thing that has to hold, exit status 1 when one does not.
//!
//! Needs two RDMA devices that reach each other (`--device`, `--peer`), soft-RoCE will do, and rights on them; `removal` and `events`
//! also change their links, as root, so never run them on a machine in use.

mod connections;
mod cycles;
mod datagrams;
mod ends;
mod ledger;
mod refused;
mod removal;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use ledger::{Ledger, Trouble};

/// Verbs on live devices.
#[derive(Parser)]
struct Options {
    /// The device that everything starts from.
    #[arg(long, default_value = "rxe1")]
    device: String,
    /// Another that it reaches.
    #[arg(long, default_value = "rxe2")]
    peer: String,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Devices, ports, GIDs, and which stamps and registrations they have.
    List {
        /// Demand these of the device.
        #[arg(long)]
        stamps: Option<DeviceStamps>,
    },
    /// Datagrams between the devices, and what becomes of bad ones.
    Datagrams {
        /// A device whose network lets it reach itself; the other two need not.
        #[arg(long)]
        loopback: Option<String>,
        /// How many there and back.
        #[arg(long, default_value_t = 200)]
        count: u64,
    },
    /// Connections between the devices: all operations, and what becomes of bad ones.
    Connections {
        /// How many of each operation.
        #[arg(long, default_value_t = 100)]
        count: u64,
    },
    /// Makes and drops everything again and again, and looks what is left.
    Cycles {
        /// How often.
        #[arg(long, default_value_t = 10_000)]
        count: u64,
    },
    /// Changes the address and the link of the peer device and looks for the events.
    Events {
        /// Its network interface.
        #[arg(long, default_value = "nic2")]
        netdev: String,
    },
    /// Deletes the peer device while it is open, and adds it again.
    Removal {
        /// Its network interface.
        #[arg(long, default_value = "nic2")]
        netdev: String,
        /// How often.
        #[arg(long, default_value_t = 3)]
        count: u64,
    },
    /// Tries to list, open and register, and wants to be refused with these words.
    Refused {
        /// Part of the sentence.
        #[arg(long)]
        expect: String,
        /// How many bytes it tries to register.
        #[arg(long, default_value_t = 16 << 20)]
        bytes: usize,
    },
}

/// Stamps that only a NIC has.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum DeviceStamps {
    /// Nanoseconds.
    Wallclock,
    /// Ticks.
    Raw,
}

fn main() -> ExitCode {
    match tour(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let said = writeln!(std::io::stderr(), "error: {}", ledger::chain(&*error));
            ExitCode::from(if said.is_ok() { 1 } else { 2 })
        }
    }
}

fn tour(options: &Options) -> Result<(), Trouble> {
    let (device, peer) = (options.device.as_str(), options.peer.as_str());
    let mut ledger = Ledger::default();
    match &options.what {
        What::List { stamps } => {
            ends::list(&mut ledger)?;
            if let Some(stamps) = stamps {
                ends::stamped(&mut ledger, device, *stamps)?;
            }
        }
        What::Datagrams { loopback, count } => {
            datagrams::run(&mut ledger, device, peer, *count)?;
            if let Some(device) = loopback {
                datagrams::to_itself(&mut ledger, device, *count)?;
            }
        }
        What::Connections { count } => connections::run(&mut ledger, device, peer, *count)?,
        What::Cycles { count } => cycles::run(&mut ledger, device, peer, *count)?,
        What::Events { netdev } => removal::events(&mut ledger, peer, netdev)?,
        What::Removal { netdev, count } => {
            removal::run(&mut ledger, device, peer, netdev, *count)?;
        }
        What::Refused { expect, bytes } => refused::run(&mut ledger, device, expect, *bytes)?,
    }
    ledger.end()
}

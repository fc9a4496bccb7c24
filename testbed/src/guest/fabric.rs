//! The fabric as `testbed/guest/fabric.sh` makes it, whose head says how it is laid out.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::fleet::Trouble;

/// Cables, and so NICs; they are counted from 1.
pub const CABLES: u8 = 4;

/// An end of a cable; a disturbance acts on what leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The NIC: what the node sends.
    Nic,
    /// The port of the switch: what the node gets.
    Switch,
}

impl End {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Nic, Self::Switch];

    fn word(self) -> &'static str {
        match self {
            Self::Nic => "nic",
            Self::Switch => "switch",
        }
    }
}

/// What is done to an end of a cable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Disturbance {
    /// Every packet leaves later.
    Delay(Duration),
    /// This share of the packets is dropped at random, in percent.
    Loss(f64),
    /// Packets leave no faster, Mbit/s.
    Rate(u32),
    /// The link is down.
    Down,
}

impl Disturbance {
    /// Those that the fabric is judged by.
    pub const ALL: [Self; 4] =
        [Self::Delay(Duration::from_millis(2)), Self::Loss(1.0), Self::Rate(10), Self::Down];

    /// As the script takes it.
    fn words(self) -> Vec<String> {
        match self {
            Self::Delay(delay) => vec!["delay".to_owned(), format!("{}us", delay.as_micros())],
            Self::Loss(percent) => vec!["loss".to_owned(), format!("{percent}%")],
            Self::Rate(mbit) => vec!["rate".to_owned(), format!("{mbit}mbit")],
            Self::Down => vec!["down".to_owned()],
        }
    }
}

impl fmt::Display for Disturbance {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delay(delay) => write!(out, "delay {} ms", delay.as_secs_f64() * 1e3),
            Self::Loss(percent) => write!(out, "loss {percent} %"),
            Self::Rate(mbit) => write!(out, "rate {mbit} Mbit/s"),
            Self::Down => out.write_str("link down"),
        }
    }
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// From 1.
    pub cable: u8,
    /// Which end of it.
    pub end: End,
    /// What is done to it.
    pub disturbance: Disturbance,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} at the {} end of cable {}", self.disturbance, self.end.word(), self.cable)
    }
}

/// Which of a NIC's addresses is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// 10.77.x.N.
    V4,
    /// fd77::x:N.
    Ula,
    /// fe80::77:ff:fe00:N.
    LinkLocal,
}

impl Family {
    /// All three.
    pub const ALL: [Self; 3] = [Self::V4, Self::Ula, Self::LinkLocal];

    /// How a GID of it begins, as sysfs writes it.
    fn prefix(self) -> &'static str {
        match self {
            Self::V4 => "0000:0000:0000:0000:0000:ffff:0a4d:",
            Self::Ula => "fd77:",
            Self::LinkLocal => "fe80:",
        }
    }
}

/// The fabric of this guest.
#[derive(Clone, Debug)]
pub struct Fabric {
    script: PathBuf,
}

impl Fabric {
    /// That of the guest we are in.
    ///
    /// # Errors
    /// When this is no guest: the script changes routes and rules, and is not for a machine that somebody uses.
    pub fn of_this_guest() -> Result<Self, Trouble> {
        let script = std::env::var_os("GUEST_FABRIC").map(PathBuf::from);
        let script = script.filter(|_| Path::new("/guest/booted").exists());
        let script = script.ok_or(
            "this program runs in the guest with soft-RoCE NICs: cargo xtask guest -- PROGRAM",
        )?;
        Ok(Self { script })
    }

    /// Does something to it, by the script's words.
    fn call(&self, words: &[String]) -> Result<String, Trouble> {
        let said = Command::new(&self.script).args(words).output()?;
        if said.status.success() {
            return Ok(String::from_utf8_lossy(&said.stdout).into_owned());
        }
        let error = String::from_utf8_lossy(&said.stderr);
        Err(format!("fabric.sh {} failed: {}", words.join(" "), error.trim()).into())
    }

    fn on(&self, word: &str, cable: u8) -> Result<(), Trouble> {
        self.call(&[word.to_owned(), cable.to_string()]).map(drop)
    }

    /// Puts a fault into it. Several faults add up, one for each end.
    ///
    /// # Errors
    /// When the script refuses.
    pub fn disturb(&self, fault: Fault) -> Result<(), Trouble> {
        let mut words =
            vec!["fault".to_owned(), fault.cable.to_string(), fault.end.word().to_owned()];
        words.extend(fault.disturbance.words());
        self.call(&words).map(drop)
    }

    /// Makes a cable whole.
    ///
    /// # Errors
    /// When the script refuses.
    pub fn mend(&self, cable: u8) -> Result<(), Trouble> {
        self.on("clear", cable)
    }

    /// Takes a NIC's RDMA device away; returns when nobody has it open any more.
    ///
    /// # Errors
    /// When the script refuses.
    pub fn remove(&self, cable: u8) -> Result<(), Trouble> {
        self.on("remove", cable)
    }

    /// Gives a NIC its RDMA device.
    ///
    /// # Errors
    /// When the script refuses.
    pub fn add(&self, cable: u8) -> Result<(), Trouble> {
        self.on("add", cable)
    }

    /// Gives a NIC addresses of another subnet, and so other GIDs.
    ///
    /// # Errors
    /// When the script refuses.
    pub fn renumber(&self, cable: u8, subnet: u8) -> Result<(), Trouble> {
        self.call(&["renumber".to_owned(), cable.to_string(), subnet.to_string()]).map(drop)
    }

    /// The packets that an end's disturbance has dropped since it was put there.
    ///
    /// # Errors
    /// When there is none.
    pub fn dropped(&self, cable: u8, end: End) -> Result<u64, Trouble> {
        let device = interface(cable, end);
        let said =
            Command::new("tc").args(["-s", "qdisc", "show", "dev", &device, "root"]).output()?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let number = text.split("dropped ").nth(1).and_then(|rest| rest.split(',').next());
        let number = number.and_then(|number| number.trim().parse().ok());
        number.ok_or_else(|| format!("tc tells no drops of {device}: {text}").into())
    }
}

/// The interface at an end of a cable.
pub fn interface(cable: u8, end: End) -> String {
    match end {
        End::Nic => format!("nic{cable}"),
        End::Switch => format!("sw{cable}"),
    }
}

/// The RDMA device of a NIC.
pub fn device(cable: u8) -> String {
    format!("rxe{cable}")
}

/// The place of a NIC's address in its GID table: it changes when addresses do.
///
/// # Errors
/// When there is none.
pub fn gid_index(cable: u8, family: Family) -> Result<usize, Trouble> {
    // The first places are taken first; rxe has a thousand of them.
    const LOOKED_AT: usize = 32;
    let table = PathBuf::from(format!("/sys/class/infiniband/{}/ports/1/gids", device(cable)));
    let is_it = |index: &usize| {
        let gid = std::fs::read_to_string(table.join(index.to_string())).unwrap_or_default();
        gid.starts_with(family.prefix())
    };
    (0..LOOKED_AT)
        .find(is_it)
        .ok_or_else(|| format!("{} has no GID {family:?}", device(cable)).into())
}

/// A counter below `hw_counters` of a NIC's RDMA device.
///
/// # Errors
/// When the device has none of this name.
pub fn counter(cable: u8, name: &str) -> Result<u64, Trouble> {
    let path = format!("/sys/class/infiniband/{}/ports/1/hw_counters/{name}", device(cable));
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    Ok(text.trim().parse()?)
}

/// Packets that left an end since the interface was made.
///
/// # Errors
/// When there is no such cable.
pub fn packets_from(cable: u8, end: End) -> Result<u64, Trouble> {
    let path = format!("/sys/class/net/{}/statistics/tx_packets", interface(cable, end));
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    Ok(text.trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named_for_people_and_for_the_script() {
        let fault = Fault { cable: 3, end: End::Switch, disturbance: Disturbance::ALL[0] };
        assert_eq!(fault.to_string(), "delay 2 ms at the switch end of cable 3");
        let words: Vec<String> = Disturbance::ALL.iter().map(|one| one.words().join(" ")).collect();
        assert_eq!(words, ["delay 2000us", "loss 1%", "rate 10mbit", "down"]);
    }

    #[test]
    fn outside_the_guest_nothing_is_touched() {
        assert!(Fabric::of_this_guest().unwrap_err().to_string().contains("cargo xtask guest"));
    }
}

//! A device made ready to talk: context, domain, queue, memory, and its address.

use std::time::Duration;

use railgauge_core::rdma::flow_label::FlowLabel;
use railgauge_core::rdma::gid::{GidEntry, Wish, choose};
use railgauge_core::rdma::mtu::PathMtu;
use railgauge_core::time::Monotonic;
use railgauge_fabric::clock;
use railgauge_fabric::verbs::{
    Access, AddressVector, Capacity, Completion, CompletionQueue, CompletionQueueOptions, Context,
    GlobalRoute, MemoryRegion, Placement, ProtectionDomain, QueuePairOptions, Stamp, StampClock,
    Stamps, UdParameters, UdQueuePair, devices, devices_left_out,
};
use serde_json::json;

use crate::DeviceStamps;
use crate::ledger::{Ledger, Trouble, chain};

/// The queue key of all datagrams here.
pub const QUEUE_KEY: u32 = 0x0102_0304;
/// Octets of each end's memory.
pub const REGION: usize = 64 << 10;
const PORT: u8 = 1;
/// Emulated machines are slow; nothing here waits longer.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// One device, open.
pub struct End {
    pub context: Context,
    pub domain: ProtectionDomain,
    pub queue: CompletionQueue,
    pub region: MemoryRegion,
    pub gid: GidEntry,
    pub mtu: PathMtu,
    pub stamps: Order,
}

/// Whether stamps come, and in order.
#[derive(Default)]
pub struct Order {
    last: Option<u64>,
    pub without: u64,
    pub backwards: u64,
}

impl Order {
    fn note(&mut self, clock: StampClock, stamp: Option<Stamp>) {
        let earlier = self.last;
        match (clock, stamp) {
            (StampClock::None, _) => {}
            (_, None) => self.without += 1,
            (StampClock::Raw { mask, .. }, Some(Stamp::Raw(now))) => {
                self.last = Some(now);
                // Ticks wrap: more than half of the circle ahead is backwards.
                let ahead = |then: u64| now.wrapping_sub(then) & mask <= mask / 2;
                self.backwards += u64::from(!earlier.is_none_or(ahead));
            }
            (_, Some(Stamp::Wallclock(now) | Stamp::Raw(now))) => {
                self.last = Some(now);
                self.backwards += u64::from(earlier.is_some_and(|then| then > now));
            }
        }
    }
}

impl End {
    pub fn open(device: &str, stamps: Stamps) -> Result<Self, Trouble> {
        Self::on(&Context::open(device)?, stamps)
    }

    pub fn on(context: &Context, stamps: Stamps) -> Result<Self, Trouble> {
        let domain = context.protection_domain()?;
        let queue =
            context.completion_queue(&CompletionQueueOptions { stamps, ..Default::default() })?;
        let region = domain.register(REGION, Placement::Anywhere, Access::REMOTE)?;
        let port = context.port(PORT)?;
        let link = port.link_layer.ok_or("an unknown link layer")?;
        let gid = choose(&context.gid_table(PORT)?, link, &Wish::default())?.entry;
        let mtu = port.active_mtu.ok_or("an unknown MTU")?;
        let stamps = Order::default();
        Ok(Self { context: context.clone(), domain, queue, region, gid, mtu, stamps })
    }

    pub fn options(&self) -> QueuePairOptions<'_> {
        QueuePairOptions {
            send_completions: &self.queue,
            receive_completions: &self.queue,
            capacity: Capacity { sends: 64, receives: 64, inline_bytes: 64 },
        }
    }

    /// The way to `other`.
    pub fn way(&self, other: &Self) -> AddressVector {
        let route = GlobalRoute {
            destination: other.gid.gid,
            source_index: u8::try_from(self.gid.index).unwrap_or(0),
            flow_label: FlowLabel::new(0x12345).unwrap_or(FlowLabel::UNSET),
            hop_limit: 64,
            traffic_class: 104,
        };
        AddressVector {
            port: PORT,
            lid: 0,
            source_path_bits: 0,
            service_level: 0,
            static_rate: 0,
            global: Some(route),
        }
    }

    pub fn datagrams(&self) -> Result<UdQueuePair, Trouble> {
        let parameters = UdParameters {
            port: PORT,
            partition_key_index: 0,
            queue_key: QUEUE_KEY,
            packet_sequence: 1,
        };
        Ok(UdQueuePair::new(&self.domain, &self.options(), &parameters)?)
    }

    /// The next completion of this end, whatever it says.
    pub fn next(&mut self) -> Result<Completion, Trouble> {
        self.within(PATIENCE)?.ok_or_else(|| "no completion in time".into())
    }

    /// The next completion, or none within `patience`.
    pub fn within(&mut self, patience: Duration) -> Result<Option<Completion>, Trouble> {
        let begin = clock::monotonic();
        loop {
            if let Some(completion) = self.queue.poll()? {
                if completion.status.is_success() {
                    self.stamps.note(self.queue.clock(), completion.stamp);
                }
                return Ok(Some(completion));
            }
            if since(begin) > patience {
                return Ok(None);
            }
        }
    }

    /// The next completion, which must be a success.
    pub fn done(&mut self) -> Result<Completion, Trouble> {
        let completion = self.next()?;
        if completion.status.is_success() {
            return Ok(completion);
        }
        Err(format!("{:?} (vendor error {:#x})", completion.status, completion.vendor_error).into())
    }
}

/// How long ago `begin` was.
pub fn since(begin: Monotonic) -> Duration {
    clock::monotonic().saturating_since(begin)
}

/// Whether `device` has the stamps that are demanded.
pub fn stamped(ledger: &mut Ledger, device: &str, wanted: DeviceStamps) -> Result<(), Trouble> {
    let stamps = match wanted {
        DeviceStamps::Wallclock => Stamps::Wallclock,
        DeviceStamps::Raw => Stamps::Raw,
    };
    let options = CompletionQueueOptions { stamps, ..Default::default() };
    let said = match Context::open(device)?.completion_queue(&options) {
        Ok(queue) => Ok(format!("{:?}", queue.clock())),
        Err(error) => Err(chain(&error)),
    };
    let figures =
        json!({ "device": device, "wanted": format!("{wanted:?}"), "said": format!("{said:?}") });
    ledger.check("the stamps that are demanded", said.is_ok(), &figures)
}

/// What there is, and what it refuses.
pub fn list(ledger: &mut Ledger) -> Result<(), Trouble> {
    let names: Vec<String> = devices()?.into_iter().map(|device| device.name).collect();
    let without = devices_left_out();
    ledger.check("devices", without.is_empty(), &json!({ "names": names, "without": without }))?;
    for name in names {
        let context = Context::open(&name)?;
        let (attributes, port) = (context.attributes()?, context.port(PORT)?);
        let gids: Vec<String> = context.gid_table(PORT)?.iter().map(ToString::to_string).collect();
        let figures = json!({
            "device": name, "attributes": format!("{attributes:?}"), "port": format!("{port:?}"),
            "gids": gids, "vectors": context.completion_vectors(),
            "partition_key": context.partition_key(PORT, 0)?,
        });
        ledger.check("device", port.is_active() && !gids.is_empty(), &figures)?;
        let best = context.completion_queue(&CompletionQueueOptions::default())?;
        let refusals: Vec<String> = best
            .refusals()
            .iter()
            .map(|refusal| format!("{}: {}", refusal.what, refusal.why))
            .collect();
        let clock = context.raw_clock().map_err(|error| chain(&error));
        let dmabuf = End::on(&context, Stamps::None)?.domain.can_register_dmabuf();
        let figures = json!({
            "device": name, "stamps": format!("{:?}", best.clock()), "refusals": refusals,
            "raw_clock": format!("{clock:?}"),
            "dmabuf": dmabuf.map_or_else(|error| chain(&error), |()| "supported".to_owned()),
        });
        // soft-RoCE has none of it, and has to say so for each.
        let soft = name.starts_with("rxe");
        ledger.check("stamps", !soft || (refusals.len() == 2 && clock.is_err()), &figures)?;
    }
    Ok(())
}

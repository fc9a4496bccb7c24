//! The other side of a simulated world: tells each true t3 one reply later, or when it has it.

use super::driver::{Event, Run, after, wall};
use super::world::{MS, S, TrueReply, US};
use crate::stamp::{ErrorEstimate, FollowUp, Reply, TlvTrouble};
use crate::time::Wall;
use crate::timestamp_source::StampSource;

/// From a request to its reply in a reflector that runs, and from writing t3 to leaving.
const ANSWER: u64 = 4 * US;
const LEAVE: u64 = 2 * US;
/// What the reflector's wall clock shows at simulated time 0.
const REFLECTOR_EPOCH: u64 = 1_000_000_000 * S;

impl Run<'_> {
    pub(super) fn reflect(
        &mut self,
        t2: u64,
        number: u64,
        sender_seq: u32,
        sender_timestamp: [u8; 8],
    ) {
        let begins = after(&self.world.reflector_stall, t2.max(self.reflector_free));
        let (user_t3, t3) = (begins + ANSWER, begins + ANSWER + LEAVE);
        let clock = |at| wall(REFLECTOR_EPOCH, self.world.reflector_step, at);
        let flow = &mut self.flows[usize::from(self.truth[&number].probe.flow)];
        let known = flow.departures.len() > self.world.reflector_behind;
        let told = if known { flow.departures.pop_front() } else { None };
        let follow_up = |(reflector_seq, t3)| FollowUp { reflector_seq, t3: clock(t3), method: 2 };
        let reply = Reply {
            reflector_seq: flow.next_seq,
            t2: clock(t2),
            t3: clock(user_t3),
            stamps_readable: true,
            reflector_error_estimate: ErrorEstimate::UNSYNCHRONIZED,
            sender_seq,
            sender_timestamp,
            ssid: 0,
            sender_ttl: 255,
            follow_up: told.map(follow_up),
            sources: Some((StampSource::Kernel, StampSource::Kernel)),
            trouble: TlvTrouble::default(),
        };
        flow.departures.push_back((flow.next_seq, t3));
        flow.next_seq = flow.next_seq.wrapping_add(1);
        self.reflector_free = t3;
        if self.happens(self.world.hostile) {
            let (reply, arrives) = (self.distort(reply), t2 + self.next_u64() % (2 * MS));
            self.at(arrives, Event::Reply(reply, arrives));
        }
        if self.happens(self.world.loss) || self.world.lost_replies.contains(&number) {
            return;
        }
        for _ in 0..=u64::from(self.happens(self.world.duplication)) {
            let arrived = t3 + self.travel();
            self.at(arrived, Event::Reply(reply, arrived));
            let truth = self.truth.get_mut(&number).unwrap();
            truth.replies.push(TrueReply { t2, t3, arrived });
        }
    }

    /// A reply in which some fields are anything.
    fn distort(&mut self, mut reply: Reply) -> Reply {
        let what = self.next_u64();
        let any = |random: u64| Wall::from_unix_nanos(random);
        let sources = [
            StampSource::Hardware,
            StampSource::Kernel,
            StampSource::User,
            StampSource::Unknown,
            StampSource::Device,
        ];
        if what & 1 > 0 {
            reply.t2 = any(self.next_u64());
        }
        if what & 2 > 0 {
            reply.t3 = any(self.next_u64());
        }
        if what & 4 > 0 {
            reply.sender_seq = reply.sender_seq.wrapping_sub((what >> 32 & 0xff) as u32);
        }
        if what & 24 == 24 {
            reply.sender_timestamp = self.next_u64().to_be_bytes();
        }
        if what & 32 > 0 {
            let reflector_seq = reply.reflector_seq.wrapping_sub((what >> 40 & 3) as u32);
            reply.follow_up = Some(FollowUp { reflector_seq, t3: any(self.next_u64()), method: 9 });
        }
        if what & 64 > 0 {
            reply.reflector_seq = (what >> 48) as u32;
        }
        if what & 128 > 0 {
            let source = |shift: u32| sources[((what >> shift) & 15) as usize % sources.len()];
            reply.sources = Some((source(50), source(54)));
        }
        reply
    }
}

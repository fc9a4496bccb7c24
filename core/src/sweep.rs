//! Sweeps: every node measures every other, in rounds of disjoint pairs (design D9).
//!
//! [`rounds`] makes the rounds. [`SweepRun`] carries them out, without clock or network: time comes in as an argument, orders
//! for agents come out. A pair measures a to b, then b to a, on all rails that the two have in common at once
//! (their ports are disjoint). Meanwhile neither takes part in another pair, so nobody is disturbed on a port that is being measured.
//!
//! Rounds are an order, not a barrier: a pair starts as soon as both its nodes are through with their earlier rounds. When all
//! pairs take equally long that is round by round; where one takes longer, only those who wait for one of its nodes
//! are later, and by no more than it was.
//!
//! # Those who do not answer
//!
//! - **Gone** (its stream ended): what was being measured from it or towards it failed, at once, so its partner is free. Measurements with
//!   it are skipped when their turn comes, which takes no time. When it comes back, what is left of its turns is measured.
//! - **Stuck** (no answer within the measurement's limit): the order is withdrawn, the measurement failed, and the node is *held out* for the
//!   rest of the sweep: it is given no more orders, or each of them would cost the whole limit again. It stays a target, as its responder
//!   may well live, and what the others see of it is the evidence. A late answer does not readmit it: one that is
//!   always a little late would cost everybody the limit in every round. Only the first order that it leaves without an answer thus costs more
//!   than its share. With T for the time of a healthy measurement and A >= T for that of one towards the stuck node, one
//!   such node makes a sweep longer by at most (limit - T) + (A - T) + (rounds - 1) x max(0, A - 2 T): with a living responder
//!   by limit - T.
//! - **Refused** (an answer that says why nothing was measured): failed, and nobody is held out, for an agent that says why is alive.

mod outcome;
mod rounds;
mod run;
mod settings;
#[cfg(test)]
mod tests;

pub use outcome::{Answer, Failure, Measurement, NotMeasured, Outcome};
pub use rounds::rounds;
pub use run::{Action, Order, SweepRun};
pub use settings::{Announcement, SweepSettings};

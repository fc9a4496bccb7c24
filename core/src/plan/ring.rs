//! How far along a ring targets stand.

use super::{PlanSettings, as_index};

/// Distances along a ring of so many ports. Distance 0 is the port itself; 1 to `lasting` always are targets; of the
/// others, `turning` stand in a frame that moves on by its own length with each rotation and goes round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offsets {
    lasting: usize,
    turning: usize,
    /// All distances that are not lasting, so those among which the turning ones move.
    rest: usize,
}

impl Offsets {
    pub(super) fn new(ports: usize, settings: &PlanSettings) -> Self {
        let others = ports.saturating_sub(1);
        let targets = as_index(settings.targets_per_port.get().into());
        if ports <= as_index(settings.full_mesh_up_to.into()) || others <= targets {
            return Self { lasting: others, turning: 0, rest: 0 };
        }
        let lasting = targets / 2;
        Self { lasting, turning: targets - lasting, rest: others - lasting }
    }

    /// How many there are in each rotation.
    pub(super) fn targets(self) -> usize {
        self.lasting + self.turning
    }

    pub(super) fn lasting(self) -> usize {
        self.lasting
    }

    /// How many rotations in a row show every distance; `None` where each one does. Frames of `turning` that touch each other
    /// and begin anywhere cover `rest` places when their lengths add up to it.
    pub(super) fn rotations(self) -> Option<usize> {
        (self.turning > 0).then(|| self.rest.div_ceil(self.turning))
    }

    pub(super) fn of_rotation(self, rotation: u64) -> impl Iterator<Item = usize> {
        let rest = self.rest.max(1) as u128;
        let start = u128::from(rotation) * self.turning as u128 % rest;
        let turning = (start..start + self.turning as u128)
            .map(move |place| 1 + self.lasting + usize::try_from(place % rest).unwrap_or(0));
        (1..=self.lasting).chain(turning)
    }
}

/// Pairs of places of two rings, each place in one pair at most and `same_node` in none, another set with each rotation.
///
/// The shorter ring is thought to be filled up to the length of the longer one; who is paired with such a place has no
/// partner in this rotation. Over as many rotations as the longer ring has places, every pair has its turn.
pub(super) fn across(
    from: usize,
    to: usize,
    rotation: u64,
    same_node: impl Fn(usize, usize) -> bool,
) -> Vec<(usize, usize)> {
    let length = from.max(to);
    let pairs = |offset: usize| {
        let pair = move |place: usize| (place, (place + offset) % length);
        let fits = |&(src, dst): &(usize, usize)| dst < to && !same_node(src, dst);
        (0..from).map(pair).filter(fits).collect::<Vec<_>>()
    };
    // Rails with the same nodes stand in the same order, so without a distance every port would meet its own node: a
    // rotation in which nothing is probed.
    let least = usize::from(pairs(0).is_empty());
    let offsets = (length - least).max(1) as u64;
    pairs((least + as_index(rotation % offsets)) % length)
}

//! The circle method: all pairs of n in as few rounds of disjoint pairs as there can be.

/// The rounds for `n` participants, each a list of disjoint pairs, the smaller index first. Every pair is in exactly one round.
///
/// With n even there are n - 1 rounds of n / 2 pairs; with n odd n rounds, in each of which another one is idle. That is
/// the method by which chess clubs draw up tournaments: one stays in place, the others stand on a circle that turns by
/// one place each round, and opposites meet. With n odd the one who stays is nobody.
pub fn rounds(n: usize) -> Vec<Vec<(usize, usize)>> {
    if n < 2 {
        return Vec::new();
    }
    // Those on the circle, an odd number.
    let circle = n - 1 + n % 2;
    let round = |turn: usize| {
        let centre = (n.is_multiple_of(2)).then_some((turn, circle));
        let opposites = (1..=circle / 2).map(move |distance| {
            let (a, b) = ((turn + distance) % circle, (turn + circle - distance) % circle);
            (a.min(b), a.max(b))
        });
        centre.into_iter().chain(opposites).collect()
    };
    (0..circle).map(round).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_pair_once_and_nobody_twice_in_a_round() {
        for n in (0..40).chain([101, 256]) {
            let rounds = rounds(n);
            let expected = if n < 2 { 0 } else { n - 1 + n % 2 };
            assert_eq!(rounds.len(), expected, "n = {n}");
            let mut pairs = BTreeSet::new();
            for round in &rounds {
                assert_eq!(round.len(), n / 2);
                let busy: BTreeSet<_> = round.iter().flat_map(|&(a, b)| [a, b]).collect();
                assert_eq!(busy.len(), 2 * (n / 2));
                assert!(round.iter().all(|&(a, b)| a < b && b < n));
                pairs.extend(round.iter().copied());
            }
            assert_eq!(pairs.len(), n * n.saturating_sub(1) / 2);
        }
    }

    #[test]
    fn with_an_odd_number_each_is_idle_once() {
        for n in [3, 17, 101] {
            let rounds = rounds(n);
            let idle = rounds.iter().map(|round| {
                let busy: BTreeSet<_> = round.iter().flat_map(|&(a, b)| [a, b]).collect();
                (0..n).find(|one| !busy.contains(one)).unwrap()
            });
            assert_eq!(idle.collect::<BTreeSet<_>>().len(), n);
        }
    }
}

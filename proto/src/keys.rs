//! Keys of probes on the wire: nowhere are their octets printed.

use std::fmt;
use std::time::Duration;

use railgauge_core::probe_keys::{GivenKey, Secret};

use crate::v1;

impl fmt::Debug for v1::ProbeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeKey").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl v1::ProbeKey {
    /// The key of an epoch.
    pub fn of(epoch: u64, secret: &Secret) -> Self {
        Self { epoch, octets: secret.octets().to_vec() }
    }

    /// Epoch and key; `None` when it is none.
    pub fn read(&self) -> Option<(u64, Secret)> {
        let secret = Secret::from_slice(&self.octets)?;
        (self.epoch > 0).then_some((self.epoch, secret))
    }
}

impl v1::ProbeKeys {
    /// Those that are keys; of others, the number.
    pub fn read(&self) -> (Vec<GivenKey>, usize) {
        let read = |given: &v1::AcceptedProbeKey| {
            let (epoch, secret) = given.key.as_ref()?.read()?;
            Some(GivenKey { epoch, secret, valid: Duration::from_nanos(given.valid_ns) })
        };
        let keys: Vec<GivenKey> = self.keys.iter().filter_map(read).collect();
        let others = self.keys.len() - keys.len();
        (keys, others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_not_printed_and_one_of_the_wrong_size_is_none() {
        let secret = Secret::new([0xab; 32]);
        let key = v1::ProbeKey::of(7, &secret);
        assert_eq!(key.read(), Some((7, secret.clone())));
        let plan = v1::Plan {
            targets: vec![v1::Target { probe_key: Some(key.clone()), ..Default::default() }],
            ..Default::default()
        };
        let text = format!("{plan:?}{secret:?}{:?}", secret.key());
        assert!(text.contains("ProbeKey { epoch: 7, .. }"), "{text}");
        assert!(
            !text.contains("171") && !text.contains("ab, ab") && !text.contains("abab"),
            "{text}"
        );
        assert_eq!(v1::ProbeKey { epoch: 0, ..key.clone() }.read(), None);
        assert_eq!(v1::ProbeKey { octets: vec![1; 31], ..key }.read(), None);
    }
}

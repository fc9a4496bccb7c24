//! The kernel's CPU list format, `0-3,8,10-11` (Documentation/admin-guide/cputopology.rst).

/// Linux allows at most 8,192 CPUs (CONFIG_NR_CPUS); room above that, and a bound on memory.
const CPU_MAX: u32 = 65_535;

/// The CPUs of a list in rising order, without repeats; `None` where it is not such a list.
pub fn parse(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last > CPU_MAX {
            return None;
        }
        cpus.extend(first..=last);
        if cpus.len() > CPU_MAX as usize + 1 {
            return None;
        }
    }
    cpus.sort_unstable();
    cpus.dedup();
    Some(cpus)
}

/// The list in the kernel's own shortest form.
pub fn format(cpus: &[u32]) -> String {
    let runs = cpus.chunk_by(|a, b| a.checked_add(1) == Some(*b));
    let parts: Vec<String> = runs
        .filter_map(|run| match (run.first()?, run.last()?) {
            (first, last) if first == last => Some(first.to_string()),
            (first, last) => Some(format!("{first}-{last}")),
        })
        .collect();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::{format, parse};
    use proptest::prelude::*;

    #[test]
    fn lists_are_ranges_and_single_numbers() {
        assert_eq!(parse("0-2,8"), Some(vec![0, 1, 2, 8]));
        assert_eq!(parse(""), Some(vec![]));
        for bad in ["a", "3-1", "0-4294967295", "1-", "-1", "0-65536"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(set in proptest::collection::btree_set(0u32..9000, 0..200)) {
            let cpus: Vec<u32> = set.into_iter().collect();
            prop_assert_eq!(parse(&format(&cpus)), Some(cpus));
        }

        #[test]
        fn any_text_is_a_list_or_refused(text in "\\PC*") {
            if let Some(cpus) = parse(&text) {
                prop_assert!(cpus.is_sorted());
            }
        }
    }
}

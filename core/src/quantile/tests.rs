use super::*;

#[test]
fn names_are_those_of_the_field() {
    let names: Vec<String> = Quantile::ALL.iter().map(Quantile::to_string).collect();
    assert_eq!(names, ["p50", "p90", "p99", "p99.9", "p99.99"]);
}

#[test]
fn ranks_are_exact() {
    assert_eq!(Quantile::P99.rank(100), 99);
    assert_eq!(Quantile::P99.rank(101), 100);
    assert_eq!(Quantile::P50.rank(1), 1);
    assert_eq!(Quantile::P50.rank(0), 0);
    // 0.999 x 1000 is 999.0000000000001 in binary floating point.
    assert_eq!(Quantile::P99_9.rank(1_000), 999);
    assert_eq!(Quantile::P99_99.rank(u64::MAX), 18_444_899_399_302_180_660);
}

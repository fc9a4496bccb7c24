//! The table and the JSON of `railgauge inventory`, from the trees in `fabric/testdata`.
//! `UPDATE_GOLDEN=1 cargo test -p railgauge-cli --test inventory` rewrites the tables.

#[path = "../../fabric/testdata/tree.rs"]
mod tree;

use railgauge_agent::inventory::{Inventory, Roots, collect};
use railgauge_cli::inventory::write_table;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
use tree::RecordedTree;

const KINDS: [&str; 5] = ["small-vm", "hgx-h100", "gb200", "ec2-vm", "broken"];

fn roots(tree: &RecordedTree) -> Roots {
    Roots { sysfs: tree.directory.join("sys"), procfs: tree.directory.join("proc") }
}

/// The inventory of each tree, read once: unpacking the large ones takes longer than all the tests.
fn inventory_of(kind: &str) -> Inventory {
    static ALL: LazyLock<BTreeMap<&str, Inventory>> = LazyLock::new(|| {
        KINDS.map(|kind| (kind, collect(&roots(&RecordedTree::unpack(kind))))).into_iter().collect()
    });
    ALL[kind].clone()
}

fn table_of(kind: &str) -> String {
    let mut bytes = Vec::new();
    write_table(&inventory_of(kind), &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn schema() -> jsonschema::Validator {
    let text = fs::read_to_string(repository().join("docs/schema/inventory-v1.json")).unwrap();
    jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap()
}

#[test]
fn every_table_reads_as_its_golden() {
    for kind in KINDS {
        let text = table_of(kind);
        let golden = repository().join("fabric/testdata").join(format!("{kind}.golden.txt"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &text).unwrap();
        }
        let wanted = fs::read_to_string(&golden).unwrap();
        assert!(
            text == wanted,
            "{kind}: differs from {golden:?}; UPDATE_GOLDEN=1 and read the difference"
        );
    }
}

#[test]
fn tables_are_plain_ascii_whatever_the_hardware_says() {
    for kind in KINDS {
        let text = table_of(kind);
        assert!(text.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)), "{text}");
        assert!(text.lines().all(|line| !line.ends_with(' ')), "{text}");
    }
}

#[test]
fn every_inventory_fits_the_schema() {
    let schema = schema();
    for kind in KINDS {
        let json = serde_json::to_value(inventory_of(kind)).unwrap();
        let errors: Vec<String> =
            schema.iter_errors(&json).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{kind}: {errors:#?}");
    }
    assert!(schema.is_valid(&serde_json::to_value(collect(&Roots::default())).unwrap()));
}

#[test]
fn the_schema_refuses_a_zero_for_unknown_and_a_null_without_reason() {
    let schema = schema();
    let good = serde_json::to_value(inventory_of("ec2-vm")).unwrap();
    assert!(schema.is_valid(&good));
    let mut bare = good.clone();
    bare["clock"].as_object_mut().unwrap().remove("ntp_synchronised_reason");
    assert!(!schema.is_valid(&bare), "a null without its reason passed");
    let mut zero = good.clone();
    zero["nics"][0]["speed_mbps"] = 0.into();
    assert!(!schema.is_valid(&zero), "speed 0 passed");
    let mut unknown = good;
    unknown["nics"][0]["colour"] = "red".into();
    assert!(!schema.is_valid(&unknown), "an undeclared field passed");
}

#[test]
fn a_closed_pipe_is_an_error_for_the_caller_not_a_panic() {
    struct Closed;
    impl std::io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let error = write_table(&inventory_of("small-vm"), &mut Closed).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
}

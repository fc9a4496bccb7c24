//! What this machine says of RDMA, whatever it has: the sentence has to be the true one.

use std::path::Path;
use std::process::Command;

use railgauge_fabric::verbs::{Context, OpenError, Unavailable, devices};

/// Whether the dynamic linker knows libibverbs, by its own list.
fn has_library() -> bool {
    let output = Command::new("/sbin/ldconfig").arg("-p").output().expect("glibc has ldconfig");
    String::from_utf8_lossy(&output.stdout).contains("libibverbs.so.1 ")
}

fn entries(directory: &str) -> usize {
    std::fs::read_dir(Path::new("/sys/class").join(directory)).map_or(0, Iterator::count)
}

#[test]
fn what_this_machine_lacks_is_what_it_says() {
    let said = devices();
    match (has_library(), Path::new("/sys/class/infiniband_verbs").exists(), entries("infiniband"))
    {
        (false, ..) => assert!(matches!(said, Err(Unavailable::LibraryMissing { .. })), "{said:?}"),
        (true, false, _) => assert!(matches!(said, Err(Unavailable::NoKernelSupport)), "{said:?}"),
        (true, true, 0) => assert!(matches!(said, Err(Unavailable::NoDevice)), "{said:?}"),
        (true, true, count) => match said {
            Ok(devices) => assert!((1..=count).contains(&devices.len()), "{devices:?}"),
            Err(Unavailable::ProviderMissing { devices } | Unavailable::NoNode { devices }) => {
                assert!(devices.len() <= count, "{devices:?}");
            }
            Err(other) => panic!("{count} devices in sysfs, and: {other}"),
        },
    }
}

#[test]
fn opening_a_device_that_is_not_there_says_what_listing_says() {
    let error = Context::open("no-such-device").unwrap_err();
    match devices() {
        Err(why) => assert_eq!(error.to_string(), why.to_string()),
        Ok(devices) => {
            assert!(matches!(&error, OpenError::NotFound { .. }), "{error}");
            assert!(error.to_string().contains(&devices[0].name), "{error}");
        }
    }
}

//! Directories that cannot be used, and those that can.

use super::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

fn refused(path: &Path) -> String {
    Spool::open(path, SMALL).unwrap_err().to_string()
}

#[test]
fn a_directory_is_made_closed_and_keeps_its_identity() {
    let home = TempDir::new().unwrap();
    let state = home.path().join("state");
    let (spool, opening) = Spool::open(&state, SMALL).unwrap();
    let identity = spool.identity();
    assert!(opening.identity_made && identity != [0; 16]);
    drop(spool);
    let mode = |path: &str| fs::metadata(state.join(path)).unwrap().mode() & 0o777;
    assert_eq!(
        [mode(""), mode("spool"), mode("lock"), mode("identity")],
        [0o700, 0o700, 0o600, 0o600]
    );
    let (mut spool, opening) = Spool::open(&state, SMALL).unwrap();
    assert!(!opening.identity_made && spool.identity() == identity);
    spool.append(key(0, 1), b"x").unwrap();
    assert_eq!(mode("spool/segment-0000000000000001.log"), 0o600);
    drop(spool);
    fs::write(state.join("identity"), "cut of").unwrap();
    let (spool, opening) = Spool::open(&state, SMALL).unwrap();
    assert!(opening.identity_made && spool.identity() != identity);
}

#[test]
fn two_agents_never_share_a_directory() {
    let home = TempDir::new().unwrap();
    let spool = open(home.path());
    let said = refused(home.path());
    let holder = format!("is in use by process {}: stop that agent", std::process::id());
    assert!(said.contains(&holder), "{said}");
    drop(spool);
    open(home.path());
}

#[test]
fn each_unusable_place_has_its_sentence() {
    let home = TempDir::new().unwrap();
    let said = refused(&home.path().join("no/such"));
    assert!(said.contains("there is no") && said.contains("make it"), "{said}");

    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below")] {
        let said = refused(&path);
        assert!(said.contains("is not a directory: name another"), "{said}");
    }

    // A directory of the kernel's, in which nobody makes files.
    let said = refused(Path::new("/proc/self"));
    assert!(said.contains("cannot") && said.contains("/proc/self"), "{said}");

    symlink("/nowhere/at/all", home.path().join("loose")).unwrap();
    let said = refused(&home.path().join("loose"));
    assert!(said.contains("loose"), "{said}");
}

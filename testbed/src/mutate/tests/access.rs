//! The same for what comes with a request, a certificate or a key.

use super::outside::run;
use crate::mutate::{Mutator, exercise_accept, exercise_identity, exercise_probe_keys, seeds};

#[test]
fn mutated_accept_headers_get_text_or_protobuf() {
    run(&seeds::accepts(), 20_000, Mutator::mutate, exercise_accept, &["text", "protobuf"]);
}

#[test]
fn mutated_identities_and_certificates_are_read_or_refused() {
    run(
        &seeds::identities(),
        20_000,
        Mutator::mutate,
        exercise_identity,
        &[
            "identity",
            "no identity",
            "certificate of ours",
            "certificate of others",
            "no certificate",
            "file of certificates",
            "no file of certificates",
        ],
    );
}

#[test]
fn mutated_probe_keys_are_held_or_refused() {
    run(
        &seeds::probe_keys(),
        10_000,
        Mutator::mutate,
        exercise_probe_keys,
        &[
            "no message",
            "keys held",
            "no keys held",
            "keys expired",
            "secrets",
            "holders",
            "accepted keys",
        ],
    );
}

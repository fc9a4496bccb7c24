//! The same for messages, documents, texts and rows.

use super::{SEED, all_happened};
use crate::mutate::{
    Mutator, Outcomes, exercise_agent_message, exercise_coordinator_message, exercise_document,
    exercise_row, exercise_text, seeds,
};

type Change = fn(&mut Mutator, &[u8]) -> Vec<u8>;

/// Every seed as it is, and then so many changes to any of them: some by structure, some octet by octet.
pub(super) fn run(
    seeds: &[Vec<u8>],
    changes: usize,
    change: Change,
    exercise: fn(&[u8], &mut Outcomes),
    names: &[&str],
) {
    let (mut mutator, mut outcomes) = (Mutator::new(SEED), Outcomes::new());
    seeds.iter().for_each(|seed| exercise(seed, &mut outcomes));
    for _ in 0..changes {
        let seed = &seeds[mutator.below(seeds.len())];
        let octets =
            if mutator.below(4) == 0 { mutator.mutate(seed) } else { change(&mut mutator, seed) };
        exercise(&octets, &mut outcomes);
    }
    all_happened(&outcomes, names);
}

#[test]
fn mutated_messages_of_agents_are_taken_or_refused() {
    run(
        &seeds::agent_messages(),
        // Judging a batch's quantiles takes milliseconds, unoptimised.
        150,
        Mutator::mutate_message,
        exercise_agent_message,
        &[
            "no message",
            "hello taken",
            "hello refused",
            "batch taken",
            "batch refused",
            "result taken",
            "heartbeat",
        ],
    );
}

#[test]
fn mutated_messages_of_coordinators_are_taken_or_refused() {
    run(
        &seeds::coordinator_messages(),
        30_000,
        Mutator::mutate_message,
        exercise_coordinator_message,
        &[
            "no message",
            "welcome",
            "welcome refused",
            "plan taken",
            "plan in part",
            "plan left out",
            "order taken",
            "order refused",
        ],
    );
}

#[test]
fn mutated_documents_make_pages_or_are_refused() {
    run(
        &seeds::documents(),
        1_000,
        Mutator::mutate_json,
        exercise_document,
        &["sweep", "paths", "findings", "other schema", "no document"],
    );
}

#[test]
fn mutated_texts_are_read_or_refused() {
    run(
        &seeds::texts(),
        10_000,
        Mutator::mutate,
        exercise_text,
        &["selector", "no selector", "agent's settings", "coordinator's settings"],
    );
}

#[test]
fn mutated_rows_are_read_or_damaged() {
    run(
        &seeds::rows(),
        10_000,
        |mutator, row| {
            // Key and content are changed apart, so that a changed key does not shift the content.
            let (length, rest) = row.split_first().expect("seeds have keys");
            let (key, content) = rest.split_at(usize::from(*length).min(rest.len()));
            let key = if mutator.below(2) == 0 { mutator.mutate(key) } else { key.to_vec() };
            let length = u8::try_from(key.len()).unwrap_or(u8::MAX);
            [&[length], &*key, &mutator.mutate_message(content)].concat()
        },
        exercise_row,
        &["wrong checksum", "number", "unit", "counts", "batch", "series", "window"],
    );
}

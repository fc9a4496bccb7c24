//! What must hold when a peer of the endpoint exchange says anything.

use std::time::Duration;

use railgauge_core::rdma::endpoint::{
    Conversation, DecodeError, Event, HEADER, MOST_BODY, Message, Reader, encode,
};
use railgauge_core::time::Monotonic;

use super::{Outcomes, count};

const PATIENCE: Duration = Duration::from_secs(5);

/// Reads `stream` as messages, once whole and once in parts of `cut` octets (at least 1), says them to a responder a second
/// apart, and counts what became of it. Both ways must give the same messages and the same end; each message has one form; and
/// a responder that is not at work always has a deadline.
///
/// # Panics
/// When something does not hold that must.
pub fn exercise_endpoints(stream: &[u8], cut: usize, outcomes: &mut Outcomes) {
    let (messages, end) = read(stream, stream.len().max(1));
    assert_eq!(read(stream, cut.max(1)).0, messages);
    let mut rest = stream;
    for message in &messages {
        let octets = encode(message);
        assert!(octets.len() <= HEADER + MOST_BODY);
        // A refusal is read whatever its version, and its sentence made fit to print.
        if matches!(message, Message::Refuse(_)) {
            break;
        }
        assert_eq!(&rest[..octets.len()], octets, "{message:?} has two forms");
        rest = &rest[octets.len()..];
    }
    match end {
        Ok(()) => count(outcomes, "ends well"),
        Err(error) => {
            let refusal = error.refusal();
            assert!(refusal.is_none_or(|one| !one.sentence.contains(char::is_control)));
            count(outcomes, error.as_str());
        }
    }
    converse(messages, outcomes);
}

fn converse(messages: Vec<Message>, outcomes: &mut Outcomes) {
    let mut now = Monotonic::from_nanos(0);
    let mut responder = Conversation::listen(now, PATIENCE);
    for message in messages {
        now = now.saturating_add(Duration::from_secs(1));
        match responder.hear(message, now) {
            Ok(Event::Offered(_)) => {
                count(outcomes, "offered");
                return;
            }
            Ok(Event::Closed) => return count(outcomes, "closed"),
            Ok(_) => assert!(responder.wake().is_some()),
            Err(_) => {
                assert!(responder.is_over());
                return count(outcomes, "unexpected");
            }
        }
    }
    assert!(responder.wake().is_some(), "nobody would ever end it");
}

fn read(stream: &[u8], cut: usize) -> (Vec<Message>, Result<(), DecodeError>) {
    let (mut reader, mut messages) = (Reader::default(), Vec::new());
    for part in stream.chunks(cut) {
        reader.push(part);
        loop {
            match reader.next_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Err(error)),
            }
        }
    }
    (messages, Ok(()))
}

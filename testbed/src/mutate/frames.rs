//! What must hold when a TCP stream carries anything.

use railgauge_core::frame::{FrameReader, FrameTooLong, MAX_FRAME};

use super::{Outcomes, count};

/// Reads `stream` as frames, once whole and once in parts of `cut` octets (at least 1), and counts what became
/// of it. Both ways must give the same packets and the same end.
///
/// # Panics
/// When something does not hold that must.
pub fn exercise_frames(stream: &[u8], cut: usize, outcomes: &mut Outcomes) {
    let (packets, end) = read(stream, stream.len().max(1));
    assert_eq!(read(stream, cut.max(1)), (packets.clone(), end));
    let taken: usize = packets.iter().map(|packet| 4 + packet.len()).sum();
    assert!(taken <= stream.len() && packets.iter().all(|packet| packet.len() <= MAX_FRAME));
    for _ in &packets {
        count(outcomes, "packet");
    }
    let end = match end {
        Err(FrameTooLong(length)) => {
            assert_eq!(stream[taken..taken + 4], length.to_be_bytes());
            "too long"
        }
        Ok(()) if taken == stream.len() => "ends with a packet",
        Ok(()) => "ends inside a frame",
    };
    count(outcomes, end);
}

fn read(stream: &[u8], cut: usize) -> (Vec<Vec<u8>>, Result<(), FrameTooLong>) {
    let (mut reader, mut packets) = (FrameReader::default(), Vec::new());
    for part in stream.chunks(cut) {
        reader.push(part);
        loop {
            match reader.next_packet() {
                Ok(Some(packet)) => packets.push(packet.to_vec()),
                Ok(None) => break,
                Err(error) => return (packets, Err(error)),
            }
        }
    }
    (packets, Ok(()))
}

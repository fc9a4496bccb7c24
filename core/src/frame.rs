//! Frames of the `tcp` transport: a length as `u32`, network byte order, then that many octets of STAMP packet.

/// The longest packet a frame may hold: what UDP could carry, so that the transports can be compared at every size.
pub const MAX_FRAME: usize = crate::stamp::MAX_UDP_PAYLOAD;

const LENGTH: usize = size_of::<u32>();

/// The peer speaks something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a frame of {0} octets was announced, the longest has {MAX_FRAME}: the peer does not speak this protocol"
)]
pub struct FrameTooLong(pub u32);

/// Cuts a byte stream into packets. Holds at most one frame and one read of the stream.
#[derive(Debug, Default)]
pub struct FrameReader {
    bytes: Vec<u8>,
    taken: usize,
}

impl FrameReader {
    /// Appends what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole packet, if there is one.
    ///
    /// # Errors
    /// When the announced length is beyond [`MAX_FRAME`]; the stream is then of no further use.
    pub fn next_packet(&mut self) -> Result<Option<&[u8]>, FrameTooLong> {
        let rest = &self.bytes[self.taken..];
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH>() else { return Ok(None) };
        let announced = u32::from_be_bytes(*length);
        let length = usize::try_from(announced).ok().filter(|&length| length <= MAX_FRAME);
        let length = length.ok_or(FrameTooLong(announced))?;
        if rest.len() < length {
            return Ok(None);
        }
        let start = self.taken + LENGTH;
        self.taken = start + length;
        Ok(Some(&self.bytes[start..start + length]))
    }
}

/// Appends `packet` as a frame to `out`.
///
/// # Panics
/// When `packet` is longer than [`MAX_FRAME`], which no STAMP packet of ours is.
pub fn write(packet: &[u8], out: &mut Vec<u8>) {
    assert!(packet.len() <= MAX_FRAME, "packet of {} octets", packet.len());
    let length = u32::try_from(packet.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(packet);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_cut_of_the_stream_gives_the_same_packets(
            packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..10),
            cut in 1_usize..50,
        ) {
            let mut stream = Vec::new();
            packets.iter().for_each(|packet| write(packet, &mut stream));
            let mut reader = FrameReader::default();
            let mut read = Vec::new();
            for part in stream.chunks(cut) {
                reader.push(part);
                while let Some(packet) = reader.next_packet().unwrap() {
                    read.push(packet.to_vec());
                }
            }
            prop_assert_eq!(read, packets);
        }
    }

    #[test]
    fn an_absurd_length_is_refused_before_anything_is_kept_for_it() {
        let mut reader = FrameReader::default();
        reader.push(b"GET / HTTP/1.1");
        assert_eq!(reader.next_packet(), Err(FrameTooLong(u32::from_be_bytes(*b"GET "))));
    }
}

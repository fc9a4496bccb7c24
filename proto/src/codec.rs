//! prost's codec, but for messages that take far more memory than octets: two octets make a window of some hundred, so a message of
//! the size that is read could take what a coordinator may have. Its repeated parts are counted before it is decoded.

use std::any::TypeId;
use std::marker::PhantomData;

use prost::Message;
use prost::bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint};
use tonic::Status;
use tonic::codec::{self, DecodeBuf};
use tonic_prost::{ProstDecoder, ProstEncoder};

use crate::{MOST_WINDOWS, v1};

/// What may be repeated in a message of an agent, and how often in all of it.
#[derive(Clone, Copy, Debug)]
enum Repeated {
    Paths,
    Windows,
    Splits,
    /// What a hello has a dozen of, and notes of a result.
    Few,
}

impl Repeated {
    /// Above what is taken, so that of what is wrong there is a sentence; a window has a split for each place of its stamps.
    const fn most(self) -> usize {
        match self {
            Self::Paths | Self::Windows => 2 * MOST_WINDOWS,
            Self::Splits => 16 * MOST_WINDOWS,
            Self::Few => 4_096,
        }
    }

    const fn what(self) -> &'static str {
        match self {
            Self::Paths => "paths",
            Self::Windows => "windows",
            Self::Splits => "splits",
            Self::Few => "endpoints, labels or notes",
        }
    }
}

/// A field with a message in it.
struct Field(u32, Option<Repeated>, &'static [Self]);

const BATCH: &[Field] = &[
    Field(7, Some(Repeated::Paths), &[]),
    Field(8, Some(Repeated::Windows), &[Field(4, Some(Repeated::Splits), &[])]),
];
const HELLO: &[Field] = &[Field(7, Some(Repeated::Few), &[]), Field(8, Some(Repeated::Few), &[])];
const RESULT: &[Field] = &[Field(3, None, BATCH), Field(5, Some(Repeated::Few), &[])];
const AGENT_MESSAGE: &[Field] =
    &[Field(1, None, HELLO), Field(2, None, BATCH), Field(3, None, RESULT)];

/// There is too much of something in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message has more than {most} {what}")]
pub struct TooMany {
    what: &'static str,
    most: usize,
}

/// Whether a message of an agent has no more of anything than one may have. What does not decode, prost refuses.
///
/// # Errors
/// What there is too much of.
pub fn check_agent_message(octets: &[u8]) -> Result<(), TooMany> {
    count(octets, AGENT_MESSAGE, &mut [0; 4])
}

fn count(mut octets: &[u8], fields: &[Field], counts: &mut [usize; 4]) -> Result<(), TooMany> {
    while octets.has_remaining() {
        let Ok((number, kind)) = decode_key(&mut octets) else { return Ok(()) };
        let length = match kind {
            WireType::Varint if decode_varint(&mut octets).is_ok() => 0,
            // What is in a group is skipped as if it stood beside it.
            WireType::StartGroup | WireType::EndGroup => 0,
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => match decode_varint(&mut octets).map(usize::try_from) {
                Ok(Ok(length)) => length,
                _ => return Ok(()),
            },
            WireType::Varint => return Ok(()),
        };
        let Some((content, rest)) = octets.split_at_checked(length) else { return Ok(()) };
        octets = rest;
        let field = fields.iter().find(|field| field.0 == number);
        let Some(Field(_, repeated, inside)) = field.filter(|_| kind == WireType::LengthDelimited)
        else {
            continue;
        };
        if let Some(repeated) = repeated {
            let counted = &mut counts[*repeated as usize];
            *counted += 1;
            let most = repeated.most();
            if *counted > most {
                return Err(TooMany { what: repeated.what(), most });
            }
        }
        count(content, inside, counts)?;
    }
    Ok(())
}

/// The codec of all our services.
#[derive(Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = Decoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        Decoder(ProstDecoder::default())
    }
}

/// Counts, then decodes.
#[derive(Debug)]
pub struct Decoder<U>(ProstDecoder<U>);

impl<U: Message + Default + 'static> codec::Decoder for Decoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, octets: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // The others come from whom we trust, or hold nothing that is larger than its octets by much.
        if TypeId::of::<U>() == TypeId::of::<v1::AgentMessage>() {
            // A message is in one piece.
            check_agent_message(octets.chunk())
                .map_err(|error| Status::invalid_argument(error.to_string()))?;
        }
        self.0.decode(octets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(field: u8, content: &[u8]) -> Vec<u8> {
        let mut octets = vec![field << 3 | 2];
        prost::encoding::encode_varint(content.len() as u64, &mut octets);
        octets.extend_from_slice(content);
        octets
    }

    #[test]
    fn what_would_swell_is_refused_wherever_it_is() {
        let many = |field: u8, count: usize| [field << 3 | 2, 0].repeat(count);
        let splits = nested(8, &many(4, 10_000));
        for (octets, what) in [
            (nested(2, &many(8, 4_000_000)), "windows"),
            (nested(2, &many(7, 4_000_000)), "paths"),
            (nested(2, &splits.repeat(2)), "splits"),
            (nested(3, &nested(3, &many(8, 3_000))), "windows"),
            (nested(3, &many(5, 5_000)), "endpoints, labels or notes"),
            (nested(1, &many(7, 5_000)), "endpoints, labels or notes"),
            // Parts of one message are one message.
            (nested(2, &many(8, 2_000)).repeat(2), "windows"),
            // A group that nobody knows hides nothing.
            ([&[0x7b][..], &[0x7c], &nested(2, &many(8, 3_000))].concat(), "windows"),
        ] {
            assert_eq!(check_agent_message(&octets).unwrap_err().what, what);
        }
        let fits = nested(2, &[many(8, 2_000), many(7, 2_000)].concat());
        assert_eq!(check_agent_message(&fits), Ok(()));
        assert!(v1::AgentMessage::decode(&*fits).is_ok());
        for broken in [&[0x12, 0xff][..], &[0x12], &[0xff; 12], &[0x10], &[0x09, 1]] {
            assert_eq!(check_agent_message(broken), Ok(()));
            assert!(v1::AgentMessage::decode(broken).is_err());
        }
    }

    /// The bounds are there because of these.
    #[test]
    fn what_passes_takes_no_more_than_some_octets_for_each_of_the_message() {
        let sizes = [
            (Repeated::Paths, size_of::<v1::Path>()),
            (Repeated::Windows, size_of::<v1::Window>()),
            (Repeated::Splits, size_of::<v1::Split>()),
        ];
        let most: usize = sizes.iter().map(|(what, size)| what.most() * size).sum();
        assert!(most < 16 << 20, "{most} octets, of {sizes:?}");
    }
}

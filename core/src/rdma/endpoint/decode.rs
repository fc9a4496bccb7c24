//! Octets as messages, strictly.

use super::{
    Accept, FLAG_IN_ORDER, FLAG_REGION, GID_KINDS, HEADER, LINK_LAYERS, MAGIC, MOST_BODY,
    MOST_SENTENCE, Message, Offer, RdmaEndpoint, Refusal, RefusalReason, Region, VERSION, Wrong,
    kind, of_code,
};
use crate::path::PortName;
use crate::rdma::flow_label::FlowLabel;
use crate::rdma::gid::Gid;
use crate::rdma::mtu::PathMtu;
use crate::rdma::operation::{Completion, Measure, MemoryRoute, Method, Operation, Service};
use crate::rdma::reliability::Reliability;

/// The stream is of no further use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Something else speaks.
    #[error("the peer does not speak the endpoint exchange: it began with {0:02x?}")]
    Magic([u8; 4]),
    /// Another version of ours.
    #[error(
        "the peer speaks version {0} of the endpoint exchange, this is version {VERSION}; upgrade the older one"
    )]
    Version(u8),
    /// A kind that this version does not have.
    #[error("message of unknown kind {0}")]
    Kind(u8),
    /// A body beyond [`MOST_BODY`].
    #[error("a body of {0} octets was announced, the longest has {MOST_BODY}")]
    TooLong(u16),
    /// The body ends before the field, or after the last one.
    #[error("the body of {message} {what}")]
    Length {
        /// Which message.
        message: &'static str,
        /// Where.
        what: &'static str,
    },
    /// A field has a value that it cannot have.
    #[error("{what} cannot be {value}")]
    Field {
        /// Which.
        what: &'static str,
        /// What it held.
        value: u64,
    },
    /// Fields contradict each other.
    #[error(transparent)]
    Wrong(#[from] Wrong),
}

impl DecodeError {
    /// What a responder answers to it. `None` to a stranger, who would not understand.
    pub fn refusal(&self) -> Option<Refusal> {
        let reason = match self {
            Self::Magic(_) => return None,
            Self::Version(_) => RefusalReason::Version,
            _ => RefusalReason::Malformed,
        };
        Some(Refusal::new(reason, &self.to_string()))
    }

    /// The word in counters.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Magic(_) => "stranger",
            Self::Version(_) => "version",
            Self::Kind(_) => "kind",
            Self::TooLong(_) => "too_long",
            Self::Length { .. } => "length",
            Self::Field { .. } => "field",
            Self::Wrong(_) => "contradiction",
        }
    }
}

/// Cuts a byte stream into messages. Holds at most one message and one read of the stream.
#[derive(Debug, Default)]
pub struct Reader {
    bytes: Vec<u8>,
    taken: usize,
}

impl Reader {
    /// Appends what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message, if there is one.
    ///
    /// # Errors
    /// As soon as the stream cannot be one of messages; it is then of no further use.
    pub fn next_message(&mut self) -> Result<Option<Message>, DecodeError> {
        let rest = &self.bytes[self.taken..];
        let seen = rest.len().min(MAGIC.len());
        if rest[..seen] != MAGIC[..seen] {
            let mut began = [0; MAGIC.len()];
            began[..seen].copy_from_slice(&rest[..seen]);
            return Err(DecodeError::Magic(began));
        }
        let Some((header, rest)) = rest.split_first_chunk::<HEADER>() else { return Ok(None) };
        let [_, _, _, _, version, kind, high, low] = *header;
        let len = u16::from_be_bytes([high, low]);
        if usize::from(len) > MOST_BODY {
            return Err(DecodeError::TooLong(len));
        }
        // A refusal is the same in every version, and the way to learn of it.
        if version != VERSION && kind != kind::REFUSE {
            return Err(DecodeError::Version(version));
        }
        let Some(body) = rest.get(..usize::from(len)) else { return Ok(None) };
        let message = decode_body(kind, body)?;
        self.taken += HEADER + usize::from(len);
        Ok(Some(message))
    }
}

fn decode_body(kind: u8, body: &[u8]) -> Result<Message, DecodeError> {
    let message = match kind {
        kind::OFFER => "offer",
        kind::ACCEPT => "accept",
        kind::REFUSE => "refuse",
        kind::MOVED => "moved",
        kind::SETTLED => "settled",
        kind::KEEP => "keep",
        kind::CLOSE => "close",
        unknown => return Err(DecodeError::Kind(unknown)),
    };
    let mut fields = Fields { message, rest: body };
    let decoded = match kind {
        kind::OFFER => Message::Offer(Box::new(offer(&mut fields)?)),
        kind::ACCEPT => Message::Accept(Box::new(accept(&mut fields)?)),
        kind::REFUSE => Message::Refuse(refusal(&mut fields)?),
        kind::MOVED => Message::Moved(Box::new(endpoint(&mut fields)?)),
        kind::SETTLED => Message::Settled(Box::new(endpoint(&mut fields)?)),
        kind::KEEP => Message::Keep,
        _ => Message::Close,
    };
    if !fields.rest.is_empty() {
        return Err(DecodeError::Length { message, what: "goes on after its last field" });
    }
    match &decoded {
        Message::Offer(offer) => offer.check()?,
        Message::Accept(accept) => accept.check()?,
        Message::Moved(endpoint) | Message::Settled(endpoint) => endpoint.check()?,
        Message::Refuse(_) | Message::Keep | Message::Close => {}
    }
    Ok(decoded)
}

fn offer(fields: &mut Fields<'_>) -> Result<Offer, DecodeError> {
    let method = Method {
        service: fields.choice("service", Service::from_code)?,
        operation: fields.choice("operation", Operation::from_code)?,
        measure: fields.choice("measure", Measure::from_code)?,
        completion: fields.choice("completion", Completion::from_code)?,
    };
    let size = u32::from_be_bytes(fields.take()?);
    let outstanding = u16::from_be_bytes(fields.take()?);
    let codes = fields.take()?;
    let reliability = Reliability::from_codes(codes).map_err(|_| DecodeError::Field {
        what: "a code of the retry settings",
        value: u32::from_be_bytes(codes).into(),
    })?;
    let [traffic_class, service_level] = fields.take()?;
    let label = u32::from_be_bytes(fields.take()?);
    let flow_label = FlowLabel::new(label)
        .ok_or(DecodeError::Field { what: "a flow label", value: label.into() })?;
    Ok(Offer {
        method,
        size,
        outstanding,
        reliability,
        traffic_class,
        service_level,
        flow_label,
        wanted: fields.name()?,
        endpoint: endpoint(fields)?,
    })
}

fn accept(fields: &mut Fields<'_>) -> Result<Accept, DecodeError> {
    Ok(Accept {
        most_per_second: u32::from_be_bytes(fields.take()?),
        silence_ms: u32::from_be_bytes(fields.take()?),
        endpoint: endpoint(fields)?,
    })
}

fn refusal(fields: &mut Fields<'_>) -> Result<Refusal, DecodeError> {
    let [code] = fields.take()?;
    let text = std::mem::take(&mut fields.rest);
    if text.len() > MOST_SENTENCE {
        return Err(DecodeError::Length { message: "refuse", what: "has too long a sentence" });
    }
    // The sentence is shown to people: what cannot be shown is replaced, not a reason to say nothing.
    Ok(Refusal::new(RefusalReason::from_code(code), &String::from_utf8_lossy(text)))
}

fn endpoint(fields: &mut Fields<'_>) -> Result<RdmaEndpoint, DecodeError> {
    let port = fields.name()?;
    let port = port.ok_or(DecodeError::Field { what: "the length of a port's name", value: 0 })?;
    let link_layer = fields.choice("link layer", |code| of_code(&LINK_LAYERS, code))?;
    let gid_kind = fields.choice("kind of gid", |code| of_code(&GID_KINDS, code))?;
    let gid = Gid::from_octets(fields.take()?);
    let lid = u16::from_be_bytes(fields.take()?);
    let mtu = fields.choice("mtu", |code| PathMtu::from_code(code.into()))?;
    let route = fields.choice("route to memory", MemoryRoute::from_code)?;
    let [flags] = fields.take()?;
    if flags & !(FLAG_IN_ORDER | FLAG_REGION) != 0 {
        return Err(DecodeError::Field { what: "flags", value: flags.into() });
    }
    let queue_pair = u32::from_be_bytes(fields.take()?);
    let packet_sequence = u32::from_be_bytes(fields.take()?);
    let queue_key = u32::from_be_bytes(fields.take()?);
    let [reads_out, reads_in] = fields.take()?;
    let region = match flags & FLAG_REGION {
        0 => None,
        _ => Some(Region {
            address: u64::from_be_bytes(fields.take()?),
            len: u64::from_be_bytes(fields.take()?),
            remote_key: u32::from_be_bytes(fields.take()?),
        }),
    };
    let in_order = flags & FLAG_IN_ORDER != 0;
    Ok(RdmaEndpoint {
        port,
        link_layer,
        gid,
        gid_kind,
        lid,
        mtu,
        queue_pair,
        packet_sequence,
        queue_key,
        reads_out,
        reads_in,
        in_order,
        route,
        region,
    })
}

/// What is left of a body.
struct Fields<'a> {
    message: &'static str,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn ends(&self) -> DecodeError {
        DecodeError::Length { message: self.message, what: "ends inside a field" }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.ends())?;
        self.rest = rest;
        Ok(*taken)
    }

    fn choice<T>(
        &mut self,
        what: &'static str,
        of: impl Fn(u8) -> Option<T>,
    ) -> Result<T, DecodeError> {
        let [code] = self.take()?;
        of(code).ok_or(DecodeError::Field { what, value: code.into() })
    }

    fn name(&mut self) -> Result<Option<PortName>, DecodeError> {
        let [len] = self.take()?;
        if len == 0 {
            return Ok(None);
        }
        let (text, rest) =
            self.rest.split_at_checked(usize::from(len)).ok_or_else(|| self.ends())?;
        self.rest = rest;
        let name = std::str::from_utf8(text).ok().and_then(|text| PortName::new(text).ok());
        let bad = DecodeError::Field { what: "the length of a port's name", value: len.into() };
        match name {
            Some(name) => Ok(Some(name)),
            None if len > 64 => Err(bad),
            None => Err(DecodeError::Field {
                what: "the first octet of a malformed port name",
                value: text.first().copied().unwrap_or(0).into(),
            }),
        }
    }
}

//! Messages that are encoded already, so that a load costs less to make than to take.

use prost::Message;
use prost::bytes::{BufMut, Bytes};
use railgauge_proto::v1;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Sends octets as they are, and reads what coordinators send.
#[derive(Clone, Copy, Debug, Default)]
pub struct Octets;

impl Codec for Octets {
    type Encode = Bytes;
    type Decode = v1::CoordinatorMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Octets {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Octets {
    type Item = v1::CoordinatorMessage;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let message = v1::CoordinatorMessage::decode(from);
        message.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

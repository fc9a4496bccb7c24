//! Messages as octets.

use super::{
    Accept, FLAG_IN_ORDER, FLAG_REGION, GID_KINDS, HEADER, LINK_LAYERS, MAGIC, Message, Offer,
    RdmaEndpoint, Refusal, Region, VERSION, code_of, kind,
};
use crate::path::PortName;

/// One message, whole.
pub fn encode(message: &Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + 64);
    out.extend_from_slice(&MAGIC);
    let kind = match message {
        Message::Offer(_) => kind::OFFER,
        Message::Accept(_) => kind::ACCEPT,
        Message::Refuse(_) => kind::REFUSE,
        Message::Moved(_) => kind::MOVED,
        Message::Settled(_) => kind::SETTLED,
        Message::Keep => kind::KEEP,
        Message::Close => kind::CLOSE,
    };
    out.extend_from_slice(&[VERSION, kind, 0, 0]);
    match message {
        Message::Offer(offer) => put_offer(&mut out, offer),
        Message::Accept(accept) => put_accept(&mut out, accept),
        Message::Refuse(refusal) => put_refusal(&mut out, refusal),
        Message::Moved(endpoint) | Message::Settled(endpoint) => put_endpoint(&mut out, endpoint),
        Message::Keep | Message::Close => {}
    }
    // No body comes near 64 KiB: names have 64 octets at most, sentences are cut to 512.
    let len = u16::try_from(out.len() - HEADER).unwrap_or(u16::MAX);
    out[HEADER - 2..HEADER].copy_from_slice(&len.to_be_bytes());
    out
}

fn put_offer(out: &mut Vec<u8>, offer: &Offer) {
    let Offer {
        method,
        size,
        outstanding,
        reliability,
        traffic_class,
        service_level,
        flow_label,
        wanted,
        endpoint,
    } = offer;
    out.extend_from_slice(&[
        method.service.code(),
        method.operation.code(),
        method.measure.code(),
        method.completion.code(),
    ]);
    out.extend_from_slice(&size.to_be_bytes());
    out.extend_from_slice(&outstanding.to_be_bytes());
    out.extend_from_slice(&reliability.codes());
    out.extend_from_slice(&[*traffic_class, *service_level]);
    out.extend_from_slice(&flow_label.get().to_be_bytes());
    put_name(out, wanted.as_ref());
    put_endpoint(out, endpoint);
}

fn put_accept(out: &mut Vec<u8>, accept: &Accept) {
    out.extend_from_slice(&accept.most_per_second.to_be_bytes());
    out.extend_from_slice(&accept.silence_ms.to_be_bytes());
    put_endpoint(out, &accept.endpoint);
}

fn put_refusal(out: &mut Vec<u8>, refusal: &Refusal) {
    out.push(refusal.reason.code());
    // Whoever filled the fields by hand sends what the other side can read, too.
    let fit = Refusal::new(refusal.reason, &refusal.sentence);
    out.extend_from_slice(fit.sentence.as_bytes());
}

fn put_endpoint(out: &mut Vec<u8>, endpoint: &RdmaEndpoint) {
    let RdmaEndpoint {
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
    } = endpoint;
    put_name(out, Some(port));
    out.extend_from_slice(&[code_of(&LINK_LAYERS, *link_layer), code_of(&GID_KINDS, *gid_kind)]);
    out.extend_from_slice(&gid.octets());
    out.extend_from_slice(&lid.to_be_bytes());
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let flags = flag(*in_order, FLAG_IN_ORDER) | flag(region.is_some(), FLAG_REGION);
    out.extend_from_slice(&[mtu.code(), route.code(), flags]);
    for number in [queue_pair, packet_sequence, queue_key] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(&[*reads_out, *reads_in]);
    if let Some(Region { address, len, remote_key }) = region {
        out.extend_from_slice(&address.to_be_bytes());
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(&remote_key.to_be_bytes());
    }
}

/// Length and text; no name has no octets.
fn put_name(out: &mut Vec<u8>, name: Option<&PortName>) {
    let text = name.map_or("", PortName::as_str);
    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(text.as_bytes());
}

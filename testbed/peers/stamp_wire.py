"""STAMP packets for the interoperability peers, written without a look at Railgauge's own codec.

Unauthenticated packets are built and taken apart by scapy.contrib.stamp. scapy knows no authenticated format, so
that one is laid out here from RFC 8762 figures 4 and 6 with the SSID of RFC 8972 figures 3 and 4, by struct and hmac.
"""

import hmac
import struct
import time

from scapy.contrib.stamp import (
    ErrorEstimate,
    STAMPSessionReflectorTestUnauthenticated as OpenReply,
    STAMPSessionSenderTestUnauthenticated as OpenRequest,
    STAMPTestTLV,
)

NTP_OFFSET = 2208988800
BASE = {"open": 44, "auth": 112}
EXTRA_PADDING, FOLLOW_UP, HMAC_TLV = 1, 7, 8
U, M, I = 0x80, 0x40, 0x20

# seq, MBZ 12, timestamp, error estimate, SSID, MBZ 68
AUTH_REQUEST = struct.Struct("!I12x8s2sH68x")
# seq, MBZ 12, timestamp, error estimate, SSID, MBZ 4, receive, MBZ 8, seq, MBZ 12, timestamp, estimate, MBZ 6, TTL, MBZ 15
AUTH_REPLY = struct.Struct("!I12x8s2sH4x8s8xI12x8s2s6xB15x")
TLV = struct.Struct("!BBH")


def digest(key, *parts):
    return hmac.new(key, b"".join(parts), "sha256").digest()[:16]


def stamp(fmt, nanos=None):
    """Eight octets of a time (now, by default)."""
    nanos = time.time_ns() if nanos is None else nanos
    seconds, rest = divmod(nanos, 10**9)
    if fmt == "ptp":
        return struct.pack("!II", seconds & 0xFFFFFFFF, rest)
    return struct.pack("!II", (seconds + NTP_OFFSET) & 0xFFFFFFFF, (rest << 32) // 10**9)


def nanos(field, fmt):
    """Unix nanoseconds of eight octets; NTP era 0 only."""
    seconds, low = struct.unpack("!II", field)
    if fmt == "ptp":
        return seconds * 10**9 + low
    return (seconds - NTP_OFFSET) * 10**9 + round(low * 10**9 / 2**32)


def estimate(fmt):
    return bytes(ErrorEstimate(S=0, Z=int(fmt == "ptp"), scale=0, multiplier=1))


def format_of(error_estimate):
    return "ptp" if ErrorEstimate(error_estimate).Z else "ntp"


def tlv(kind, value, flags=U):
    return TLV.pack(flags, kind, len(value)) + value


def tlvs(area):
    """(flags, type, value) of each complete TLV, by scapy's dissector."""
    found, at = [], 0
    while len(area) - at >= TLV.size:
        (length,) = struct.unpack_from("!H", area, at + 2)
        if at + TLV.size + length > len(area):
            break
        one = STAMPTestTLV(area[at : at + TLV.size + length])
        found.append((int(one.flags), one.type, bytes(one.value)))
        at += TLV.size + length
    return found


def raw64(packet, name):
    """The octets of a 64-bit timestamp field as scapy holds it, without its detour over decimals."""
    return struct.pack("!Q", packet.getfieldval(name))


def set64(packet, name, octets):
    packet.fields[name] = struct.unpack("!Q", octets)[0]


def write_request(mode, key, seq, t1, fmt, ssid, area=b""):
    if mode == "auth":
        base = AUTH_REQUEST.pack(seq, t1, estimate(fmt), ssid)
        return base + digest(key, base) + area
    packet = OpenRequest(seq=seq, err_estimate=ErrorEstimate(estimate(fmt)), ssid=ssid)
    set64(packet, "ts", t1)
    return bytes(packet) + area


def read_request(mode, key, data):
    """The request as a dict, or None when it is none of this mode."""
    if len(data) < BASE[mode]:
        return None
    base, area = data[: BASE[mode]], data[BASE[mode] :]
    if mode == "auth":
        if not hmac.compare_digest(digest(key, base[:96]), base[96:]):
            return None
        seq, t1, err, ssid = AUTH_REQUEST.unpack(base[:96])
    else:
        packet = OpenRequest(base)
        seq, t1, ssid = packet.seq, raw64(packet, "ts"), packet.ssid
        err = bytes(packet.err_estimate)
    return {"seq": seq, "t1": t1, "estimate": err, "ssid": ssid, "area": area}


def write_reply(mode, key, request, seq, t2, t3, fmt, ttl, area):
    if mode == "auth":
        base = AUTH_REPLY.pack(
            seq, t3, estimate(fmt), request["ssid"], t2, request["seq"], request["t1"], request["estimate"], ttl
        )
        return base + digest(key, base) + area
    packet = OpenReply(
        seq=seq,
        err_estimate=ErrorEstimate(estimate(fmt)),
        ssid=request["ssid"],
        seq_sender=request["seq"],
        err_estimate_sender=ErrorEstimate(request["estimate"]),
        ttl_sender=ttl,
    )
    set64(packet, "ts", t3)
    set64(packet, "ts_rx", t2)
    set64(packet, "ts_sender", request["t1"])
    return bytes(packet) + area


def read_reply(mode, key, data):
    if len(data) < BASE[mode]:
        return {"error": "too_short"}
    base, area = data[: BASE[mode]], data[BASE[mode] :]
    if mode == "auth":
        if not hmac.compare_digest(digest(key, base[:96]), base[96:]):
            return {"error": "bad_hmac"}
        seq, t3, err, ssid, t2, sender_seq, t1, sender_err, ttl = AUTH_REPLY.unpack(base[:96])
    else:
        packet = OpenReply(base)
        seq, ssid, sender_seq, ttl = packet.seq, packet.ssid, packet.seq_sender, packet.ttl_sender
        t3, t2, t1 = (raw64(packet, name) for name in ("ts", "ts_rx", "ts_sender"))
        err, sender_err = bytes(packet.err_estimate), bytes(packet.err_estimate_sender)
    return {
        "seq": seq, "t3": t3, "estimate": err, "ssid": ssid, "t2": t2, "sender_seq": sender_seq,
        "t1": t1, "sender_estimate": sender_err, "ttl": ttl, "area": area,
    }

#!/usr/bin/env python3
"""An independent STAMP Session-Sender: sends --count requests one after the other, judges every reply, prints one
line of JSON and exits 0 when all came back and none was wrong, 1 otherwise."""

import argparse
import json
import os
import socket
import struct
import sys
import time

import stamp_wire as wire

UNKNOWN_TYPE = 200


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--mode", choices=["open", "auth"], default="open")
    parser.add_argument("--key-hex", default="", help="the shared key, for --mode auth")
    parser.add_argument("--format", choices=["ntp", "ptp"], default="ntp", help="of our timestamps")
    parser.add_argument("--ssid", type=int, default=4660)
    parser.add_argument("--tlvs", choices=["none", "padding", "all"], default="all")
    parser.add_argument("--timeout", type=float, default=1.0, help="seconds to wait for each reply")
    return parser.parse_args()


def request_tlvs(args, key, seq):
    padding = wire.tlv(wire.EXTRA_PADDING, os.urandom(20))
    if args.tlvs != "all":
        return padding if args.tlvs == "padding" else b""
    area = wire.tlv(wire.FOLLOW_UP, bytes(16)) + wire.tlv(UNKNOWN_TYPE, b"abcd")
    if args.mode == "auth":
        area += wire.tlv(wire.HMAC_TLV, wire.digest(key, struct.pack("!I", seq), area))
    return area + padding


def wrong_tlvs(args, key, reply, sent):
    """What is wrong with the TLVs of a reply whose request carried `sent`."""
    back, wrong = wire.tlvs(reply["area"]), []
    if [kind for _, kind, _ in back] != [kind for _, kind, _ in wire.tlvs(sent)]:
        return ["tlv_types"]
    covered = b""
    for flags, kind, value in back:
        expected = wire.U if kind == UNKNOWN_TYPE else 0
        if flags != expected:
            wrong.append(f"flags_{flags:#04x}_of_type_{kind}")
        if kind == UNKNOWN_TYPE and value != b"abcd":
            wrong.append("unknown_tlv_changed")
        if kind == wire.HMAC_TLV and value != wire.digest(key, struct.pack("!I", reply["seq"]), covered):
            wrong.append("tlv_hmac")
        covered += wire.tlv(kind, value, flags)
    return wrong


def wrong_base(args, reply, seq, t1, now):
    fmt = wire.format_of(reply["estimate"])
    t2, t3, sent = wire.nanos(reply["t2"], fmt), wire.nanos(reply["t3"], fmt), wire.nanos(t1, args.format)
    checks = {
        "sender_seq": reply["sender_seq"] == seq,
        "sender_timestamp": reply["t1"] == t1,
        "sender_estimate": reply["sender_estimate"] == wire.estimate(args.format),
        "ssid": reply["ssid"] == args.ssid,
        # One machine, one clock: the reflector's stamps lie between ours, but for the truncation of NTP's.
        "stamp_order": sent - 1000 <= t2 <= t3 + 1000 and t3 <= now + 1000,
    }
    return [name for name, good in checks.items() if not good]


def main():
    args = arguments()
    key = bytes.fromhex(args.key_hex)
    result = {
        "role": "sender", "mode": args.mode, "format": args.format, "sent": 0, "received": 0, "lost": 0, "wrong": {},
        "reflector_format": None, "reflector_seqs": [], "follow_ups": 0, "payload_octets": 0,
    }
    with socket.socket(socket.AF_INET6 if ":" in args.host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((args.host, args.port))
        sock.settimeout(args.timeout)
        for seq in range(args.count):
            exchange(args, key, sock, seq, result)
    result["lost"] = result["sent"] - result["received"]
    print(json.dumps(result))
    return 0 if result["received"] == args.count and not result["wrong"] else 1


def exchange(args, key, sock, seq, result):
    area = request_tlvs(args, key, seq)
    t1 = wire.stamp(args.format)
    request = wire.write_request(args.mode, key, seq, t1, args.format, args.ssid, area)
    result["payload_octets"] = len(request)
    wrong = []
    try:
        sock.send(request)
        result["sent"] += 1
        data = sock.recv(65536)
    except OSError as error:  # a time-out, or the ICMP error of a closed port
        return count(result, [f"io_{type(error).__name__}"])
    now = time.time_ns()
    reply = wire.read_reply(args.mode, key, data)
    if "error" in reply:
        return count(result, [reply["error"]])
    result["received"] += 1
    result["reflector_format"] = wire.format_of(reply["estimate"])
    if seq < 3 or seq == args.count - 1:
        result["reflector_seqs"].append(reply["seq"])
    if len(data) != len(request):
        wrong.append("size")
    wrong += wrong_base(args, reply, seq, t1, now) + wrong_tlvs(args, key, reply, area)
    result["follow_ups"] += sum(
        kind == wire.FOLLOW_UP and any(value[4:12]) for _, kind, value in wire.tlvs(reply["area"])
    )
    return count(result, wrong)


def count(result, wrong):
    for name in wrong:
        result["wrong"][name] = result["wrong"].get(name, 0) + 1


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""An independent STAMP Session-Reflector: answers --count requests or for --timeout seconds, whichever ends first,
then prints one line of JSON. It exits 0 when it answered --count requests, 1 otherwise. Once it listens it prints
"listening PORT" on stderr."""

import argparse
import json
import socket
import struct
import sys
import time

import stamp_wire as wire


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds after which it gives up")
    parser.add_argument("--mode", choices=["open", "auth"], default="open")
    parser.add_argument("--key-hex", default="", help="the shared key, for --mode auth")
    parser.add_argument("--format", choices=["ntp", "ptp"], default="ntp", help="of our timestamps")
    parser.add_argument("--stateless", action="store_true", help="copy the sender's sequence number")
    parser.add_argument(
        "--tlvs", choices=["know", "echo", "zero", "strip"], default="know",
        help="know: RFC 8972 with Extra Padding alone understood; else as reflectors of RFC 8762 alone do: echo them as"
        " they came, zero them, or answer with the base packet",
    )
    parser.add_argument("--hold-ms", type=float, default=0.0, help="wait between t2 and t3")
    return parser.parse_args()


def reply_tlvs(args, key, request, seq):
    area = request["area"]
    if args.tlvs == "echo":
        return area
    if args.tlvs == "zero":
        return bytes(len(area))
    if args.tlvs == "strip":
        return b""
    out, before = b"", b""
    for flags, kind, value in wire.tlvs(area):
        if kind == wire.HMAC_TLV and args.mode == "auth":
            good = value == wire.digest(key, struct.pack("!I", request["seq"]), before)
            if not good:
                return b"".join(wire.tlv(kind, value, wire.I) for _, kind, value in wire.tlvs(area))
            out += wire.tlv(kind, wire.digest(key, struct.pack("!I", seq), out), 0)
        else:
            out += wire.tlv(kind, value, 0 if kind == wire.EXTRA_PADDING else wire.U)
        before += wire.tlv(kind, value, flags)
    return out + area[len(out) :]


def main():
    args = arguments()
    key = bytes.fromhex(args.key_hex)
    result = {"role": "reflector", "mode": args.mode, "format": args.format, "answered": 0, "rejected": 0,
              "sender_format": None, "ssid": None, "sizes": [], "tlv_types": []}
    end = time.monotonic() + args.timeout
    sessions = {}
    with socket.socket(socket.AF_INET6 if ":" in args.host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((args.host, args.port))
        print("listening", sock.getsockname()[1], file=sys.stderr, flush=True)
        while result["answered"] < args.count and (left := end - time.monotonic()) > 0:
            sock.settimeout(left)
            try:
                data, peer = sock.recvfrom(65536)
            except TimeoutError:
                break
            answer(args, key, sock, sessions, data, peer, result)
    print(json.dumps(result))
    return 0 if result["answered"] == args.count else 1


def answer(args, key, sock, sessions, data, peer, result):
    t2 = wire.stamp(args.format)
    request = wire.read_request(args.mode, key, data)
    if request is None:
        result["rejected"] += 1
        return
    session = (peer, request["ssid"])
    own = sessions.get(session, 0)
    sessions[session] = own + 1
    seq = request["seq"] if args.stateless else own
    area = reply_tlvs(args, key, request, seq)
    time.sleep(args.hold_ms / 1000)
    reply = wire.write_reply(args.mode, key, request, seq, t2, wire.stamp(args.format), args.format, 64, area)
    sock.sendto(reply, peer)
    result["answered"] += 1
    result["sender_format"] = wire.format_of(request["estimate"])
    result["ssid"] = request["ssid"]
    result["sizes"] = sorted({*result["sizes"], len(data)})
    result["tlv_types"] = [kind for _, kind, _ in wire.tlvs(request["area"])]


if __name__ == "__main__":
    sys.exit(main())

"""Writes a line "time address port" for each STAMP probe (UDP to port 862) that leaves over loopback: when, by the kernel's stamp in nanoseconds
of the wall clock (on a busy machine it is read much later), and whose socket sent it.

usage: probes.py FILE
"""

import socket
import struct
import sys

# What leaves is only shown to who listens to all protocols (ETH_P_ALL).
ALL = 3
IPV4 = 0x0800
OUTGOING = 4
STAMP = 862
# Linux's number, which Python has no name for.
SO_TIMESTAMPNS = 35

packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ALL))
packets.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
packets.bind(("lo", ALL))
with open(sys.argv[1], "w", buffering=1) as out:
    while True:
        packet, stamps, _, where = packets.recvmsg(256, 64)
        if where[1] != IPV4 or where[2] != OUTGOING or packet[9] != socket.IPPROTO_UDP:
            continue
        header = (packet[0] & 15) * 4
        port, to = struct.unpack_from("!HH", packet, header)
        if to == STAMP:
            seconds, nanoseconds = struct.unpack("qq", stamps[0][2])
            out.write(f"{seconds * 10**9 + nanoseconds} {socket.inet_ntoa(packet[12:16])} {port}\n")

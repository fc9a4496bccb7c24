"""Writes a line "time address" for each STAMP probe (UDP to port 862) that leaves over loopback: the wall clock in nanoseconds and who sent it.

usage: probes.py FILE
"""

import socket
import struct
import sys
import time

# What leaves is only shown to who listens to all protocols (ETH_P_ALL).
ALL = 3
IPV4 = 0x0800
OUTGOING = 4
STAMP = 862

packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ALL))
packets.bind(("lo", ALL))
with open(sys.argv[1], "w", buffering=1) as out:
    while True:
        packet, where = packets.recvfrom(256)
        if where[1] != IPV4 or where[2] != OUTGOING or packet[9] != socket.IPPROTO_UDP:
            continue
        header = (packet[0] & 15) * 4
        if struct.unpack_from("!H", packet, header + 2)[0] == STAMP:
            out.write(f"{time.time_ns()} {socket.inet_ntoa(packet[12:16])}\n")

"""Sends one flow of super-packets into a tunnel's device without pause: `traffic.py udp|tcp DEVICE SOURCE DESTINATION`.

`udp` is what a program with UDP_SEGMENT sends. `tcp` are the segments of one connection as the kernel would give them to
the device, written there by a packet socket, so that nobody has to acknowledge them. It runs until it is ended, and
keeps at most AHEAD super-packets waiting in the device, of which none is lost.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from typing import Callable

MTU = 1420
# As much as wontun lets the device have (gso_max_size), one message of UDP on the outside: the kernel splits more.
UDP_SEGMENTS = 44
TCP_SEGMENTS = 45
# IPv4 and TCP with timestamps
TCP_HEADERS = 52
AHEAD = 100
UDP_SEGMENT = 103
PACKET_VNET_HDR = 15
ETH_P_IP = 0x0800


class Waiting:
    """What the device has been given and the tunnel has not read yet."""

    def __init__(self, device: str) -> None:
        folder = f"/sys/class/net/{device}/statistics"
        self.files = [os.open(f"{folder}/{name}", os.O_RDONLY) for name in ("tx_packets", "tx_dropped")]
        self.given = self.gone()

    def gone(self) -> int:
        return sum(int(os.pread(file, 32, 0)) for file in self.files)

    def limit(self, count: int) -> None:
        """Takes note of some that were given, and waits until there is room for the next."""
        self.given += count
        while self.given - self.gone() > AHEAD:
            time.sleep(0.0001)


def udp(source: str, destination: str) -> Callable[[], None]:
    """Returns what sends one."""
    flow = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    flow.bind((source, 0))
    flow.connect((destination, 9))
    flow.setsockopt(socket.SOL_UDP if hasattr(socket, "SOL_UDP") else 17, UDP_SEGMENT, MTU - 28)
    payload = bytes(UDP_SEGMENTS * (MTU - 28))
    return lambda: flow.send(payload)


def tcp(device: str, source: str, destination: str) -> Callable[[], None]:
    """Returns what sends one."""
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP))
    raw.bind((device, ETH_P_IP))
    raw.setsockopt(socket.SOL_PACKET if hasattr(socket, "SOL_PACKET") else 263, PACKET_VNET_HDR, 1)
    size = MTU - TCP_HEADERS
    length = TCP_HEADERS + TCP_SEGMENTS * size
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    # flags: checksum to complete; type: TCP over IPv4
    offload = struct.pack("=BBHHHH", 1, 1, TCP_HEADERS, size, 20, 16)
    pseudo = checksum(addresses + struct.pack("!HH", socket.IPPROTO_TCP, length - 20)) ^ 0xFFFF
    packet = bytearray(len(offload) + length)
    packet[: len(offload)] = offload
    ip = len(offload)
    # an acknowledgement with data, port 40000 to 5001
    struct.pack_into("!HHIIBBHHH", packet, ip + 20, 40000, 5001, 0, 1, 0x80, 0x10, 4096, pseudo, 0)
    struct.pack_into("!HBBII", packet, ip + 40, 0x0101, 8, 10, 1, 1)
    sent = 0

    def send() -> None:
        nonlocal sent
        start = struct.pack("!BBHHHBBH", 0x45, 0, length, sent * TCP_SEGMENTS & 0xFFFF, 0x4000, 64, socket.IPPROTO_TCP, 0)
        packet[ip : ip + 20] = start + addresses
        struct.pack_into("!H", packet, ip + 10, checksum(start + addresses))
        struct.pack_into("!I", packet, ip + 24, sent * TCP_SEGMENTS * size & 0xFFFFFFFF)
        sent += 1
        raw.send(packet)

    return send


def checksum(text: bytes) -> int:
    """The Internet checksum of an even number of bytes."""
    total = sum(struct.unpack(f"!{len(text) // 2}H", text))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def main(kind: str, device: str, source: str, destination: str) -> None:
    send = udp(source, destination) if kind == "udp" else tcp(device, source, destination)
    waiting = Waiting(device)
    while True:
        for _ in range(8):
            send()
        waiting.limit(8)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Stands between two ends of a tunnel: relays, keeps what one of them sends, and sends that to the other at once.

`recorder.py OUTER-ADDRESS PORT INNER-PORT`: the end under test knows it as OUTER-ADDRESS:PORT, the other one is at
127.0.0.1:INNER-PORT. Lines on standard input are commands, each answered with one line of JSON: `record BYTES` keeps that
much of what the other end sends, and does not relay it; `replay PID` sends it, where PID is the process of the end under
test, whose network namespace tells how much it has read. A datagram is valid once, so nothing can be replayed twice.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time
from pathlib import Path

SOL_UDP = 17
UDP_SEGMENT = 103
UDP_GRO = 104
SO_RCVBUFFORCE = 33
SO_SNDBUFFORCE = 32
LARGEST = 65535
# Messages that are bigger belong to the stream; handshakes and keepalives are smaller.
SMALL = 300
# Messages that wait in the socket of the end under test, at most: 1.5 MB.
AHEAD = 24
LOOK_EVERY = 8


class Recorder:
    def __init__(self, address: str, port: int, inner_port: int) -> None:
        self.outer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.outer.bind((address, port))
        self.outer.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 1 << 24)
        self.inner = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.inner.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 26)
        self.inner.setsockopt(SOL_UDP, UDP_GRO, 1)
        self.inner.connect(("127.0.0.1", inner_port))
        self.tested: tuple[str, int] | None = None
        self.buffer = memoryview(bytearray(1 << 17))
        self.messages: list[tuple[int, int, int]] = []

    def relay(self) -> None:
        """Relays until there is a command. What belongs to a stream that nobody records is dropped."""
        while True:
            readable, _, _ = select.select([self.outer, self.inner, sys.stdin], [], [])
            if self.outer in readable:
                data, self.tested = self.outer.recvfrom(LARGEST)
                self.inner.send(data)
            if self.inner in readable:
                data = self.inner.recv(LARGEST)
                if self.tested and len(data) <= SMALL:
                    self.outer.sendto(data, self.tested)
            if sys.stdin in readable:
                return

    def record(self, wanted: int) -> dict:
        self.buffer = memoryview(bytearray(wanted + LARGEST))
        self.messages = []
        end = 0
        self.inner.settimeout(10)
        while end < wanted:
            size, control, _, _ = self.inner.recvmsg_into([self.buffer[end : end + LARGEST]], 64)
            segment = next((struct.unpack("=i", it[2])[0] for it in control if it[:2] == (SOL_UDP, UDP_GRO)), size)
            if size > SMALL:
                self.messages.append((end, end + size, segment))
                end += size
        self.inner.settimeout(None)
        return {"messages": len(self.messages), "bytes": end}

    def replay(self, pid: int) -> dict:
        counters = Path(f"/proc/{pid}/net/snmp")
        read_before, lost_before = read_and_lost(counters)
        began = time.monotonic()
        sent = read = lost = 0

        def wait_for(ahead: int) -> None:
            nonlocal read, lost
            deadline = time.monotonic() + 2
            while True:
                now_read, now_lost = read_and_lost(counters)
                read, lost = now_read - read_before, now_lost - lost_before
                if sent - read - lost <= ahead or time.monotonic() > deadline:
                    return

        for start, end, segment in self.messages:
            control = [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", segment))] if end - start > segment else []
            self.outer.sendmsg([self.buffer[start:end]], control, 0, self.tested)
            sent += 1
            if sent % LOOK_EVERY == 0:
                wait_for(AHEAD)
        wait_for(0)
        return {"seconds": time.monotonic() - began, "messages": sent, "read": read, "lost": lost}


def read_and_lost(counters: Path) -> tuple[int, int]:
    """Datagrams that were read from the namespace's UDP sockets, and those for which there was no room."""
    names, values = [line.split() for line in counters.read_text().splitlines() if line.startswith("Udp: ")]
    found = dict(zip(names[1:], map(int, values[1:])))
    return found["InDatagrams"], found["RcvbufErrors"]


def main(address: str, port: str, inner_port: str) -> None:
    recorder = Recorder(address, int(port), int(inner_port))
    while True:
        recorder.relay()
        command, _, value = sys.stdin.readline().strip().partition(" ")
        if not command:
            return
        answer = recorder.record(int(value)) if command == "record" else recorder.replay(int(value))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

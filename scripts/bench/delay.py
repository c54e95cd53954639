"""Delays the datagrams between a WireGuard client and its server: delay.py ADDRESS SECONDS.

Listens on the port after the server's, which both have at ADDRESS. For kernels without netem.
"""

import collections
import select
import socket
import sys
import time

from tunnels import PORT

# linux/socket.h; Python has no name for it.
SO_RCVBUFFORCE = 33


def main() -> None:
    address, delay = sys.argv[1], float(sys.argv[2])
    outside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    inside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for each in (outside, inside):
        each.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        each.setblocking(False)
    outside.bind((address, PORT + 1))
    inside.connect((address, PORT))
    client = None
    waiting: collections.deque[tuple[float, socket.socket, bytes]] = collections.deque()
    while True:
        timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for ready in select.select([outside, inside], [], [], timeout)[0]:
            for _ in range(64):
                try:
                    data, source = ready.recvfrom(2048)
                except OSError:
                    break
                if ready is outside:
                    client = source
                waiting.append((time.monotonic() + delay, inside if ready is outside else outside, data))
        while waiting and waiting[0][0] <= time.monotonic():
            _, out, data = waiting.popleft()
            try:
                if out is inside:
                    inside.send(data)
                elif client:
                    outside.sendto(data, client)
            except OSError:
                # lost, as on any other path
                continue


if __name__ == "__main__":
    main()

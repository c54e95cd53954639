"""Measures TCP and ping through a peer's rate limit; scripts/limits.sh calls it, in namespaces of its own."""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hosts import Pair
from tunnels import PORT, Tunnel, configurations, private_file, start_and_wait

HEADER = (
    "| Rate (Mbit/s) | direction | streams | delay (ms) | ECN | TCP of the rate | ping median (ms) | p95 | worst"
    " | retransmitted |"
)


class Limited(Tunnel):
    """A tunnel of wontun whose server limits its client."""

    def start_limited(self, pair: Pair, rate: float, delay: float) -> None:
        if delay:
            relay = [sys.executable, str(Path(__file__).with_name("delay.py")), pair.server.outer, str(delay / 2000)]
            pair.start(pair.server, relay)
        for host, text in configurations(pair):
            lines = f"[Interface]\nAddress = {host.inner}/24\nMTU = 1420\n"
            if host is pair.server:
                text = text.replace("[Peer]\n", f"[Peer]\n# RateUp = {rate:g}Mbit\n# RateDown = {rate:g}Mbit\n")
            elif delay:
                text = text.replace(f":{PORT}\n", f":{PORT + 1}\n")
            file = private_file(pair.folder / f"{host.device}.conf", text.replace("[Interface]\n", lines, 1))
            start_and_wait(pair, host, [self.binary, "--config", str(file), *self.options])
        pair.client.run("ping", "-c", "1", "-W", "9", "-q", pair.server.inner)


def measure(pair: Pair, rate: float, upwards: bool, streams: int, seconds: int) -> tuple[float, list[float], int]:
    """Returns the part of the rate that TCP has reached, the pings in ms, and the number of retransmissions."""
    server = subprocess.Popen(pair.server.inside("iperf3", "-s", "-1"), stdout=subprocess.DEVNULL)
    ping = None
    try:
        time.sleep(0.3)
        command = ["iperf3", "-c", pair.server.inner, "-t", str(seconds), "-P", str(streams), "-C", "cubic", "-J"]
        load = subprocess.Popen(
            pair.client.inside(*command, *([] if upwards else ["-R"])), stdout=subprocess.PIPE, text=True
        )
        time.sleep(0.5)
        count = int((seconds - 1) * 5)
        ping = subprocess.run(
            pair.client.inside("ping", "-i", "0.2", "-c", str(count), "-W", "2", pair.server.inner),
            capture_output=True,
            text=True,
            check=False,
        )
        result = json.loads(load.communicate(timeout=seconds + 30)[0])
    finally:
        server.terminate()
        server.wait()
    times = [float(text) for text in re.findall(r"time=([\d.]+) ms", ping.stdout)]
    end = result["end"]
    reached = end["sum_received"]["bits_per_second"] / (rate * 1e6)
    return reached, times, end["sum_sent"].get("retransmits", 0)


def numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wontun", required=True)
    parser.add_argument("--rates", type=numbers, default=[1, 20, 200])
    parser.add_argument("--streams", type=numbers, default=[1, 4])
    parser.add_argument("--delays", type=numbers, default=[0])
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--ecn", action="store_true")
    options = parser.parse_args()
    print(HEADER)
    print("|" + "---|" * (HEADER.count("|") - 1))
    for delay in options.delays:
        for rate in options.rates:
            with tempfile.TemporaryDirectory() as folder, Pair(Path(folder)) as pair:
                for host in pair.hosts:
                    host.run("sysctl", "-qw", f"net.ipv4.tcp_ecn={int(options.ecn)}", "net.ipv4.tcp_no_metrics_save=1")
                Limited("wontun", "wontun", options.wontun).start_limited(pair, rate, delay)
                for upwards in (True, False):
                    for streams in options.streams:
                        reached, times, again = measure(pair, rate, upwards, int(streams), options.seconds)
                        times = sorted(times) or [float("nan")]
                        p95 = times[int(len(times) * 0.95)] if len(times) > 1 else times[0]
                        print(
                            f"| {rate:g} | {'up' if upwards else 'down'} | {int(streams)} | {delay:g} |"
                            f" {'yes' if options.ecn else 'no'} | {100 * reached:.1f} % |"
                            f" {statistics.median(times):.1f} | {p95:.1f} | {times[-1]:.1f} | {again} |",
                            flush=True,
                        )


if __name__ == "__main__":
    main()

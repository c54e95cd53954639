"""Measures one end of a tunnel by itself; `scripts/bench.sh --one-end` calls it.

Two ends on one machine share its cores, so that one of them cannot be seen to use two. Here the other end does nothing:

- sending, what the end under test encrypts is dropped where it arrives;
- receiving, it gets a stream that was encrypted before, from memory, and what it decrypts is dropped.

What is left besides is one thread of traffic.py or recorder.py.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hosts import Host, Pair, Program, Trouble, run
from measure import family
from tunnels import PORT, Tunnel, configurations, private_file, start_and_wait

WAYS = ("send udp", "send tcp", "receive udp", "receive tcp")
# Of a stream that was encrypted before: what memory is spent for, and about what a second carries.
RECORDED = 600 * 10**6


def with_workers(tunnels: list[Tunnel], counts: tuple[int, ...]) -> list[Tunnel]:
    """Returns wontun's tunnels that encrypt, each with these numbers of workers."""
    return [
        dataclasses.replace(tunnel, name=f"{tunnel.name} × {count}", options=(*tunnel.options, "--workers", str(count)))
        for tunnel in tunnels
        if tunnel.kind == "wontun"
        for count in counts
    ]


def take_rounds(tunnels: list[Tunnel], rounds: int, seconds: int) -> list[dict]:
    """Returns all runs, in interleaved rounds."""
    runs = []
    for number in range(1, rounds + 1):
        for way in WAYS:
            for tunnel in tunnels:
                taken = {"round": number, "tunnel": tunnel.name, "way": way}
                with tempfile.TemporaryDirectory() as folder:
                    try:
                        with Pair(Path(folder)) as pair:
                            taken |= measure(tunnel, pair, way, seconds)
                        said = f"{taken['gbit_per_second']:.2f} Gbit/s, {taken['cpu']:.3f} CPU s/GB"
                    except (Trouble, OSError, ValueError) as error:
                        taken["error"] = str(error)
                        said = f"FAILED: {error}"
                runs.append(taken)
                print(f"round {number} of {rounds}  {tunnel.name}  {way}: {said}", file=sys.stderr, flush=True)
    return runs


def measure(tunnel: Tunnel, pair: Pair, way: str, seconds: int) -> dict:
    """Returns the payload of the device (Gbit/s of IP packets) and the daemon's CPU seconds per 10⁹ bytes of it."""
    direction, kind = way.split()
    if direction == "send":
        return sending(pair, start(tunnel, pair, PORT), kind, seconds)
    with Recorder(pair) as recorder:
        return receiving(pair, start(tunnel, pair, PORT + 1), recorder, kind)


def start(tunnel: Tunnel, pair: Pair, port: int) -> Program:
    """Brings the tunnel up and returns the client's daemon, which is the one under test; `port` is its peer's."""
    for host, text in configurations(pair):
        lines = f"[Interface]\nAddress = {host.inner}/24\nMTU = 1420\n"
        text = text.replace(f":{PORT}\n", f":{port}\n")
        file = private_file(pair.folder / f"{host.device}.conf", text.replace("[Interface]\n", lines, 1))
        daemon = start_and_wait(pair, host, [tunnel.binary, "--config", str(file), *tunnel.options])
    pair.client.run("ping", "-c", "1", "-W", "9", "-q", pair.server.inner)
    return daemon


def sending(pair: Pair, daemon: Program, kind: str, seconds: int) -> dict:
    drop(pair.server, f"udp dport {PORT} udp length > 300")
    with Traffic(pair.client, kind, pair.server.inner):
        time.sleep(0.5)
        before = Reading(pair.client, daemon)
        time.sleep(seconds)
        after = Reading(pair.client, daemon)
    daemon.must_run()
    return figures(before, after, after.time - before.time, after.sent - before.sent)


def receiving(pair: Pair, daemon: Program, recorder: Recorder, kind: str) -> dict:
    with Traffic(pair.server, kind, pair.client.inner):
        recorded = recorder.ask(f"record {RECORDED}")
    drop(pair.client, f"iifname {pair.client.device}")
    before = Reading(pair.client, daemon)
    replayed = recorder.ask(f"replay {daemon.pid}")
    time.sleep(0.05)
    after = Reading(pair.client, daemon)
    daemon.must_run()
    received = after.received - before.received
    if received < recorded["bytes"] // 2:
        raise Trouble(f"of {recorded['bytes']} bytes that were sent, {received} arrived: {replayed}")
    return {**figures(before, after, replayed["seconds"], received), "replayed": replayed}


def figures(before: Reading, after: Reading, seconds: float, size: int) -> dict:
    return {"gbit_per_second": size * 8 / seconds / 1e9, "cpu": (after.cpu - before.cpu) / (size / 1e9)}


class Reading:
    """Counters of the device and of the daemon at one time."""

    def __init__(self, host: Host, daemon: Program) -> None:
        self.time = time.monotonic()
        self.cpu = sum(cpu_seconds(pid) for pid in family(daemon.pid))
        counters = json.loads(host.ip("-statistics", "-json", "link", "show", "dev", host.device))[0]["stats64"]
        self.sent = counters["tx"]["bytes"]
        self.received = counters["rx"]["bytes"]


def cpu_seconds(pid: int) -> float:
    """Returns the time of all threads, exact where /proc/PID/stat counts ticks."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def drop(host: Host, condition: str) -> None:
    """Drops packets on a host as early as nf_tables can, before anything looks at them."""
    rules = ["type filter hook prerouting priority -400", f"{condition} counter drop"]
    text = "table ip sink {\nchain sink {\n" + "\n".join(rules) + "\n}\n}\n"
    run(*host.inside("nft", "-f", "-"), text=text)


class Traffic:
    """A flow from a host into its tunnel's device while the block lasts."""

    def __init__(self, host: Host, kind: str, destination: str) -> None:
        program = [sys.executable, str(Path(__file__).with_name("traffic.py"))]
        command = host.inside(*program, kind, host.device, host.inner, destination)
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        ended = self.process.poll()
        self.process.kill()
        self.process.wait()
        if ended is not None:
            raise Trouble(f"traffic.py ended with exit code {ended}")


class Recorder:
    """recorder.py in front of the server, on the port after the server's."""

    def __init__(self, pair: Pair) -> None:
        command = [sys.executable, str(Path(__file__).with_name("recorder.py")), pair.server.outer]
        self.process = subprocess.Popen(
            pair.server.inside(*command, str(PORT + 1), str(PORT)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def ask(self, command: str) -> dict:
        """Gives it a command and returns the answer."""
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise Trouble(f"recorder.py ended at '{command}': see above")
        return json.loads(answer)


def table(runs: list[dict]) -> str:
    """Returns the medians, with minimum and maximum in parentheses."""
    names = list(dict.fromkeys(run["tunnel"] for run in runs))
    lines = [f"| | {' | '.join(f'{way}: Gbit/s | CPU s/GB' for way in WAYS)} |", "|---" * (2 * len(WAYS) + 1) + "|"]
    for name in names:
        cells = []
        for way in WAYS:
            for key in ("gbit_per_second", "cpu"):
                values = [run[key] for run in runs if run["tunnel"] == name and run["way"] == way and key in run]
                cells.append(spread(values) if values else "–")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"

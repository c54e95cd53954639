"""Takes the figures of one tunnel that is up: iperf3 and ping through it, the daemons' accounts in /proc."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import time
from pathlib import Path

from hosts import Pair, Program, Trouble, wait_until
from tunnels import Tunnel

IPERF_PORT = 5201
TICKS = os.sysconf("SC_CLK_TCK")
LISTEN = "0A"  # TCP_LISTEN, as /proc/net/tcp writes it


def measure(tunnel: Tunnel, pair: Pair, daemons: list[Program], seconds: int) -> dict:
    """All figures (keys as in figures.FIGURES; None where there is nothing to measure) and what they were made of."""
    bench = Bench(tunnel.target(pair), pair, daemons, seconds)
    before = machine_ticks()
    details = {
        "tcp": bench.tcp(),
        "tcp_reverse": bench.tcp("--reverse"),
        "tcp_4": bench.tcp("--parallel", "4"),
        "udp": bench.udp(),
        "ping": bench.ping("-i", "0.002", "-c", "300"),
        "ping_loaded": bench.ping_loaded(),
    }
    for daemon in daemons:
        daemon.must_run()
    tcp = details["tcp"]
    figures = {
        "tcp": tcp["gbit_per_second"],
        "tcp_reverse": details["tcp_reverse"]["gbit_per_second"],
        "tcp_4": details["tcp_4"]["gbit_per_second"],
        "cpu": (tcp["user_seconds"] + tcp["system_seconds"]) / (tcp["bytes"] / 1e9) if daemons else None,
        "udp": details["udp"]["packets_received"] / details["udp"]["seconds"] / 1e3,
        "ping": details["ping"]["median_ms"],
        "ping_loaded": details["ping_loaded"]["median_ms"],
        "memory": max(peak_resident_kib(daemon.pid) for daemon in daemons) / 1024 if daemons else None,
        "steal": steal_percent(before, machine_ticks()),
    }
    return {"figures": figures, "details": details}


class Bench:
    """One tunnel under load."""

    def __init__(self, target: str, pair: Pair, daemons: list[Program], seconds: int) -> None:
        self.target = target
        self.pair = pair
        self.daemons = daemons
        self.seconds = seconds

    def tcp(self, *options: str) -> dict:
        """TCP with cubic, whatever this kernel's default is; the rate is that of the payload which arrived."""
        accounts = Accounts(self.daemons)
        end = self.iperf("--congestion", "cubic", *options)
        return {
            "gbit_per_second": end["sum_received"]["bits_per_second"] / 1e9,
            "bytes": end["sum_received"]["bytes"],
            "retransmits": end["sum_sent"].get("retransmits"),
            **accounts.since(),
        }

    def udp(self) -> dict:
        """As many datagrams with 64 bytes as the client can send; what the server got of them counts."""
        accounts = Accounts(self.daemons)
        received = self.iperf("--udp", "--bitrate", "0", "--length", "64")["sum_received"]
        return {
            "packets_sent": received["packets"],
            "packets_received": received["packets"] - received["lost_packets"],
            "seconds": received["seconds"],
            **accounts.since(),
        }

    def ping(self, *options: str) -> dict:
        """Round trips, one after the other."""
        command = self.pair.client.inside("ping", "-n", "-W", "1", *options, self.target)
        try:
            # Exit code 1: some were lost, which the count tells.
            done = subprocess.run(command, text=True, capture_output=True, timeout=self.seconds + 60, check=False)
        except subprocess.TimeoutExpired as error:
            raise Trouble(f"'{' '.join(command)}' did not end within {self.seconds + 60} s") from error
        times = sorted(float(value) for value in re.findall(r" time=([0-9.]+) ms", done.stdout))
        sent = re.search(r"^(\d+) packets transmitted", done.stdout, re.MULTILINE)
        if not times or not sent:
            raise Trouble(f"no answer to pings: {(done.stdout + done.stderr).strip()[-300:]}")
        return {
            "median_ms": statistics.median(times),
            "p99_ms": times[min(len(times) - 1, len(times) * 99 // 100)],
            "sent": int(sent.group(1)),
            "answered": len(times),
        }

    def ping_loaded(self) -> dict:
        """Round trips while one TCP stream goes the pings' way, which begins before them and ends after them."""
        length = self.seconds + 2
        with IperfServer(self.pair) as server:
            client = self.start_iperf("--congestion", "cubic", length=length)
            try:
                time.sleep(0.5)  # for the stream to come to speed
                result = self.ping("-i", "0.01", "-w", str(self.seconds))
                if client.poll() is not None:
                    raise Trouble("the stream ended before the pings did")
                end = self.iperf_result(client, server, length)
            finally:
                end_process(client)
        return {**result, "gbit_per_second": end["sum_received"]["bits_per_second"] / 1e9}

    def iperf(self, *options: str) -> dict:
        """One run of iperf3; what it calls "end"."""
        with IperfServer(self.pair) as server:
            client = self.start_iperf(*options, length=self.seconds)
            try:
                return self.iperf_result(client, server, self.seconds)
            finally:
                end_process(client)

    def start_iperf(self, *options: str, length: int) -> subprocess.Popen:
        command = ["iperf3", "--json", "--client", self.target, "--port", str(IPERF_PORT), "--time", str(length)]
        return subprocess.Popen(
            self.pair.client.inside(*command, *options),
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def iperf_result(self, client: subprocess.Popen, server: Program, length: int) -> dict:
        try:
            output, errors = client.communicate(timeout=length + 20)
        except subprocess.TimeoutExpired as error:
            raise Trouble(f"iperf3 did not end within {length + 20} s; its server said: {server.said()}") from error
        try:
            result = json.loads(output)
        except ValueError as error:
            raise Trouble(f"iperf3 gave no JSON: {(output + errors).strip()[-300:]}") from error
        if "error" in result:
            raise Trouble(f"iperf3: {result['error']}")
        if result["end"]["sum_received"]["bytes"] == 0:
            raise Trouble("nothing of what iperf3 sent has arrived")
        return result["end"]


class IperfServer:
    """iperf3's server for one connection, listening when the block begins."""

    def __init__(self, pair: Pair) -> None:
        host = pair.server
        command = ["iperf3", "--server", "--one-off", "--port", str(IPERF_PORT)]
        self.program = Program("iperf3's server", host.inside(*command), pair.folder / "iperf3.log")

    def __enter__(self) -> Program:
        def ready() -> bool:
            self.program.must_run()
            return listens(self.program.pid, IPERF_PORT)

        try:
            wait_until(ready, 10, "iperf3 did not listen")
        except BaseException:
            self.program.stop()
            raise
        return self.program

    def __exit__(self, *_: object) -> None:
        self.program.stop()


def end_process(process: subprocess.Popen) -> None:
    """Ends a process if it still runs, and forgets what it wrote."""
    if process.poll() is None:
        process.kill()
    process.communicate()


def listens(pid: int, port: int) -> bool:
    """Whether something listens on this TCP port in the network namespace of the process."""
    # ip is still in this script's own namespace until it has become the program: that must not be mistaken for it.
    try:
        if os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            return False
        for table in ("tcp", "tcp6"):
            path = Path(f"/proc/{pid}/net/{table}")
            for line in path.read_text().splitlines()[1:] if path.exists() else []:
                fields = line.split()
                if fields[3] == LISTEN and int(fields[1].rsplit(":", 1)[1], 16) == port:
                    return True
    except OSError:
        pass  # it has ended: the caller asks for that
    return False


# --- accounts ----------------------------------------------------------------------------------------------------


class Accounts:
    """What the daemons have used, and the machine, since this was made."""

    def __init__(self, daemons: list[Program]) -> None:
        self.daemons = daemons
        self.began = self.now()

    def now(self) -> tuple[float, float, tuple[int, int]]:
        used = [cpu_seconds(pid) for daemon in self.daemons for pid in family(daemon.pid)]
        return sum(user for user, _ in used), sum(system for _, system in used), machine_ticks()

    def since(self) -> dict:
        user, system, ticks = self.now()
        return {
            "user_seconds": round(user - self.began[0], 3),
            "system_seconds": round(system - self.began[1], 3),
            "steal_percent": round(steal_percent(self.began[2], ticks), 2),
        }


def family(pid: int) -> list[int]:
    """The process and all that descend from it: wontun has a second one, which resolves names."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (fields := stat_fields(int(folder.name))):
            children.setdefault(int(fields[1]), []).append(int(folder.name))
    found = [pid]
    for member in found:  # grows meanwhile
        found += children.get(member, [])
    return found


def stat_fields(pid: int) -> list[str]:
    """/proc/PID/stat from the state (the third field there) on; empty when there is no such process any more."""
    try:
        # The name before that may hold spaces and brackets.
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []


def cpu_seconds(pid: int) -> tuple[float, float]:
    """User and system time of all threads, those that have ended among them."""
    fields = stat_fields(pid)
    return (int(fields[11]) / TICKS, int(fields[12]) / TICKS) if fields else (0.0, 0.0)


def peak_resident_kib(pid: int) -> int:
    """VmHWM of the process, or of a child that has more."""
    peaks = []
    for member in family(pid):
        try:
            match = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{member}/status").read_text(), re.MULTILINE)
        except OSError:
            match = None
        if match:
            peaks.append(int(match.group(1)))
    if not peaks:
        raise Trouble(f"/proc/{pid}/status tells no VmHWM")
    return max(peaks)


def machine_ticks() -> tuple[int, int]:
    """Of all CPUs together since the machine started: all ticks, and those that the hypervisor took."""
    # user nice system idle iowait irq softirq steal; guest time is within user
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(fields), fields[7]


def steal_percent(before: tuple[int, int], after: tuple[int, int]) -> float:
    """Between two readings of machine_ticks."""
    return 100 * (after[1] - before[1]) / max(1, after[0] - before[0])

"""Measures a server that forwards, beside the same tunnel without; `scripts/bench.sh --forward` calls it.

The clients, the server and a host behind it are network namespaces. The server forwards and translates addresses; each
way is measured by TCP:

- local: between a client and the server itself, which does not forward in the first set-up;
- forwarded: between a client and the host behind the server;
- peers: from a client to another one, through the server.

The ways without a tunnel show what the kernel's part costs.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from hosts import Host, Program, Trouble, run, wait_until
from measure import listens, machine_ticks, steal_percent
from one_end import cpu_seconds
from tunnels import PORT, SOCKETS, Tunnel, private_file

WORLD = "203.0.113.2"
FIRST_PORT = 5201
# Rules as people have them: a policy, and for each client a list, of which the last entries permit what is measured.
RULES = ("192.168.9.0/24", "192.168.7.7:445/tcp", "dns", "internet", "203.0.113.0/24", "server", "10.8.0.0/24")


@dataclass(frozen=True)
class Setup:
    """A server with its clients."""

    name: str
    forwards: bool
    has_rules: bool = False
    clients: int = 2
    has_tunnel: bool = True


@dataclass(frozen=True)
class Way:
    """A direction of streams; `to` is "server", "world" or "peer"."""

    name: str
    to: str
    reverse: bool = False


UP = Way("local up", "server")
DOWN = Way("local down", "server", reverse=True)
WORLD_UP = Way("forwarded up", "world")
WORLD_DOWN = Way("forwarded down", "world", reverse=True)
PEERS = Way("peers", "peer")


def plan(clients: int) -> list[tuple[Setup, tuple[Way, ...]]]:
    """Returns what one round measures of each tunnel."""
    return [
        (Setup("host", forwards=False), (UP, DOWN)),
        (Setup("server", forwards=True), (UP, WORLD_UP, DOWN, WORLD_DOWN, PEERS)),
        (Setup("rules", forwards=True, has_rules=True), (WORLD_UP, WORLD_DOWN, PEERS)),
        (Setup(f"{clients} clients", forwards=True, clients=clients), (UP, WORLD_UP, DOWN, WORLD_DOWN)),
    ]


NO_TUNNEL = [(Setup("no tunnel", forwards=True, has_tunnel=False), (UP, WORLD_UP, DOWN, WORLD_DOWN, PEERS))]


def take_rounds(tunnels: list[Tunnel], rounds: int, seconds: int, clients: int) -> list[dict]:
    """Returns all runs, in interleaved rounds."""
    runs = []
    for number in range(1, rounds + 1):
        steps = [(Tunnel("no tunnel", "veth"), *step) for step in NO_TUNNEL]
        steps += [(tunnel, *step) for step in plan(clients) for tunnel in tunnels]
        for tunnel, setup, ways in steps:
            for taken in measure(tunnel, setup, ways, seconds):
                taken |= {"round": number, "tunnel": tunnel.name, "setup": setup.name}
                runs.append(taken)
                print(f"round {number} of {rounds}  {tunnel.name}  {setup.name}, {said(taken)}", file=sys.stderr, flush=True)
    return runs


def said(taken: dict) -> str:
    if "error" in taken:
        return f"{taken['way']}: FAILED: {taken['error']}"
    return (
        f"{taken['way']}: {taken['gbit_per_second']:.2f} Gbit/s, {taken['cpu']:.3f} CPU s/GB of the tunnel,"
        f" {taken['machine']:.3f} of the machine, {taken['steal']:.1f} % steal"
    )


def measure(tunnel: Tunnel, setup: Setup, ways: tuple[Way, ...], seconds: int) -> list[dict]:
    """Returns one run for each way."""
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            with Site(Path(folder), setup) as site:
                daemons = site.bring_up(tunnel) if setup.has_tunnel else []
                for way in ways:
                    runs.append({"way": way.name, **streams(site, daemons, way, seconds)})
                for daemon in daemons:
                    daemon.must_run()
        except (Trouble, OSError, ValueError) as error:
            runs.append({"way": ways[len(runs)].name if len(runs) < len(ways) else "end", "error": str(error)})
    return runs


class Site:
    """A server, its clients and the host behind it; a context manager, at whose end all of it is gone."""

    def __init__(self, folder: Path, setup: Setup) -> None:
        self.folder = folder
        self.setup = setup
        self.server = Host("server", "192.0.2.1", "10.8.0.1")
        self.world = Host("world", WORLD, WORLD)
        self.clients = [
            Host(f"c{number}", f"192.0.2.{number + 1}", f"10.8.0.{number + 1}") for number in range(1, setup.clients + 1)
        ]
        self.hosts = [self.server, self.world, *self.clients]
        self.programs: list[Program] = []

    def __enter__(self) -> Site:
        try:
            for host in self.hosts:
                run("ip", "netns", "add", host.netns)
                host.ip("link", "set", "lo", "up")
            self.connect("world", self.world)
            self.server.ip("address", "add", "203.0.113.1/24", "dev", "world")
            self.world.ip("address", "add", f"{WORLD}/24", "dev", "eth0")
            for client in self.clients:
                self.connect(client.role, client)
                self.server.ip("address", "add", self.server.outer, "peer", client.outer, "dev", client.role)
                client.ip("address", "add", client.outer, "peer", self.server.outer, "dev", "eth0")
                if not self.setup.has_tunnel:
                    client.ip("route", "add", "default", "via", self.server.outer)
            # a new namespace has the setting of the first one
            self.server.run("sysctl", "-q", f"net.ipv4.ip_forward={int(self.setup.forwards)}")
            if self.setup.forwards and not self.setup.has_tunnel:
                rule = "type nat hook postrouting priority srcnat\noifname world masquerade"
                run(*self.server.inside("nft", "-f", "-"), text=f"table ip n {{\nchain c {{\n{rule}\n}}\n}}\n")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for program in reversed(self.programs):
            if program.process.poll() is None:
                program.process.terminate()
        for program in self.programs:
            program.stop()
        for host in self.hosts:
            subprocess.run(["ip", "netns", "delete", host.netns], capture_output=True, check=False)

    def connect(self, name: str, host: Host) -> None:
        """Lays a cable from the server's device of that name to the host's eth0."""
        run(
            *("ip", "link", "add", name, "netns", self.server.netns),
            *("type", "veth", "peer", "name", "eth0", "netns", host.netns),
        )
        self.server.ip("link", "set", name, "up")
        host.ip("link", "set", "eth0", "up")

    def bring_up(self, tunnel: Tunnel) -> list[Program]:
        """Starts the server and the clients, and returns them once a ping of each has come through."""
        private = {host.role: run("wg", "genkey").strip() for host in (self.server, *self.clients)}
        public = {role: run("wg", "pubkey", text=key + "\n").strip() for role, key in private.items()}
        text = f"[Interface]\nPrivateKey = {private['server']}\nListenPort = {PORT}\nAddress = 10.8.0.1/24\n"
        for client in self.clients:
            text += f"[Peer]\n# Name = {client.role}\n"
            if self.setup.has_rules:
                text += f"# Allow = {', '.join(RULES)}\n# AllowFrom = 10.8.0.0/24\n"
            text += f"PublicKey = {public[client.role]}\nAllowedIPs = {client.inner}/32\n"
        options = ["--nat", "auto"] if self.setup.forwards else []
        if self.setup.has_rules:
            options += ["--policy", "internet-only"]
        daemons = [self.start(tunnel, self.server, text, options)]
        for client in self.clients:
            text = f"[Interface]\nPrivateKey = {private[client.role]}\nAddress = {client.inner}/32\n"
            text += f"[Peer]\nPublicKey = {public['server']}\nEndpoint = {self.server.outer}:{PORT}\n"
            text += "AllowedIPs = 10.8.0.0/24, 203.0.113.0/24\n"
            daemons.append(self.start(tunnel, client, text, []))
        target = WORLD if self.setup.forwards else self.server.inner
        for daemon, client in zip(daemons[1:], self.clients):
            command = client.inside("ping", "-c", "1", "-W", "1", "-q", target)

            def answered() -> bool:
                daemon.must_run()
                return subprocess.run(command, capture_output=True, check=False).returncode == 0

            wait_until(answered, 30, f"no ping came through {tunnel.name}")
        return daemons

    def start(self, tunnel: Tunnel, host: Host, text: str, options: list[str]) -> Program:
        file = private_file(self.folder / f"{host.device}.conf", text)
        command = host.inside(tunnel.binary, "--config", str(file), *options, *tunnel.options)
        program = Program(f"{tunnel.name} on {host.role}", command, self.folder / f"{host.role}.log")
        self.programs.append(program)
        return program


def streams(site: Site, daemons: list[Program], way: Way, seconds: int) -> dict:
    """Carries one stream of each client at once; returns the payload that arrived, and what it cost per 10⁹ bytes."""
    clients = site.clients if way.to != "peer" else site.clients[:1]
    if len(site.clients) == 2:
        clients = clients[:1]
    has_tunnel = site.setup.has_tunnel
    target = {"server": site.server, "world": site.world, "peer": site.clients[1]}[way.to]
    address = WORLD if way.to == "world" else target.inner if has_tunnel else target.outer
    servers = []
    try:
        for number, _ in enumerate(clients):
            command = target.inside("iperf3", "--server", "--one-off", "--port", str(FIRST_PORT + number))
            servers.append(Program("iperf3's server", command, site.folder / f"iperf3-{number}.log"))
        for number, server in enumerate(servers):
            wait_until(lambda: listens(server.pid, FIRST_PORT + number), 10, "iperf3 did not listen")
        before = Reading(daemons)
        running = [
            subprocess.Popen(
                client.inside(
                    *("iperf3", "--json", "--client", address, "--port", str(FIRST_PORT + number)),
                    *("--time", str(seconds), "--congestion", "cubic", *(["--reverse"] if way.reverse else [])),
                ),
                text=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for number, client in enumerate(clients)
        ]
        try:
            outputs = [process.communicate(timeout=seconds + 30)[0] for process in running]
        except subprocess.TimeoutExpired as error:
            raise Trouble("iperf3 did not end") from error
        finally:
            for process in running:
                if process.poll() is None:
                    process.kill()
                    process.communicate()
        after = Reading(daemons)
    finally:
        for server in servers:
            server.stop()
    ends = []
    for output in outputs:
        result = json.loads(output)
        if "error" in result:
            raise Trouble(f"iperf3: {result['error']}")
        ends.append(result["end"])
    received = sum(end["sum_received"]["bytes"] for end in ends)
    return {
        "gbit_per_second": sum(end["sum_received"]["bits_per_second"] for end in ends) / 1e9,
        "retransmits": sum(end["sum_sent"].get("retransmits") or 0 for end in ends),
        "cpu": (after.daemons - before.daemons) / (received / 1e9),
        "machine": (after.busy - before.busy) / (received / 1e9),
        "steal": steal_percent(before.ticks, after.ticks),
    }


class Reading:
    """The CPU time of the daemons, and that of the machine."""

    def __init__(self, daemons: list[Program]) -> None:
        self.daemons = sum(cpu_seconds(pid) for daemon in daemons for pid in descendants(daemon.pid))
        self.ticks = machine_ticks()
        # user nice system idle iowait irq softirq steal
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        self.busy = (sum(fields) - fields[3] - fields[4] - fields[7]) / 100


def descendants(pid: int) -> list[int]:
    found = [pid]
    for member in found:  # grows meanwhile
        try:
            found += [int(child) for child in Path(f"/proc/{member}/task/{member}/children").read_text().split()]
        except OSError:
            pass
    return found


def table(runs: list[dict]) -> str:
    """Returns the medians, with minimum and maximum in parentheses, and each way as a share of its local one."""
    lines = [
        "| | | Gbit/s | of local | CPU s/GB, tunnel | machine | retransmits |",
        "|---" * 7 + "|",
    ]
    seen = dict.fromkeys((run["tunnel"], run["setup"], run["way"]) for run in runs if "error" not in run)
    for tunnel, setup, way in seen:
        cells = [spread(values(runs, tunnel, setup, way, key)) for key in ("gbit_per_second", "cpu", "machine")]
        retransmits = statistics.median(values(runs, tunnel, setup, way, "retransmits"))
        # many clients, and the ways without a tunnel, have a local way of their own
        own = values(runs, tunnel, setup, "local down" if way.endswith("down") else "local up", "gbit_per_second")
        one = values(runs, tunnel, "host", "local down" if way.endswith("down") else "local up", "gbit_per_second")
        local = own if "clients" in setup or not one else one
        share = statistics.median(values(runs, tunnel, setup, way, "gbit_per_second")) / statistics.median(local) if local else None
        cells.insert(1, f"{share:.1%}" if share else "–")
        lines.append(f"| {tunnel}, {setup} | {way} | {' | '.join(cells)} | {retransmits:.0f} |")
    return "\n".join(lines)


def values(runs: list[dict], tunnel: str, setup: str, way: str, key: str) -> list[float]:
    return [
        run[key] for run in runs if (run["tunnel"], run["setup"], run["way"]) == (tunnel, setup, way) and key in run
    ]


def spread(found: list[float]) -> str:
    return f"{statistics.median(found):.2f} ({min(found):.2f}–{max(found):.2f})"

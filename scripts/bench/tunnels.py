"""The tunnels that are compared: how each is started between two hosts."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from hosts import INNER_NETWORK, INNER_PREFIX, Host, Pair, Program, Trouble, run, wait_until

# The largest inner packets that fit 1500 bytes outside with plain mode's header over IPv4; and what wg-quick and all
# implementations take for WireGuard.
PLAIN_MTU = 1472
WIREGUARD_MTU = 1420
PORT = 51820
SOCKETS = Path("/var/run/wireguard")


@dataclass(frozen=True)
class Tunnel:
    """One row of the table.

    `name` is its own; `kind` is a key of STARTERS; `binary` is the program, None for the cable alone; `options` are
    more of its arguments, the same at both ends.
    """

    name: str
    kind: str
    binary: str | None = None
    options: tuple[str, ...] = ()

    def title(self) -> str:
        """As people read it."""
        plain_title = f"{self.name.removesuffix('-plain')}, plain"
        titles = {"veth": "no tunnel", "plain": plain_title, "wontun": f"{self.name}, WireGuard"}
        return titles.get(self.kind, self.name)

    def start(self, pair: Pair) -> list[Program]:
        """Brings it up, and returns its daemons once a ping has come through it."""
        programs = STARTERS[self.kind](self, pair)
        target = self.target(pair)
        command = pair.client.inside("ping", "-c", "1", "-W", "1", "-q", target)

        def answered() -> bool:
            for program in programs:
                program.must_run()
            return subprocess.run(command, capture_output=True, check=False).returncode == 0

        wait_until(answered, 15, f"no ping came through {self.name}")
        return programs

    def target(self, pair: Pair) -> str:
        """The server's address that leads through this tunnel."""
        return pair.server.outer if self.kind == "veth" else pair.server.inner


# Brings a tunnel up between the two, and returns its daemons.
Starter = Callable[[Tunnel, Pair], "list[Program]"]


def no_tunnel(_tunnel: Tunnel, _pair: Pair) -> list[Program]:
    return []


def plain(tunnel: Tunnel, pair: Pair) -> list[Program]:
    """wontun's own protocol; it sets the device up itself."""
    programs = []
    for host in pair.hosts:
        command = [tunnel.binary, "plain", "--tun", host.device, "--address", f"{host.inner}/{INNER_PREFIX}"]
        command += ["--mtu", str(PLAIN_MTU)]
        if host is pair.client:
            command += ["--peer", f"{pair.server.outer}:19988"]
        programs.append(start_and_wait(pair, host, [*command, *tunnel.options]))
    return programs


def wireguard_by_file(tunnel: Tunnel, pair: Pair) -> list[Program]:
    """wontun with a file as wg-quick's; it sets the device up itself."""
    programs = []
    for host, text in configurations(pair):
        interface = f"[Interface]\nAddress = {host.inner}/{INNER_PREFIX}\nMTU = {WIREGUARD_MTU}\n"
        file = private_file(pair.folder / f"{host.device}.conf", text.replace("[Interface]\n", interface, 1))
        programs.append(start_and_wait(pair, host, [tunnel.binary, "--config", str(file), *tunnel.options]))
    return programs


def wireguard_by_wg(*arguments: str, environment: dict[str, str] | None = None) -> Starter:
    """An implementation that wg(8) configures and ip(8) sets up."""

    def start(tunnel: Tunnel, pair: Pair) -> list[Program]:
        programs = []
        for host, text in configurations(pair):
            command = [tunnel.binary, *arguments, *tunnel.options, host.device]
            program = start_and_wait(pair, host, command, environment)
            socket = SOCKETS / f"{host.device}.sock"
            wait_until(socket.exists, 10, f"{program.name} made no {socket}")
            file = private_file(pair.folder / f"{host.device}.conf", text)
            host.run("wg", "setconf", host.device, str(file))
            host.set_up_device(WIREGUARD_MTU)
            programs.append(program)
        return programs

    return start


def start_and_wait(
    pair: Pair, host: Host, command: list[str], environment: dict[str, str] | None = None
) -> Program:
    """Starts a daemon and waits for its device."""
    program = pair.start(host, command, environment)

    def there() -> bool:
        program.must_run()
        return host.has_device()

    wait_until(there, 10, f"{program.name} made no device {host.device}")
    return program


def configurations(pair: Pair) -> list[tuple[Host, str]]:
    """What wg(8) takes, for each host, with keys made for this one run; the server first."""
    private = {host.role: run("wg", "genkey").strip() for host in pair.hosts}
    public = {role: run("wg", "pubkey", text=key + "\n").strip() for role, key in private.items()}
    found = []
    for host, other in ((pair.server, pair.client), (pair.client, pair.server)):
        text = f"[Interface]\nPrivateKey = {private[host.role]}\nListenPort = {PORT}\n\n"
        text += f"[Peer]\nPublicKey = {public[other.role]}\nAllowedIPs = {INNER_NETWORK}\n"
        if host is pair.client:
            text += f"Endpoint = {other.outer}:{PORT}\n"
        found.append((host, text))
    return found


def private_file(path: Path, text: str) -> Path:
    """Writes a file that only root may read: it holds a key, and wontun looks at that."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    return path


CORES = str(len(os.sched_getaffinity(0)))

# Everything that logs is told to be quiet. As many threads as there are cores: boringtun's own default is four, the
# others count the cores themselves. boringtun and gotatun are told to stay root, since they ask the terminal's owner.
STARTERS: dict[str, Starter] = {
    "veth": no_tunnel,
    "plain": plain,
    "wontun": wireguard_by_file,
    "wireguard-go": wireguard_by_wg("-f", environment={"LOG_LEVEL": "error"}),
    "gotatun": wireguard_by_wg("-f", "-v", "error", "--disable-drop-privileges"),
    "boringtun": wireguard_by_wg("-f", "-v", "error", "-t", CORES, "--disable-drop-privileges"),
}

FOREIGN = ("wireguard-go", "gotatun", "boringtun")


def version_of(tunnel: Tunnel) -> str:
    """What the program says of itself; the first line that has a digit, without punctuation of its own."""
    if tunnel.binary is None:
        return ""
    for line in run(tunnel.binary, "--version").splitlines():
        if any(letter.isdigit() for letter in line):
            return line.split()[-1].removeprefix("v")
    raise Trouble(f"'{tunnel.binary} --version' names no version")

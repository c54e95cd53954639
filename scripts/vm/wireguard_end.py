"""One end of a WireGuard tunnel on a test machine: the kernel's own, or wontun, started in either of its two ways."""

import json
import re
import shlex
from dataclasses import dataclass, field
from typing import ClassVar

from machine import Machine, MachineError

PORT = 51820
# The machine's network card.
CARD = "eth0"
# The device has the same name on both machines, so that commands are the same.
DEVICE = "wg0"
# Seconds, for machines whose processor is emulated on a busy host.
PATIENCE = 120

KERNEL = "kernel"
# wontun --config FILE: addresses, MTU and routes are its own work.
FILE = "wontun --config"
# wontun interface NAME, configured by wg(8) and ip(8), as the kernel's is.
NAME = "wontun interface"


# All that a tunnel may leave behind.
_NETWORK = (
    "ip -4 rule; ip -6 rule; ip -4 route show table all; ip -6 route show table all; ip -brief link; nft list ruleset"
)


def run(machine: Machine, script: str, timeout: float = PATIENCE) -> str:
    """The output of a script that must succeed; what it says on stderr is in the error only."""
    trapped = f"exec 2>/tmp/stderr; trap 'code=$?; ((code == 0)) || cat /tmp/stderr' EXIT\n{script}"
    code, output = machine.execute(trapped, timeout=timeout)
    if code != 0:
        raise MachineError(f"{machine.name}: exit code {code} of: {script}\n{output}")
    return output


def wait(machine: Machine, condition: str, what: str, seconds: int = PATIENCE) -> None:
    """Waits on the machine until a command succeeds."""
    end = f"deadline=$((SECONDS + {seconds}))"
    script = f"{end}; until {condition}; do ((SECONDS < deadline)) || exit 1; sleep 0.1; done"
    code, _ = machine.execute(script, timeout=seconds + PATIENCE)
    if code != 0:
        raise MachineError(f"{machine.name}: not within {seconds} s: {what}")


@dataclass(frozen=True)
class Keys:
    """A key pair, as text."""

    private: str
    public: str


def make_keys(machine: Machine, count: int) -> list[Keys]:
    """Key pairs, from wontun; wg(8) must find the same public keys."""
    pair = "key=$(wontun genkey); echo $key $(wontun pubkey <<<$key) $(wg pubkey <<<$key)"
    keys = []
    for line in run(machine, f"for i in $(seq {count}); do {pair}; done").splitlines():
        private, public, as_wg_says = line.split()
        assert public == as_wg_says, f"wontun pubkey says {public}, wg pubkey {as_wg_says}"
        keys.append(Keys(private, public))
    return keys


@dataclass
class Peer:
    """What an end knows about the other."""

    public: str
    allowed: tuple[str, ...]
    endpoint: str | None = None
    keepalive: int = 0

    def section(self) -> str:
        """As a file has it."""
        lines = ["[Peer]", f"PublicKey = {self.public}", f"AllowedIPs = {', '.join(self.allowed)}"]
        if self.endpoint:
            lines.append(f"Endpoint = {self.endpoint}")
        if self.keepalive:
            lines.append(f"PersistentKeepalive = {self.keepalive}")
        return "\n".join(lines)

    def arguments(self) -> str:
        """As `wg set` has it."""
        words = ["peer", self.public, "allowed-ips", ",".join(self.allowed)]
        if self.endpoint:
            words += ["endpoint", self.endpoint]
        if self.keepalive:
            words += ["persistent-keepalive", str(self.keepalive)]
        return " ".join(words)


@dataclass(frozen=True)
class Transfer:
    """Bytes of all messages, as `wg show` has them."""

    received: int
    sent: int


@dataclass
class End:
    """A machine's end of the tunnel."""

    SHOW_ENDPOINT: ClassVar[str] = f"wg show {DEVICE} endpoints | cut -f 2"

    machine: Machine
    kind: str
    keys: Keys
    addresses: tuple[str, ...]
    mtu: int
    peer: Peer
    port: int = PORT
    _starts: int = field(default=0, init=False)
    _has_preshared_key: bool = field(default=False, init=False)

    def start(self) -> None:
        """Makes the device; it is ready after that."""
        interface = f"[Interface]\nPrivateKey = {self.keys.private}\nListenPort = {self.port}\n"
        if self.kind == FILE:
            # The MTU is found without being told.
            interface += f"Address = {', '.join(self.addresses)}\n"
        self._write("conf", f"{interface}\n{self.peer.section()}\n")
        if self.kind == FILE:
            self._start_service()
            return
        make = f"wontun interface {DEVICE} >/tmp/wontun.log 2>&1"
        if self.kind == KERNEL:
            make = f"ip link add {DEVICE} type wireguard"
        addresses = "\n".join(f"ip address add {address} dev {DEVICE} nodad" for address in self.addresses)
        run(
            self.machine,
            f"{make}\nwg setconf {DEVICE} {self._file('conf')}\nip link set {DEVICE} mtu {self.mtu}\n"
            f"{addresses}\nip link set {DEVICE} up",
        )

    def _start_service(self) -> None:
        self._starts += 1
        start = f"systemd-run --quiet --collect --unit=wg-test-{self._starts} --setenv=WONTUN_LOG_LEVEL=debug"
        run(self.machine, f"{start} wontun --config {self._file('conf')}")
        has_address = f"ip -4 address show dev {DEVICE} up 2>&1 | grep -q 'inet {self.address4}/'"
        wait(self.machine, f"{has_address} && wg show {DEVICE} >/dev/null 2>&1", "wontun --config is ready")

    def stop(self) -> None:
        """Takes the device away, as each kind is ended: by a signal, or by `ip link del`."""
        if self.kind != FILE:
            run(self.machine, f"ip link delete {DEVICE}")
        else:
            run(self.machine, f"systemctl stop wg-test-{self._starts}")
            # Its routes, rules and firewall go with it.
            left = run(self.machine, _NETWORK)
            assert not re.search(f"{DEVICE}|{PORT}|wontun", left), left
        gone = f"[[ ! -e /sys/class/net/{DEVICE} ]] && ! pidof wontun >/dev/null"
        wait(self.machine, gone, "the end is gone, and its process")

    def _file(self, suffix: str) -> str:
        return f"/run/wg-test/{DEVICE}.{suffix}"

    def _write(self, suffix: str, text: str) -> None:
        path = self._file(suffix)
        run(self.machine, f"umask 077; mkdir -p /run/wg-test; printf %s {shlex.quote(text)} >{path}")

    def set(self, arguments: str) -> None:
        """`wg set`."""
        run(self.machine, f"wg set {DEVICE} {arguments}")

    def set_peer(self, arguments: str) -> None:
        """`wg set` for the peer."""
        self.set(f"peer {self.peer.public} {arguments}")

    def set_private_key(self, keys: Keys) -> None:
        """Changes our key live."""
        self._write("key", keys.private)
        self.set(f"private-key {self._file('key')}")
        self.keys = keys

    def replace_peer(self, public: str) -> None:
        """The other end, which is where it was, has a new key."""
        endpoint, old = self.endpoint(), self.peer.public
        self.peer.public = public
        self._add_peer(old, endpoint)

    def set_preshared_key(self, key: str) -> None:
        """Changes the preshared key live; an empty one is none."""
        self._write("psk", key)
        self.set_peer(f"preshared-key {self._file('psk')}")
        self._has_preshared_key = bool(key)

    def begin_anew(self, endpoint: str = "", after: str = ":") -> None:
        """Removes the peer and adds it again, where it is or elsewhere, once the command `after` has ended: the next
        packet opens a handshake."""
        self._add_peer(self.peer.public, endpoint or self.endpoint(), after)

    def _add_peer(self, old: str, endpoint: str, after: str = ":") -> None:
        arguments = f"{self.peer.arguments()} endpoint {endpoint}"
        if self._has_preshared_key:
            arguments += f" preshared-key {self._file('psk')}"
        run(self.machine, f"{after}\nwg set {DEVICE} peer {old} remove\nwg set {DEVICE} {arguments}")

    @property
    def address4(self) -> str:
        """Inside the tunnel."""
        return self.addresses[0].split("/")[0]

    @property
    def address6(self) -> str:
        """Inside the tunnel."""
        return self.addresses[1].split("/")[0]

    def ping(self, *addresses: str, options: str = "-c 1 -W 20") -> str:
        """The output of pings through the tunnel that must be answered, one after the other."""
        return run(self.machine, "\n".join(f"ping -n {options} {address}" for address in addresses))

    def transfer(self) -> Transfer:
        """What the peer was sent, and what came from it."""
        received, sent = run(self.machine, f"wg show {DEVICE} transfer").split()[1:]
        return Transfer(int(received), int(sent))

    def endpoint(self) -> str:
        """Where the peer is."""
        return run(self.machine, self.SHOW_ENDPOINT).strip()

    def last_handshake(self) -> int:
        """Seconds since 1970."""
        return int(run(self.machine, f"wg show {DEVICE} latest-handshakes").split()[1])

    def drops(self) -> dict[str, int]:
        """Those of wontun that are not 0, by reason."""
        tunnel = json.loads(run(self.machine, f"wontun show {DEVICE} --json"))["tunnels"][0]
        return {reason: count for reason, count in tunnel["dropped"].items() if count}


@dataclass(frozen=True)
class PingStatistics:
    """What ping says in the end."""

    sent: int
    received: int
    duplicates: int
    average_ms: float

    @classmethod
    def parse(cls, output: str) -> "PingStatistics":
        """Reads the last lines."""
        counts = re.search(r"(\d+) packets transmitted, (\d+) received(?:, \+(\d+) duplicates)?", output)
        times = re.search(r"= [\d.]+/([\d.]+)/", output)
        assert counts is not None and times is not None, output
        return cls(int(counts[1]), int(counts[2]), int(counts[3] or 0), float(times[1]))

"""What nft(8) sees of a tunnel: lengths of outer packets, and congestion marks of outer and inner ones."""

import json

from machine import Machine
from wireguard_end import CARD, DEVICE, PORT, run

# ECN as nft calls it, in the order of the bits' value (RFC 3168).
MARKS = ("not-ect", "ect1", "ect0", "ce")
# The kernel joins datagrams for a socket that takes several at once (UDP_GRO) before nft sees them. ETHTOOL_SGRO of
# SIOCETHTOOL, from perl, which Debian has everywhere.
_SET_GRO = f"""perl -MSocket -e 'socket my $socket, PF_INET, SOCK_DGRAM, 0 or die;
my $value = pack "LL", 0x2c, VALUE; my $request = pack "a16p", "{CARD}", $value;
ioctl $socket, 0x8946, $request or die "GRO: $!"'"""
WHERE = ("outer", "inner")


def _counter(where: str, mark: str) -> str:
    return f"{where}_{mark.replace('-', '_')}"


def _count(where: str) -> str:
    return "\n".join(f"{ip} ecn {mark} counter name {_counter(where, mark)}" for ip in ("ip", "ip6") for mark in MARKS)


class Watch:
    """Watches a machine for as long as it is entered."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def __enter__(self) -> "Watch":
        counters = "\n".join(f"counter {_counter(where, mark)} {{}}" for where in WHERE for mark in MARKS)
        # The wire is seen before fragments are put together; a fragment has no port, or another length than expected.
        rules = f"""table inet watch {{
            {counters}
            set lengths {{ typeof meta length; size 4096; flags dynamic; }}
            chain seen {{
                update @lengths {{ meta length }}
                {_count("outer")}
            }}
            chain wire {{
                type filter hook prerouting priority -450;
                iifname {CARD} udp dport {PORT} jump seen
            }}
            chain asked {{
                {_count("inner")}
            }}
            chain inside {{
                type filter hook input priority 0;
                iifname {DEVICE} icmp type echo-request jump asked
                iifname {DEVICE} icmpv6 type echo-request jump asked
            }}
        }}"""
        run(self._machine, f"{_SET_GRO.replace('VALUE', '0')}\nnft -f - <<'END'\n{rules}\nEND")
        return self

    def __exit__(self, *_error: object) -> None:
        run(self._machine, f"nft delete table inet watch\n{_SET_GRO.replace('VALUE', '1')}")

    def lengths(self) -> set[int]:
        """Those of the tunnel's IP packets that arrived."""
        listed = json.loads(run(self._machine, "nft --json list set inet watch lengths"))["nftables"]
        return {int(length) for entry in listed if "set" in entry for length in entry["set"].get("elem", [])}

    def take_marks(self) -> dict[str, tuple[int, ...]]:
        """How many packets came with each mark since this was last asked: outer ones, and pings inside."""
        listed = json.loads(run(self._machine, "nft --json reset counters table inet watch"))["nftables"]
        counted = {entry["counter"]["name"]: entry["counter"]["packets"] for entry in listed if "counter" in entry}
        return {where: tuple(counted[_counter(where, mark)] for mark in MARKS) for where in WHERE}


class CongestedWire:
    """Marks all that a machine sends over the wire to the tunnel's other end as congested, as a router would."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def __enter__(self) -> None:
        rules = f"""table inet congestion {{
            chain wire {{
                type filter hook output priority 0;
                oifname {CARD} udp dport {PORT} ip ecn set ce
                oifname {CARD} udp dport {PORT} ip6 ecn set ce
            }}
        }}"""
        run(self._machine, f"nft -f - <<'END'\n{rules}\nEND")

    def __exit__(self, *_error: object) -> None:
        run(self._machine, "nft delete table inet congestion")

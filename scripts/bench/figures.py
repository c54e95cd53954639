"""The figures that are taken of each tunnel, and what several rounds make of them."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One column of the table: `key` names it in the JSON, `title` and `unit` head it, `meaning` explains it.

    `more_is_better` is None where the figure judges the machine and not the tunnel.
    """

    key: str
    title: str
    unit: str
    more_is_better: bool | None
    meaning: str


FIGURES = (
    Figure("tcp", "TCP", "Gbit/s", True, "received payload of one stream from the client to the server"),
    Figure("tcp_reverse", "TCP back", "Gbit/s", True, "received payload of one stream from the server to the client"),
    Figure("tcp_4", "4 × TCP", "Gbit/s", True, "received payload of four concurrent streams from the client to the server"),
    Figure("cpu", "CPU", "s/GB", False, "user and system time of both daemons for 10⁹ bytes of the first column's stream"),
    Figure("udp", "64-byte UDP", "kpps", True, "packets that the server received, in thousands per second"),
    Figure("ping", "Ping, idle", "ms", False, "median round-trip time of an otherwise idle tunnel"),
    Figure("ping_loaded", "Ping, loaded", "ms", False, "median round-trip time during one TCP stream in the same direction"),
    Figure("memory", "Memory", "MiB", False, "peak resident set of the larger daemon after all loads (`VmHWM`)"),
    Figure(
        *("steal", "Steal", "%", None),
        "share of all CPUs' time that the hypervisor took: where it is high, the throughput is not reliable",
    ),
)

FIGURE = {figure.key: figure for figure in FIGURES}


@dataclass(frozen=True)
class Spread:
    """What several rounds gave."""

    median: float
    low: float
    high: float


def spread(values: list[float]) -> Spread:
    """Of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def spreads(result: dict) -> dict[str, dict[str, Spread]]:
    """By tunnel and figure, from a result as main.py writes it; what was never measured is left out."""
    found: dict[str, dict[str, list[float]]] = {tunnel["name"]: {} for tunnel in result["tunnels"]}
    for run in result["runs"]:
        for key, value in run.get("figures", {}).items():
            if value is not None:
                found[run["tunnel"]].setdefault(key, []).append(value)
    return {name: {key: spread(values) for key, values in by_key.items()} for name, by_key in found.items()}


def digits(value: float) -> str:
    """The value with three significant digits, and never an exponent: 0.0123, 1.23, 12.3, 123, 1234."""
    if value == 0:
        return "0"
    places = 2 - math.floor(math.log10(abs(value)))
    # What rounds up to the next power of ten has a digit too many: 0.9996 is 1.00.
    places = 2 - math.floor(math.log10(abs(round(value, places))))
    return f"{value:.{max(0, min(places, 4))}f}"

"""Measures tunnels side by side, in interleaved rounds, and writes what came out; scripts/bench.sh calls it.

It must be root, in mount and process namespaces of its own, with /run/netns and /var/run/wireguard to itself.
With --needs it only checks its arguments and names the programs that it would need and was not given. --commit tells
what --wontun was built from. bench.sh alone uses these two.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import forward
import one_end
from figures import FIGURE, digits
from hosts import Pair, Trouble
from machine import describe_machine, describe_tools, describe_tunnel
from measure import measure
from plot import plot
from report import report
from tunnels import FOREIGN, Tunnel

REPOSITORY = Path(__file__).resolve().parents[2]


class Parser(argparse.ArgumentParser):
    """bench.sh has the help."""

    def error(self, message: str) -> None:
        raise SystemExit(f"bench.sh: {message}; see --help")


def whole(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,3}", text):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 9999, not '{text}'")
    return int(text)


def program(text: str) -> str:
    found = shutil.which(text)
    if not found:
        raise argparse.ArgumentTypeError(f"'{text}' is no program that can be run")
    return os.path.abspath(found)


def variant(text: str) -> Tunnel:
    """NAME=[BINARY][:OPTIONS]; without a binary it is --wontun's."""
    name, equals, rest = text.partition("=")
    binary, _, options = rest.partition(":")
    if not equals or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,19}", name):
        raise argparse.ArgumentTypeError(f"expected NAME=[BINARY][:OPTIONS], letters and digits for NAME, not '{text}'")
    try:
        return Tunnel(name, "wontun", program(binary) if binary else None, tuple(shlex.split(options)))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"the options in '{text}' cannot be split: {error}") from error


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(prog="bench.sh", add_help=False, allow_abbrev=False, usage=argparse.SUPPRESS)
    parser.add_argument("--needs", action="store_true")
    parser.add_argument("--commit", default="")
    parser.add_argument("--one-end", action="store_true")
    parser.add_argument("--forward", action="store_true")
    parser.add_argument("--clients", type=whole, default=50)
    parser.add_argument("--redraw", type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=whole, default=5)
    parser.add_argument("--secs", type=whole, default=5)
    parser.add_argument("--only", metavar="LIST")
    parser.add_argument("--variant", type=variant, action="append", default=[])
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs/src/development", metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE")
    for name in ("wontun", *FOREIGN):
        parser.add_argument(f"--{name}", type=program, metavar="BINARY")
    parsed = parser.parse_args(arguments)
    parsed.tunnels = chosen(parser, parsed)
    if parsed.one_end:
        parsed.tunnels = one_end.with_workers(parsed.tunnels, (1, 2))
        if not parsed.tunnels:
            parser.error("--one-end: it measures wontun and its variants, and --only names none of them")
    if parsed.forward:
        parsed.tunnels = [tunnel for tunnel in parsed.tunnels if tunnel.kind == "wontun"]
        if not parsed.tunnels:
            parser.error("--forward: it measures wontun and its variants, and --only names none of them")
        if not 2 < parsed.clients <= 200:
            parser.error("--clients: expected 3 to 200")
    return parsed


def chosen(parser: Parser, parsed: argparse.Namespace) -> list[Tunnel]:
    """The rows, in the order in which each round takes them; a binary that is not known yet is left out."""
    given = vars(parsed)
    tunnels = [Tunnel("veth", "veth")]
    for own in (Tunnel("wontun", "wontun"), *parsed.variant):
        binary = own.binary or parsed.wontun
        tunnels.append(Tunnel(own.name, "wontun", binary, own.options))
        tunnels.append(Tunnel(f"{own.name}-plain", "plain", binary, own.options))
    tunnels += [Tunnel(name, name, given[name.replace("-", "_")]) for name in FOREIGN]
    names = [tunnel.name for tunnel in tunnels]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        parser.error(f"--variant: the name '{twice[0]}' is taken")
    if parsed.only is None:
        return tunnels
    wanted = parsed.only.split(",")
    unknown = [name for name in wanted if name not in names]
    if unknown:
        parser.error(f"--only: '{unknown[0]}' is none of {', '.join(names)}")
    return [tunnel for tunnel in tunnels if tunnel.name in wanted]


def needs(tunnels: list[Tunnel]) -> list[str]:
    """The programs to get, each once."""
    kinds = {"plain": "wontun"}
    return sorted({kinds.get(t.kind, t.kind) for t in tunnels if t.binary is None and t.kind != "veth"})


def take_rounds(tunnels: list[Tunnel], rounds: int, seconds: int) -> list[dict]:
    """A B C A B C …, each between two new hosts; a run that fails says why and holds up nobody."""
    width = max(len(tunnel.name) for tunnel in tunnels)
    runs = []
    for number in range(1, rounds + 1):
        for tunnel in tunnels:
            taken = {"round": number, "tunnel": tunnel.name}
            with tempfile.TemporaryDirectory() as folder:
                try:
                    with Pair(Path(folder)) as pair:
                        taken |= measure(tunnel, pair, tunnel.start(pair), seconds)
                    said = summary(taken["figures"])
                except (Trouble, OSError) as error:
                    taken["error"] = str(error)
                    said = f"FAILED: {error}"
            runs.append(taken)
            print(f"round {number} of {rounds}  {tunnel.name:{width}}  {said}", flush=True)
    return runs


def summary(figures: dict[str, float | None]) -> str:
    """One run on one line."""
    known = [(FIGURE[key], value) for key, value in figures.items() if value is not None]
    return "; ".join(f"{figure.title} {digits(value)} {figure.unit}" for figure, value in known)


def write(path: Path, text: str) -> None:
    """As the folder's owner would have, whole or not at all."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    owner = path.parent.stat()
    if os.geteuid() == 0:
        os.chown(new, owner.st_uid, owner.st_gid)
    new.replace(path)
    print(f"wrote {path}", flush=True)


def folder_for(path: Path) -> None:
    """Makes the folder, so that nothing is measured for a place that cannot be written."""
    try:
        if not path.is_dir():
            path.mkdir()
            owner = path.parent.stat()
            if os.geteuid() == 0:
                os.chown(path, owner.st_uid, owner.st_gid)
    except OSError as error:
        raise SystemExit(f"bench.sh: the folder {path} cannot be made: {error.strerror}") from error
    if not os.access(path, os.W_OK):
        raise SystemExit(f"bench.sh: the folder {path} cannot be written")


def write_pages(result: dict, output: Path) -> None:
    write(output / "bench.svg", plot(result))
    write(output / "benchmarks.md", report(result, "bench.svg"))


def redraw(source: Path, output: Path) -> None:
    """The table and the drawing of an earlier run."""
    try:
        result = json.loads(source.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SystemExit(f"bench.sh: --redraw {source}: {error}") from error
    if not isinstance(result, dict) or result.get("format") != 1:
        raise SystemExit(f"bench.sh: --redraw {source}: this is no result of bench.sh")
    folder_for(output)
    write_pages(result, output)


def main(arguments: list[str]) -> int:
    parsed = parse(arguments)
    if parsed.needs:
        print(*needs(parsed.tunnels), sep="\n")
        return 0
    if parsed.redraw:
        redraw(parsed.redraw, parsed.output)
        return 0
    if parsed.one_end or parsed.forward:
        return print_table(parsed)
    saved = parsed.json or parsed.output / "bench.json"
    folder_for(parsed.output)
    folder_for(saved.parent)
    began = datetime.datetime.now(datetime.timezone.utc)
    result = {
        "format": 1,
        "date": began.isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "tools": describe_tools(),
        "rounds": parsed.rounds,
        "seconds": parsed.secs,
        "tunnels": [describe_tunnel(tunnel) for tunnel in parsed.tunnels],
    }
    for tunnel, described in zip(parsed.tunnels, result["tunnels"]):
        if parsed.commit and tunnel.binary == parsed.wontun:
            described["commit"] = parsed.commit
    result["runs"] = take_rounds(parsed.tunnels, parsed.rounds, parsed.secs)
    failed = sum("error" in run for run in result["runs"])
    if failed == len(result["runs"]):
        raise SystemExit("bench.sh: every run failed, nothing was written")
    write(saved, json.dumps(result, indent=1) + "\n")
    write_pages(result, parsed.output)
    if failed:
        print(f"bench.sh: {failed} of {len(result['runs'])} runs failed", file=sys.stderr)
    return 1 if failed else 0


def print_table(parsed: argparse.Namespace) -> int:
    """Prints the table of one end, or of forwarding, and writes the runs if a file is named."""
    if parsed.json:
        folder_for(parsed.json.parent)
    if parsed.forward:
        runs = forward.take_rounds(parsed.tunnels, parsed.rounds, parsed.secs, parsed.clients)
        print(forward.table(runs))
    else:
        runs = one_end.take_rounds(parsed.tunnels, parsed.rounds, parsed.secs)
        print(one_end.table(runs))
    if parsed.json:
        write(parsed.json, json.dumps({"machine": describe_machine(), "runs": runs}, indent=1) + "\n")
    return 1 if any("error" in run for run in runs) else 0


def stop(number: int, _frame: object) -> None:
    """So that what is open is closed on the way out."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    for each in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(each, stop)
    try:
        sys.exit(main(sys.argv[1:]))
    except Trouble as error:
        sys.exit(f"bench.sh: {error}")

"""The table: a result as Markdown."""

from __future__ import annotations

from figures import FIGURES, Figure, Spread, digits, spreads
from tunnels import FOREIGN, PLAIN_MTU, WIREGUARD_MTU

RATIOS = [figure for figure in FIGURES if figure.more_is_better is not None]


def report(result: dict, plot: str) -> str:
    """The whole page; `plot` is the name of the drawing beside it."""
    parts = [
        "# wontun beside other tunnels",
        f"One run of `scripts/bench.sh` on {day(result)}: {machine(result)}.",
        f"![Throughput of one TCP stream, and CPU seconds a gigabyte]({plot})",
        "## Figures",
        figures_table(result),
        "\n".join(f"- **{figure.title}** ({figure.unit}): {figure.meaning}." for figure in FIGURES),
    ]
    ratios = ratios_table(result)
    if ratios:
        parts += ["## Ratios", RATIOS_TEXT, ratios]
    parts += ["## How it was measured", method(result), programs_table(result)]
    parts += ["## How to repeat it", repeat(result)]
    failed = [run for run in result["runs"] if "error" in run]
    if failed:
        parts += ["## What failed", "\n".join(f"- {failure(result, run)}" for run in failed)]
    return "\n\n".join(parts) + "\n"


RATIOS_TEXT = (
    "wontun's median divided by the other's. Above 1 is better for throughput and packets, below 1 for the rest. *The "
    "best of them* is, figure by figure, the best of those that are compared with."
)


def day(result: dict) -> str:
    """The date without the time."""
    return result["date"].split("T")[0]


def machine(result: dict) -> str:
    """In a few words, for a sentence."""
    known = result["machine"]
    kind = "virtual " if known["virtual"] else ""
    cores = f"{known['cores']} {kind}core{'s' * (known['cores'] != 1)}"
    return f"{known['cpu']}, {cores}, {known['kernel']}, {known['system']}"


def method(result: dict) -> str:
    """How the figures came about."""
    rounds, seconds, tools = result["rounds"], result["seconds"], result["tools"]
    return f"""\
- {rounds} round{"s" * (rounds != 1)}, each load for {seconds} s, interleaved: each round takes every tunnel once, so that
  a drift of the machine meets all alike. Medians, and in brackets the least and the most.
- Two network namespaces are the hosts, a veth pair is the cable. Both daemons, the kernel and the measuring programs
  share the same cores: what the daemons leave of those limits the throughput.
- TCP with cubic. The MTU is {WIREGUARD_MTU} for WireGuard and {PLAIN_MTU} for the plain protocol, which does not encrypt.
- Everything runs as it comes, but that the others log errors only, and that boringtun, whose default is four threads,
  is told to take as many as there are cores, like the rest.
- CPU time is what the kernel charges to the daemons' processes. What it does for packets on its own account is not in
  it.
- Measured with iperf3 {tools["iperf3"]} and ping of {tools["ping"]}."""


def row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def table(heads: list[str], rows: list[list[str]], column: str = "---:") -> str:
    """All columns but the first aligned as `column` says, to the right unless told."""
    return "\n".join([row(heads), row(["---"] + [column] * (len(heads) - 1)), *map(row, rows)])


def figures_table(result: dict) -> str:
    """Every tunnel, every figure."""
    by_name = spreads(result)
    rows = []
    for tunnel in result["tunnels"]:
        taken = sum(run["tunnel"] == tunnel["name"] and "error" not in run for run in result["runs"])
        title = tunnel["title"]
        if taken < result["rounds"]:
            title += f" ({taken} of {result['rounds']} rounds)"
        rows.append([title] + [cell(by_name[tunnel["name"]].get(figure.key)) for figure in FIGURES])
    return table(["", *(f"{figure.title}, {figure.unit}" for figure in FIGURES)], rows)


def cell(spread: Spread | None) -> str:
    if spread is None:
        return "–"
    if spread.low == spread.high:
        return digits(spread.median)
    return f"{digits(spread.median)} ({digits(spread.low)}–{digits(spread.high)})"


def ratios_table(result: dict) -> str:
    """Each of our own against each of the others; empty when one of the two is missing."""
    by_name = spreads(result)
    own = [tunnel for tunnel in result["tunnels"] if tunnel["kind"] in ("wontun", "plain") and by_name[tunnel["name"]]]
    others = [tunnel for tunnel in result["tunnels"] if tunnel["kind"] in FOREIGN and by_name[tunnel["name"]]]
    rows = []
    for tunnel in own:
        ours = by_name[tunnel["name"]]
        for other in others:
            rows.append(ratio_row(f"{tunnel['title']} ÷ {other['title']}", ours, [by_name[other["name"]]]))
        if len(others) > 1:
            theirs = [by_name[other["name"]] for other in others]
            rows.append(ratio_row(f"{tunnel['title']} ÷ *the best of them*", ours, theirs))
    return table(["", *(figure.title for figure in RATIOS)], rows) if rows else ""


def ratio_row(title: str, ours: dict[str, Spread], theirs: list[dict[str, Spread]]) -> list[str]:
    return [title, *(ratio(figure, ours, theirs) for figure in RATIOS)]


def ratio(figure: Figure, ours: dict[str, Spread], theirs: list[dict[str, Spread]]) -> str:
    """Of the medians; of several others the best counts."""
    medians = [their[figure.key].median for their in theirs if figure.key in their]
    if figure.key not in ours or not medians:
        return "–"
    best = max(medians) if figure.more_is_better else min(medians)
    return f"{digits(ours[figure.key].median / best)} ×" if best > 0 else "–"


def programs_table(result: dict) -> str:
    """Versions, options, and the hash that tells builds of one version apart."""
    rows = [
        [tunnel["title"], version(tunnel), code(" ".join(tunnel["options"])), code(tunnel["sha256"][:12])]
        for tunnel in result["tunnels"]
        if "version" in tunnel
    ]
    return table(["", "Version", "Options besides", "SHA-256 begins"], rows, "---")


def version(tunnel: dict) -> str:
    """The version, and where it is known the commit."""
    return tunnel["version"] + (f", commit {tunnel['commit']}" if tunnel.get("commit") else "")


def code(text: str) -> str:
    """Set as code, in a cell of a table."""
    return "`" + text.replace("|", "\\|") + "`" if text else ""


def repeat(result: dict) -> str:
    return (
        f"    scripts/bench.sh --rounds {result['rounds']} --secs {result['seconds']}\n\n"
        "as root, on a machine that does nothing else. It builds wontun and what it compares with, and writes this "
        "page, the drawing, and a JSON file with every single measurement; `scripts/bench.sh --help` tells how to choose "
        "the programs, and how to put two builds of wontun side by side."
    )


def failure(result: dict, run: dict) -> str:
    """One run that gave no figures, on one line."""
    title = next(tunnel["title"] for tunnel in result["tunnels"] if tunnel["name"] == run["tunnel"])
    return f"Round {run['round']}, {title}: {' '.join(run['error'].split())}"

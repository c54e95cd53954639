"""The table: a result as Markdown."""

from __future__ import annotations

import textwrap

from figures import FIGURES, Figure, Spread, digits, spreads
from tunnels import FOREIGN, PLAIN_MTU, WIREGUARD_MTU

RATIOS = [figure for figure in FIGURES if figure.more_is_better is not None]


def report(result: dict, plot: str) -> str:
    """The whole page; `plot` is the name of the drawing beside it."""
    parts = [
        "# Benchmarks",
        wrapped(PURPOSE),
        wrapped(f"One run of `scripts/bench.sh` on {day(result)}: {machine(result)}."),
        f"![Throughput of one TCP stream, and CPU seconds a gigabyte]({plot})",
        "## Figures",
        figures_table(result),
        "\n".join(item(f"**{figure.title}** ({figure.unit}): {figure.meaning}.") for figure in FIGURES),
    ]
    ratios = ratios_table(result)
    if ratios:
        parts += ["## Ratios", wrapped(RATIOS_TEXT), ratios]
    parts += ["## Method", method(result), programs_table(result)]
    parts += ["## Repeating the run", repeat(result)]
    failed = [run for run in result["runs"] if "error" in run]
    if failed:
        parts += ["## Failed runs", "\n".join(f"- {failure(result, run)}" for run in failed)]
    return "\n\n".join(parts) + "\n"


PURPOSE = (
    "This page compares the speed, CPU time and memory of wontun with those of other WireGuard programs in user space. "
    "`scripts/bench.sh` writes it."
)

RATIOS_TEXT = (
    "wontun's median divided by the other program's. Values above 1 are better for throughput and packets, values below "
    "1 for the other columns. The rows *the best of the others* take the best value of each column."
)


def wrapped(text: str) -> str:
    """Lines of at most 100 columns."""
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def item(text: str) -> str:
    """An entry of a list, as lines of at most 100 columns."""
    return textwrap.fill(
        text, 100, initial_indent="- ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
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
    entries = (
        f"{rounds} round{'s' * (rounds != 1)}, {seconds} s for each load. Rounds are interleaved: each measures every tunnel "
        "once, so that a drift of the machine affects all of them. The tables show medians, with minimum and maximum in "
        "parentheses.",
        "The two hosts are network namespaces, connected by a veth pair. Both daemons, the kernel and the measuring "
        "programs share the same cores, so the CPU time that they take limits the throughput.",
        f"TCP uses cubic. The MTU is {WIREGUARD_MTU} for WireGuard and {PLAIN_MTU} for the plain protocol, which does not "
        "encrypt.",
        "All programs run with their defaults, except that the other programs log errors only, and that boringtun, whose "
        "default is four threads, is told to use as many threads as there are cores.",
        "CPU time is what the kernel charges to the daemons' processes. Work that the kernel does for packets outside of "
        "these processes is not included.",
        f"Measured with iperf3 {tools['iperf3']} and ping of {tools['ping']}.",
    )
    return "\n".join(map(item, entries))


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
            rows.append(ratio_row(f"{tunnel['title']} ÷ *the best of the others*", ours, theirs))
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
    return table(["", "Version", "Additional options", "SHA-256 (beginning)"], rows, "---")


def version(tunnel: dict) -> str:
    """The version, and where it is known the commit."""
    return tunnel["version"] + (f", commit {tunnel['commit']}" if tunnel.get("commit") else "")


def code(text: str) -> str:
    """Set as code, in a cell of a table."""
    return "`" + text.replace("|", "\\|") + "`" if text else ""


def repeat(result: dict) -> str:
    return f"    scripts/bench.sh --rounds {result['rounds']} --secs {result['seconds']}\n\n" + wrapped(
        "Run it as root, on a machine that does nothing else. It builds wontun and the programs that it is compared "
        "with, and writes this page, the drawing, and a JSON file with every measurement. `scripts/bench.sh --help` "
        "describes how to choose the programs, and how to compare two builds of wontun."
    )


def failure(result: dict, run: dict) -> str:
    """One run that gave no figures, on one line."""
    title = next(tunnel["title"] for tunnel in result["tunnels"] if tunnel["name"] == run["tunnel"])
    return f"Round {run['round']}, {title}: {' '.join(run['error'].split())}"

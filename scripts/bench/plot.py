"""The drawing: throughput and CPU time as bars, in SVG, readable on light and on dark pages."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from xml.sax.saxutils import escape

from figures import FIGURE, Figure, Spread, digits, spreads
from report import day, machine

WIDTH = 920
MARGIN = 24
NAMES = 180  # for the names on the left
GAP = 40  # between the two charts
VALUE = 52  # right of the longest bar, for its value
HEAD = 92  # above the first bar
ROW = 34
BAR = 18
FOOT = 30  # between the last bar and the notes
LINE = 17
NOTE = 136  # letters in a line of the notes
CHART = (WIDTH - 2 * MARGIN - NAMES - GAP) / 2

# Its own background, so that text is readable whatever the page around it does about dark mode. Plain rules and no
# variables: what knows no dark mode shows the light one.
STYLE = """
  text { font: 14px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
  .page { fill: #ffffff; }
  .title { font-weight: 600; }
  .faint { font-size: 12px; fill: #59636e; }
  .value { stroke: #ffffff; stroke-width: 4px; stroke-linejoin: round; paint-order: stroke; }
  .right { text-anchor: end; }
  .middle { text-anchor: middle; }
  .grid { stroke: #d1d9e0; }
  .own { fill: #0969da; }
  .variant { fill: #80b3f0; }
  .other { fill: #8c959f; }
  .range { stroke: #1f2328; stroke-width: 1.5px; fill: none; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; }
    .page { fill: #0d1117; }
    .faint { fill: #9198a1; }
    .value { stroke: #0d1117; }
    .grid { stroke: #3d444d; }
    .own { fill: #4493f8; }
    .variant { fill: #25599b; }
    .other { fill: #768390; }
    .range { stroke: #f0f6fc; }
  }
"""


@dataclass(frozen=True)
class Bar:
    """One tunnel: its title, the class that colours it, and what was measured."""

    title: str
    look: str
    by_key: dict[str, Spread]


def plot(result: dict) -> str:
    """The whole file."""
    bars = bars_of(result)
    notes = footnotes(result)
    foot = HEAD + ROW * len(bars) + FOOT
    height = foot + LINE * len(notes) + 10
    left = MARGIN + NAMES
    shapes = [f'<rect class="page" width="{WIDTH}" height="{height}" rx="8"/>']
    for index, bar in enumerate(bars):
        shapes.append(text(left - 12, middle(index) + 5, bar.title, "right"))
    shapes += chart(left, FIGURE["tcp"], "Throughput, one TCP stream", "more is better", bars)
    shapes += chart(left + CHART + GAP, FIGURE["cpu"], "CPU time of both ends", "less is better", bars)
    for index, line in enumerate(notes):
        shapes.append(text(MARGIN, foot + LINE * index, line, "faint"))
    description = "; ".join(described(bar) for bar in bars)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            'role="img" aria-labelledby="title description">',
            '<title id="title">wontun beside other tunnels</title>',
            f'<desc id="description">{escape(description)}</desc>',
            f"<style>{STYLE}</style>",
            *shapes,
            "</svg>",
            "",
        ]
    )


def bars_of(result: dict) -> list[Bar]:
    """WireGuard first, ours before the others, then the plain protocol; the bare cable would dwarf them all."""
    by_name = spreads(result)

    def order(tunnel: dict) -> int:
        return {"wontun": 0, "plain": 2}.get(tunnel["kind"], 1)

    bars = []
    for tunnel in sorted(result["tunnels"], key=order):
        if tunnel["kind"] != "veth" and by_name[tunnel["name"]]:
            ours = {"wontun": "own", "wontun-plain": "own"}.get(tunnel["name"], "variant")
            look = ours if tunnel["kind"] in ("wontun", "plain") else "other"
            bars.append(Bar(tunnel["title"], look, by_name[tunnel["name"]]))
    return bars


def middle(index: int) -> float:
    """The height at which a row has its middle."""
    return HEAD + ROW * (index + 0.5)


def chart(left: float, figure: Figure, title: str, hint: str, bars: list[Bar]) -> list[str]:
    """One figure of all bars, on a scale of its own that begins at 0."""
    highest = max((bar.by_key[figure.key].high for bar in bars if figure.key in bar.by_key), default=1.0)
    step = tick(highest)
    scale = (CHART - VALUE) / highest
    bottom = HEAD + ROW * len(bars)
    shapes = [
        text(left, MARGIN + 14, title, "title"),
        text(left, MARGIN + 33, f"{figure.unit}, {hint}", "faint"),
    ]
    for count in range(int(highest / step + 1e-9) + 1):
        x = left + count * step * scale
        shapes.append(f'<line class="grid" x1="{x:.1f}" y1="{HEAD - 4}" x2="{x:.1f}" y2="{bottom}"/>')
        shapes.append(text(x, HEAD - 10, f"{count * step:g}", "faint middle"))
    for index, bar in enumerate(bars):
        if figure.key in bar.by_key:
            shapes += one_bar(left, middle(index), scale, bar.by_key[figure.key], bar.look)
    return shapes


def one_bar(left: float, y: float, scale: float, spread: Spread, look: str) -> list[str]:
    """The median as a bar, the spread as a line over its end, the median in figures behind both."""
    low, high = left + spread.low * scale, left + spread.high * scale
    width = max(1.0, spread.median * scale)
    shapes = [f'<rect class="{look}" x="{left:.1f}" y="{y - BAR / 2:.1f}" width="{width:.1f}" height="{BAR}" rx="2"/>']
    if high - low > 1:
        shapes.append(f'<path class="range" d="M{low:.1f} {y - 4:.1f}v8m0 -4H{high:.1f}m0 -4v8"/>')
    shapes.append(text(max(high, left + width) + 7, y + 5, digits(spread.median), "value"))
    return shapes


def tick(highest: float) -> float:
    """A round distance between grid lines, of which there are two to five."""
    power = 10.0 ** math.floor(math.log10(highest / 2))
    return next(step for step in (5 * power, 2 * power, power) if highest / step >= 2)


def text(x: float, y: float, content: str, look: str) -> str:
    return f'<text class="{look}" x="{x:.1f}" y="{y:.1f}">{escape(content)}</text>'


def footnotes(result: dict) -> list[str]:
    """What must be known to read it."""
    rounds = result["rounds"]
    first = f"Medians of {rounds} interleaved rounds, lines from the least to the most." if rounds > 1 else "One round."
    if any(tunnel["kind"] == "plain" for tunnel in result["tunnels"]):
        first += " The plain protocol does not encrypt."
    by_name = spreads(result)
    for tunnel in result["tunnels"]:
        if tunnel["kind"] == "veth" and "tcp" in by_name[tunnel["name"]]:
            first += f" Without a tunnel: {digits(by_name[tunnel['name']]['tcp'].median)} Gbit/s."
    second = f"{day(result)}: {machine(result)}; shared by both ends and iperf3."
    return [line for note in (first, second) for line in textwrap.wrap(note, NOTE)]


def described(bar: Bar) -> str:
    """A bar in words, for who cannot see it."""
    said = [f"{digits(bar.by_key[key].median)} {FIGURE[key].unit}" for key in ("tcp", "cpu") if key in bar.by_key]
    return f"{bar.title}: {', '.join(said)}"

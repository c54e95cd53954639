"""What is made of measurements: `python3 -m unittest discover scripts/bench`. Needs neither root nor a network."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import main
from figures import FIGURES, Spread, digits, spread, spreads
from measure import cpu_seconds, family, peak_resident_kib, steal_percent
from plot import plot, tick
from report import report

SVG = "{http://www.w3.org/2000/svg}"


def figures(tcp: float, cpu: float | None) -> dict:
    """One run's, of which the tests look at these two."""
    return {figure.key: 1.0 for figure in FIGURES} | {"tcp": tcp, "cpu": cpu, "memory": cpu}


def result() -> dict:
    """Three rounds: ours twice as fast as the best other, at half the CPU time; one run of boringtun failed."""
    tunnels = [
        {"name": "veth", "kind": "veth", "title": "no tunnel", "options": []},
        {"name": "wontun", "kind": "wontun", "title": "wontun, WireGuard", "options": [], "version": "1.2.3"},
        {"name": "old", "kind": "wontun", "title": "old, WireGuard", "options": ["--a|b"], "version": "1"},
        {"name": "wontun-plain", "kind": "plain", "title": "wontun, plain", "options": [], "version": "1.2.3"},
        {"name": "wireguard-go", "kind": "wireguard-go", "title": "wireguard-go", "options": [], "version": "0.0.1"},
        {"name": "boringtun", "kind": "boringtun", "title": "boringtun <&>", "options": [], "version": "0.7"},
    ]
    runs = []
    for number, shift in ((1, -0.1), (2, 0.0), (3, 0.2)):
        for name, tcp, cpu in (
            ("veth", 20, None),
            ("wontun", 4, 3),
            ("old", 1, 12),
            ("wontun-plain", 8, 1),
            ("wireguard-go", 2, 6),
            ("boringtun", 0.5, 24),
        ):
            runs.append({"round": number, "tunnel": name, "figures": figures(tcp + shift, cpu)})
    runs[-1] = {"round": 3, "tunnel": "boringtun", "error": "it\nended"}
    machine = {"kernel": "Linux 6.1", "system": "Debian", "cpu": "A & B", "cores": 2, "virtual": True}
    for tunnel in tunnels[1:]:
        tunnel["sha256"] = "0123456789abcdef"
    return {
        "format": 1,
        "date": "2024-05-06T07:08:09+00:00",
        "machine": machine,
        "tools": {"iperf3": "3.12", "ping": "iputils"},
        "rounds": 3,
        "seconds": 4,
        "tunnels": tunnels,
        "runs": runs,
    }


class Figures(unittest.TestCase):
    def test_three_digits_are_shown(self) -> None:
        for value, expected in (
            (0, "0"), (0.01234, "0.0123"), (0.9996, "1.00"), (1.234, "1.23"), (9.996, "10.0"), (99.96, "100"),
            (123.4, "123"), (1234.5, "1234"), (0.00001, "0.0000"),
        ):
            self.assertEqual(digits(value), expected, value)

    def test_the_spread_is_of_all_rounds(self) -> None:
        self.assertEqual(spread([3.0, 1.0, 2.0]), Spread(2.0, 1.0, 3.0))
        by_name = spreads(result())
        self.assertEqual(by_name["wontun"]["tcp"], Spread(4.0, 3.9, 4.2))
        self.assertEqual(by_name["boringtun"]["tcp"].low, 0.4, "the failed round counts for nothing")
        self.assertNotIn("cpu", by_name["veth"])


class Table(unittest.TestCase):
    def test_medians_spreads_and_ratios_are_in_it(self) -> None:
        page = report(result(), "bench.svg")
        self.assertIn("on 2024-05-06: A & B, 2 virtual cores, Linux 6.1, Debian.", page)
        self.assertIn("| wontun, WireGuard | 4.00 (3.90–4.20) |", page)
        self.assertIn("| wontun, WireGuard ÷ wireguard-go | 2.00 × |", page)
        best = next(line for line in page.splitlines() if line.startswith("| wontun, WireGuard ÷ *the best"))
        self.assertEqual(best.split(" | ")[1], "2.00 ×", "most throughput is best")
        self.assertEqual(best.split(" | ")[4], "0.500 ×", "least CPU time is best")
        self.assertIn("scripts/bench.sh --rounds 3 --secs 4", page)

    def test_what_failed_is_told(self) -> None:
        page = report(result(), "bench.svg")
        self.assertIn("boringtun <&> (2 of 3 rounds)", page)
        self.assertIn("- Round 3, boringtun <&>: it ended\n", page)

    def test_rows_have_as_many_cells_as_their_heads(self) -> None:
        for block in report(result(), "bench.svg").split("\n\n"):
            rows = [line.replace("\\|", "") for line in block.splitlines() if line.startswith("|")]
            self.assertLessEqual(len({line.count("|") for line in rows}), 1, block)

    def test_without_others_there_are_no_ratios(self) -> None:
        alone = result()
        alone["tunnels"] = alone["tunnels"][:4]
        alone["runs"] = [run for run in alone["runs"] if run["tunnel"] in ("veth", "wontun", "old", "wontun-plain")]
        self.assertNotIn("## Ratios", report(alone, "bench.svg"))


class Drawing(unittest.TestCase):
    def test_bars_are_as_long_as_their_medians(self) -> None:
        root = ElementTree.fromstring(plot(result()))
        bars = [shape for shape in root.iter(f"{SVG}rect") if shape.get("class") != "page"]
        self.assertEqual(len(bars), 10, "two for each tunnel, and none for the cable")
        self.assertEqual([bar.get("class") for bar in bars[:5]], ["own", "variant", "other", "other", "own"])
        widths = [float(bar.get("width")) for bar in bars[:5]]
        for width, median in zip(widths, (4, 1, 2, 0.45, 8)):
            self.assertAlmostEqual(width / widths[4], median / 8, places=2)

    def test_nothing_leaves_the_page(self) -> None:
        root = ElementTree.fromstring(plot(result()))
        width, height = float(root.get("width")), float(root.get("height"))
        for shape in root.iter():
            for name, end in (("x", width), ("x2", width), ("y", height), ("y2", height)):
                self.assertLessEqual(float(shape.get(name, 0)), end)

    def test_grid_lines_are_few_and_round(self) -> None:
        for highest, step in ((1.0, 0.5), (1.18, 0.5), (18.4, 5.0), (4.2, 2.0), (99.0, 20.0), (0.03, 0.01)):
            self.assertAlmostEqual(tick(highest), step, msg=str(highest))

    def test_a_result_without_a_single_figure_can_be_drawn(self) -> None:
        empty = result()
        empty["runs"] = []
        ElementTree.fromstring(plot(empty))
        report(empty, "bench.svg")


class Arguments(unittest.TestCase):
    def refused(self, *arguments: str) -> str:
        with self.assertRaises(SystemExit) as caught:
            main.parse(list(arguments))
        return str(caught.exception)

    def test_a_variant_comes_in_both_modes(self) -> None:
        one = f"one={sys.executable}:--workers 1 --x 'a b'"
        parsed = main.parse(["--variant", one, "--only", "one,one-plain,veth"])
        self.assertEqual([tunnel.title() for tunnel in parsed.tunnels], ["no tunnel", "one, WireGuard", "one, plain"])
        self.assertEqual(parsed.tunnels[1].options, ("--workers", "1", "--x", "a b"))
        self.assertEqual(main.needs(parsed.tunnels), [])

    def test_what_was_not_given_is_needed(self) -> None:
        parsed = main.parse(["--gotatun", sys.executable, "--variant", "off=:--offload off"])
        self.assertEqual(main.needs(parsed.tunnels), ["boringtun", "wireguard-go", "wontun"])
        self.assertEqual(main.needs(main.parse(["--only", "wontun-plain"]).tunnels), ["wontun"])

    def test_bad_arguments_are_named(self) -> None:
        for arguments, expected in (
            (["--rounds", "0"], "--rounds: expected a whole number"),
            (["--secs", "x"], "--secs: expected a whole number"),
            (["--only", "wontun,openvpn"], "'openvpn' is none of veth, wontun"),
            (["--wontun", "/no/such/file"], "'/no/such/file' is no program"),
            (["--variant", "wontun=:--x"], "the name 'wontun' is taken"),
            (["--variant", "x"], "expected NAME="),
            (["--variant", "x=:'a"], "cannot be split"),
            (["--frobnicate"], "unrecognized arguments"),
        ):
            self.assertIn(expected, self.refused(*arguments))

    def test_a_result_is_drawn_again(self) -> None:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            source = Path(folder) / "bench.json"
            source.write_text(json.dumps(result()))
            output = Path(folder) / "docs"
            self.assertEqual(main.main(["--redraw", str(source), "--output", str(output)]), 0)
            self.assertEqual(sorted(os.listdir(output)), ["bench.svg", "benchmarks.md"])
            source.write_text("[]")
            with self.assertRaisesRegex(SystemExit, "no result of bench.sh"):
                main.main(["--redraw", str(source), "--output", str(output)])


class Accounts(unittest.TestCase):
    def test_our_own_process_has_used_time_and_memory(self) -> None:
        user, system = cpu_seconds(os.getpid())
        times = os.times()
        self.assertAlmostEqual(user, times.user, delta=0.1)
        self.assertAlmostEqual(system, times.system, delta=0.1)
        self.assertGreater(peak_resident_kib(os.getpid()), 1024)
        self.assertIn(os.getpid(), family(os.getppid()))
        self.assertEqual(cpu_seconds(2**22 + 1), (0.0, 0.0), "there is no such process")

    def test_steal_is_a_share(self) -> None:
        self.assertEqual(steal_percent((100, 10), (300, 60)), 25.0)
        self.assertEqual(steal_percent((100, 10), (100, 10)), 0.0)


if __name__ == "__main__":
    unittest.main()

#!/usr/bin/env python3
"""Runs the comparison several times and prints its table: ns for one packet, the least and the median of the runs.

Usage: compare.py RUNS [ARGUMENT OF CARGO BENCH]..., such as: compare.py 5 --features openssl,ipsec-mb
For a build for this machine alone: RUSTFLAGS=-Ctarget-cpu=native CARGO_TARGET_DIR=target/native compare.py 5
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys

BATCH = 44
HERE = pathlib.Path(__file__).resolve().parent


def main() -> None:
    if len(sys.argv) < 2 or not sys.argv[1].isdigit() or int(sys.argv[1]) < 1:
        sys.exit(__doc__)
    runs = range(int(sys.argv[1]))
    for run in runs:
        command = ["cargo", "bench", *sys.argv[2:], "--", "--noplot", "--quiet", "--save-baseline", f"run-{run}"]
        subprocess.run(command, cwd=HERE, check=True)
    results = HERE / os.environ.get("CARGO_TARGET_DIR", "target") / "criterion"
    groups = ["seal 1420 bytes", "open 1420 bytes", "seal 64 bytes", "open 64 bytes"]
    rows: dict[str, list[str]] = {}
    for group in groups:
        for estimates in sorted(results.glob(f"{group}/*/run-0/estimates.json")):
            folder = estimates.parent.parent
            files = [folder / f"run-{run}" / "estimates.json" for run in runs]
            medians = [json.loads(file.read_text())["median"]["point_estimate"] / BATCH for file in files]
            name = json.loads((folder / "run-0" / "benchmark.json").read_text())["function_id"]
            rows.setdefault(name, []).append(f"{min(medians):.0f} / {statistics.median(medians):.0f}")
    print("| library |", " | ".join(groups), "|")
    print("|---" * (len(groups) + 1) + "|")
    for name, cells in sorted(rows.items(), key=lambda row: int(row[1][0].split()[0])):
        print(f"| {name} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()

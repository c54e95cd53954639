"""Empties the vendored crates that are for Windows alone, which is two thirds of a folder made by `cargo vendor`.

Cargo wants every crate of Cargo.lock to be there, also those that no target of ours uses: their manifests and the files
that these name stay.
"""

import argparse
import json
import pathlib

KEPT = {"Cargo.toml", "build.rs", "src/lib.rs"}
PREFIXES = ("winapi-", "windows-", "windows_")


def trim(crate: pathlib.Path) -> int:
    """Removes a crate's other files, also from the list of hashes that cargo compares; returns their bytes."""
    listing = crate / ".cargo-checksum.json"
    hashes = json.loads(listing.read_text())
    removed = 0
    for path in sorted(crate.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path != listing and not is_kept(path.relative_to(crate)):
            removed += path.stat().st_size
            path.unlink()
    hashes["files"] = {name: value for name, value in hashes["files"].items() if is_kept(pathlib.PurePath(name))}
    listing.write_text(json.dumps(hashes, sort_keys=True))
    return removed


def is_kept(path: pathlib.PurePath) -> bool:
    """Returns whether a file of a crate stays: what cargo reads of it, and its licence."""
    return path.as_posix() in KEPT or path.name.upper().startswith(("LICENSE", "COPYRIGHT"))


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vendor", type=pathlib.Path, help="the folder that `cargo vendor` made")
    crates = [path for path in parser.parse_args().vendor.iterdir() if path.name.startswith(PREFIXES)]
    removed = sum(trim(crate) for crate in crates)
    print(f"    {len(crates)} crates for Windows emptied, {removed // 1_000_000} MB")


if __name__ == "__main__":
    main()

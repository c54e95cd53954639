"""Writes the bill of materials of the release's binaries (CycloneDX 1.5) and the licences of what is linked into them.

Both are of what cargo resolves for the targets of the release, without what only tests and build scripts use. The Rust
standard library and musl, which are linked in too, come with the toolchain; the cipher of intel-ipsec-mb, which the
binary for x86_64 has, is of Debian's package.
"""

import argparse
import datetime
import json
import os
import pathlib
import subprocess
import sys
import tomllib
import urllib.parse
import uuid

TARGETS = ("x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl")
LICENCE_FILES = ("LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE")


def resolve(source: pathlib.Path, target: str) -> dict:
    """Returns what cargo knows about the packages for a target."""
    command = ["cargo", "metadata", "--frozen", "--format-version", "1", "--filter-platform", target]
    return json.loads(subprocess.run(command, cwd=source, check=True, stdout=subprocess.PIPE).stdout)


def linked(metadata: dict, root: str) -> dict[str, set[str]]:
    """Returns the packages that are linked into the root's binary, with the packages that each depends on."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    macros = {
        package["id"]
        for package in metadata["packages"]
        if any("proc-macro" in target["kind"] for target in package["targets"])
    }
    found: dict[str, set[str]] = {}
    pending = [root]
    while pending:
        name = pending.pop()
        if name in found:
            continue
        found[name] = {
            dependency["pkg"]
            for dependency in nodes[name]["deps"]
            if dependency["pkg"] not in macros and any(kind["kind"] is None for kind in dependency["dep_kinds"])
        }
        pending.extend(found[name])
    return found


def reference(package: dict) -> str:
    """Returns the package URL."""
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package: dict, hashes: dict[tuple[str, str], str]) -> dict:
    """Returns a package's entry."""
    entry = {
        "type": "library",
        "bom-ref": reference(package),
        "name": package["name"],
        "version": package["version"],
        "purl": reference(package),
    }
    if package.get("description"):
        entry["description"] = " ".join(package["description"].split())
    if package.get("license"):
        # Cargo still takes the old way to write "or".
        entry["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    digest = hashes.get((package["name"], package["version"]))
    if digest:
        entry["hashes"] = [{"alg": "SHA-256", "content": digest}]
    if package.get("repository"):
        entry["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return entry


def licences_of(package: dict) -> list[tuple[str, str]]:
    """Returns the names and texts of a package's licence files."""
    folder = pathlib.Path(package["manifest_path"]).parent
    return [
        (path.name, "\n".join(line.rstrip() for line in path.read_text(errors="replace").strip().splitlines()))
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name.upper().startswith(LICENCE_FILES)
    ]


def licence_of_ipsec_mb(folder: pathlib.Path) -> str:
    """Returns copyright and licence of the library's own files, without those of Debian's."""
    stanzas = (folder / "copyright").read_text().split("\n\n")
    return next(stanza for stanza in stanzas if stanza.startswith("Files: *\n")).split("\n", 1)[1]


def write_licences(path: pathlib.Path, packages: list[dict], rust: str, ipsec_mb: pathlib.Path) -> None:
    """Writes each text once, after the packages that have it."""
    library = f"intel-ipsec-mb {(ipsec_mb / 'version').read_text().strip()}"
    owners: dict[str, list[str]] = {licence_of_ipsec_mb(ipsec_mb): [library]}
    without = []
    for package in packages:
        texts = licences_of(package)
        if not texts:
            without.append(f"  {package['name']} {package['version']}: Copyright (c) {', '.join(package['authors'])}")
        for _, text in texts:
            owners.setdefault(text, []).append(f"{package['name']} {package['version']}")
    lines = [
        "Licences of the software that is linked into wontun's release binaries, besides wontun's own.",
        "",
        f"The standard library of Rust {rust} is under the MIT licence or the Apache licence 2.0, at the user's choice;",
        "Copyright (c) The Rust Project Contributors. musl is under the MIT licence:",
        "Copyright © 2005-2020 Rich Felker, et al. Both licences' texts are below.",
        "",
        "Package: licence as its manifest says",
        *(f"  {package['name']} {package['version']}: {package['license']}" for package in packages),
        f"  {library} (a C library, on x86_64): BSD-3-Clause",
    ]
    if without:
        lines += ["", "These bring no file of their licence; the text of each licence is below:", *without]
    for text, names in sorted(owners.items(), key=lambda item: item[1]):
        lines += ["", "=" * 80, ", ".join(sorted(set(names))), "-" * 80, text]
    path.write_text("\n".join(lines) + "\n")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", required=True, type=pathlib.Path)
    parser.add_argument("--commit", required=True)
    parser.add_argument("--rust", required=True, help="version of the toolchain")
    parser.add_argument("--ipsec-mb", required=True, type=pathlib.Path, help="what scripts/ipsec-mb.sh prints")
    parser.add_argument("--sbom", required=True, type=pathlib.Path)
    parser.add_argument("--licences", required=True, type=pathlib.Path)
    arguments = parser.parse_args()

    lock = tomllib.loads((arguments.source / "Cargo.lock").read_text())
    hashes = {(entry["name"], entry["version"]): entry["checksum"] for entry in lock["package"] if "checksum" in entry}
    packages: dict[str, dict] = {}
    dependencies: dict[str, set[str]] = {}
    for target in TARGETS:
        metadata = resolve(arguments.source, target)
        by_id = {package["id"]: package for package in metadata["packages"]}
        root = metadata["resolve"]["root"]
        for name, needed in linked(metadata, root).items():
            packages[name] = by_id[name]
            dependencies.setdefault(name, set()).update(needed)
    program = packages.pop(root)
    others = sorted(packages.values(), key=reference)
    standard_library = {
        "type": "library",
        "bom-ref": f"pkg:generic/rust-std@{arguments.rust}",
        "name": "rust-std",
        "version": arguments.rust,
        "purl": f"pkg:generic/rust-std@{arguments.rust}",
        "description": "The Rust standard library for musl, with the copies of musl and LLVM's libunwind that it brings",
        "licenses": [{"expression": "(MIT OR Apache-2.0) AND MIT AND Apache-2.0 WITH LLVM-exception"}],
    }
    library_version = (arguments.ipsec_mb / "version").read_text().strip()
    library = {
        "type": "library",
        "bom-ref": "pkg:generic/intel-ipsec-mb",
        "name": "intel-ipsec-mb",
        "version": library_version,
        "purl": f"pkg:deb/debian/libipsec-mb-dev@{urllib.parse.quote(library_version)}?arch=amd64",
        "description": "ChaCha20-Poly1305 for AVX-512, which only the binary for x86_64 has",
        "licenses": [{"expression": "BSD-3-Clause"}],
        "externalReferences": [{"type": "vcs", "url": "https://github.com/intel/intel-ipsec-mb"}],
    }
    linked_besides = sorted([library["bom-ref"], standard_library["bom-ref"]])
    by_reference = {reference(package): dependencies[package["id"]] for package in [program, *others]}
    graph = [
        {
            "ref": name,
            "dependsOn": sorted(
                [reference(packages[other]) for other in needed] + linked_besides * (name == reference(program))
            ),
        }
        for name, needed in sorted(by_reference.items())
    ]
    created = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
    bom = {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{reference(program)}#{arguments.commit}')}",
        "version": 1,
        "metadata": {
            "timestamp": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                **component(program, hashes),
                "type": "application",
                "properties": [{"name": "commit", "value": arguments.commit}],
            },
        },
        "components": [*(component(package, hashes) for package in others), library, standard_library],
        "dependencies": [*graph, *({"ref": name} for name in linked_besides)],
    }
    arguments.sbom.write_text(json.dumps(bom, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    # the members of the workspace are wontun's own
    linked_crates = [package for package in others if package["source"]]
    write_licences(arguments.licences, linked_crates, arguments.rust, arguments.ipsec_mb)


if __name__ == "__main__":
    main()

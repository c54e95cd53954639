"""Compares an image that another program has read (`skopeo copy … dir:FOLDER`) with the Dockerfile and the binary."""

import argparse
import gzip
import io
import json
import pathlib
import sys
import tarfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
from nix_consistency import docker_config  # noqa: E402


def main() -> None:
    """Reads the command line; exits with a message at the first difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("version")
    parser.add_argument("architecture", help="as images call it: amd64, arm64")
    parser.add_argument("binary", type=pathlib.Path)
    arguments = parser.parse_args()

    def blob(descriptor: dict) -> bytes:
        return (arguments.folder / descriptor["digest"].removeprefix("sha256:")).read_bytes()

    manifest = json.loads((arguments.folder / "manifest.json").read_text())
    config = json.loads(blob(manifest["config"]))
    expected = docker_config((ROOT / "Dockerfile").read_text(), arguments.version)
    if config["architecture"] != arguments.architecture or config["os"] != "linux":
        sys.exit(f"the image is for {config['os']}/{config['architecture']}, expected linux/{arguments.architecture}")
    for key in expected.keys() | config["config"].keys():
        if expected.get(key) != config["config"].get(key):
            sys.exit(f"the image's {key} is {config['config'].get(key)}, the Dockerfile's {expected.get(key)}")
    if len(manifest["layers"]) != 1:
        sys.exit(f"the image has {len(manifest['layers'])} layers instead of one")
    layer = blob(manifest["layers"][0])
    if layer[:2] == b"\x1f\x8b":
        layer = gzip.decompress(layer)
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        names = [(entry.name, oct(entry.mode)) for entry in tar]
        if names != [("bin", "0o755"), ("bin/wontun", "0o755")]:
            sys.exit(f"the image has {names} instead of bin/wontun alone")
        if tar.extractfile("bin/wontun").read() != arguments.binary.read_bytes():
            sys.exit(f"bin/wontun in the image differs from {arguments.binary}")


if __name__ == "__main__":
    main()

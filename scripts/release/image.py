"""Writes the container image for one or more architectures as an archive, without a container engine.

The image is the Dockerfile's, as nix/image.nix makes it, too: one layer with one file. The archive is an OCI layout. For one
architecture it is also what `docker save` writes, so that every `docker load` reads it. Layers are not compressed: then
neither gzip's version nor its level changes a hash.
"""

import argparse
import datetime
import hashlib
import io
import json
import os
import pathlib
import sys
import tarfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
from nix_consistency import docker_config  # noqa: E402

ARCHITECTURES = {"x86_64": {"architecture": "amd64"}, "aarch64": {"architecture": "arm64", "variant": "v8"}}
OCI = "application/vnd.oci.image"


class Layout:
    """An OCI layout in memory: blobs by the hash of what is in them, and other files."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.files: dict[str, bytes] = {"oci-layout": encode({"imageLayoutVersion": "1.0.0"})}

    def add(self, media_type: str, content: bytes) -> dict:
        """Adds a blob and returns its descriptor."""
        digest = hashlib.sha256(content).hexdigest()
        self.files[f"blobs/sha256/{digest}"] = content
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    def write(self, path: pathlib.Path) -> None:
        """Writes the archive, files sorted by name."""
        with path.open("wb") as file:
            file.write(archive([(name, content, 0o644) for name, content in sorted(self.files.items())], self.epoch))


def encode(value: object) -> bytes:
    """Returns JSON, always the same for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def archive(files: list[tuple[str, bytes, int]], epoch: int) -> bytes:
    """Returns a tar archive of files and the folders that they are in, all of them root's."""
    buffer = io.BytesIO()
    folders = set()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content, mode in files:
            for folder in reversed(pathlib.PurePath(name).parents[:-1]):
                if folder not in folders:
                    folders.add(folder)
                    entry = tarfile.TarInfo(f"{folder}/")
                    entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, epoch
                    tar.addfile(entry)
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(content), mode, epoch
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", required=True)
    parser.add_argument("--output", required=True, type=pathlib.Path)
    parser.add_argument("binaries", nargs="+", metavar="ARCHITECTURE=BINARY")
    arguments = parser.parse_args()
    epoch = int(os.environ["SOURCE_DATE_EPOCH"])
    created = datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc)
    settings = docker_config((ROOT / "Dockerfile").read_text(), arguments.version)
    layout = Layout(epoch)
    manifests, saved = [], []
    for argument in arguments.binaries:
        name, _, binary = argument.partition("=")
        platform = ARCHITECTURES[name]
        content = archive([("bin/wontun", pathlib.Path(binary).read_bytes(), 0o755)], epoch)
        layer = layout.add(f"{OCI}.layer.v1.tar", content)
        config = layout.add(
            f"{OCI}.config.v1+json",
            encode(
                {
                    **platform,
                    "os": "linux",
                    "created": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "config": settings,
                    "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
                    "history": [{"created": created.strftime("%Y-%m-%dT%H:%M:%SZ"), "created_by": "scripts/release.sh"}],
                }
            ),
        )
        manifest = {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "config": config, "layers": [layer]}
        descriptor = layout.add(f"{OCI}.manifest.v1+json", encode(manifest))
        manifests.append({**descriptor, "platform": {**platform, "os": "linux"}})
        saved.append(
            {
                "Config": blob(config),
                "RepoTags": [f"wontun:{arguments.version}", "wontun:latest"],
                "Layers": [blob(layer)],
            }
        )
    top = manifests[0]
    if len(manifests) == 1:
        layout.files["manifest.json"] = encode(saved)
    else:
        index = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": manifests}
        top = layout.add(f"{OCI}.index.v1+json", encode(index))
    # The first is what the OCI names a tag, the second what containerd (and Docker with its store) takes as the name.
    names = {
        "org.opencontainers.image.ref.name": arguments.version,
        "io.containerd.image.name": f"docker.io/library/wontun:{arguments.version}",
    }
    layout.files["index.json"] = encode(
        {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": [{**top, "annotations": names}]}
    )
    layout.write(arguments.output)


def blob(descriptor: dict) -> str:
    """Returns the path of a blob in the archive."""
    return "blobs/" + descriptor["digest"].replace(":", "/")


if __name__ == "__main__":
    main()

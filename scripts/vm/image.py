"""An image of one static file, in the layout of `docker save`, which `docker load` takes: made without an engine.

    image.py BINARY VERSION [ARCHITECTURE] > image.tar

It promises what the Dockerfile promises. Equal input makes an equal file.
"""

import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path

SECOND = 1_000_000_000  # the unit of times in an image: nanoseconds
CREATED = "1970-01-01T00:00:01Z"


def config(version: str) -> dict[str, object]:
    """What the image asks of whoever runs it."""
    return {
        "Entrypoint": ["/bin/wontun"],
        "Env": ["WONTUN_COMMAND=serve"],
        "ExposedPorts": {"19988/udp": {}, "51820/udp": {}},
        "Healthcheck": {
            "Test": ["CMD", "/bin/wontun", "health"],
            "Interval": 10 * SECOND,
            "Timeout": 3 * SECOND,
            "StartPeriod": 5 * SECOND,
            "Retries": 3,
        },
        "Labels": {
            "org.opencontainers.image.title": "wontun",
            "org.opencontainers.image.description": "A VPN tunnel in one small Linux binary; needs CAP_NET_ADMIN and /dev/net/tun",
            "org.opencontainers.image.version": version,
            "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
        },
        "StopSignal": "SIGTERM",
    }


def image(binary: bytes, version: str, architecture: str = "amd64") -> bytes:
    """The whole image, as a tar file."""
    layer = _tar({"bin/": b"", "bin/wontun": binary})
    description = {
        "architecture": architecture,
        "os": "linux",
        "created": CREATED,
        "config": config(version),
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + _sha256(layer)]},
        "history": [{"created": CREATED, "created_by": "wontun"}],
    }
    encoded = json.dumps(description, sort_keys=True).encode()
    description_name = _sha256(encoded) + ".json"
    layer_name = _sha256(layer) + "/layer.tar"
    tags = ["wontun:latest", f"wontun:{version}"]
    manifest = [{"Config": description_name, "RepoTags": tags, "Layers": [layer_name]}]
    return _tar({layer_name: layer, description_name: encoded, "manifest.json": json.dumps(manifest).encode()})


def _tar(files: dict[str, bytes]) -> bytes:
    """These files, owned by root and executable; a name that ends with a slash is a folder."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name.rstrip("/"))
            entry.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            entry.mode = 0o755
            entry.size = len(content)
            entry.mtime = 1
            archive.addfile(entry, io.BytesIO(content))
    return target.getvalue()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    sys.stdout.buffer.write(image(Path(sys.argv[1]).read_bytes(), *sys.argv[2:]))

"""An archive as the kernel unpacks it into its initial file system (cpio, "newc").

Several of them one after the other are one: later files are added to the earlier ones.
"""

import os
import stat
import sys
from pathlib import Path


def pack(folder: Path) -> bytes:
    """Everything in the folder, owned by root."""
    archive = bytearray()
    paths = sorted(folder.rglob("*"))
    for number, path in enumerate(paths, start=1):
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            content = os.readlink(path).encode()
        elif stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        else:
            content = b""
        _add(archive, str(path.relative_to(folder)), number, status.st_mode, content)
    _add(archive, "TRAILER!!!", 0, 0, b"")
    return bytes(archive)


def _add(archive: bytearray, name: str, inode: int, mode: int, content: bytes) -> None:
    encoded = name.encode() + b"\0"
    #        inode  mode  uid gid links mtime size        major, minor, of the device twice; name, checksum
    fields = [inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0]
    archive += b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    _align(archive)
    archive += content
    _align(archive)


def _align(archive: bytearray) -> None:
    archive += b"\0" * (-len(archive) % 4)


if __name__ == "__main__":
    sys.stdout.buffer.write(pack(Path(sys.argv[1])))

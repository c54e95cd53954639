"""Two virtual machines with little memory, one core and a kernel without nf_tables, joined by a tunnel.

They have the kernel and the initramfs of the other machines, and a disk with busybox, the few modules of a tunnel, and
wontun: small-init is all that runs.
"""

import argparse
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import log
import qemu

ADDRESSES = {"client": "192.168.1.1", "server": "192.168.1.2"}
INNER = {"client": "10.9.0.1", "server": "10.9.0.2"}
# Debian's kernel takes a third of it for itself, before it counts what there is.
MEGABYTES = 96
# Modules in the order in which they load, below kernel/.
MODULES = ["net/core/failover.ko", "drivers/net/net_failover.ko", "drivers/net/virtio_net.ko", "drivers/net/tun.ko"]
# Seconds, for machines whose processor is emulated on a busy host.
TIMEOUT = 400


def output(command: list[str], text: str = "") -> str:
    """What a command prints."""
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def dump(image: Path, path: str, target: Path) -> bool:
    """Copies a file out of an image of ext4. Returns false if there is none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["debugfs", "-R", f"dump {path} {target}", str(image)], capture_output=True, check=True)
    return target.exists() and target.stat().st_size > 0


def make_disk(options: argparse.Namespace, work: Path) -> Path:
    """The disk of both machines."""
    image, root = options.root / "root.ext4", work / "root"
    for name in ("bin", "dev", "etc", "modules", "proc", "run", "sbin", "sys", "tmp"):
        (root / name).mkdir(parents=True)
    listing = output(["debugfs", "-R", "ls -p /usr/lib/modules", str(image)])
    (release,) = {line.split("/")[5] for line in listing.splitlines() if line} - {".", ".."}
    for number, module in enumerate(MODULES):
        source = f"/usr/lib/modules/{release}/kernel/{module}"
        # One that is not there is built in.
        dump(image, source, root / "modules" / f"{number}-{Path(module).name}")
    assert dump(image, "/usr/bin/busybox", root / "bin/busybox") or dump(image, "/bin/busybox", root / "bin/busybox")
    shutil.copy(options.binary, root / "bin/wontun")
    shutil.copy(Path(__file__).parent / "small-init", root / "sbin/init")
    for path in ("bin/busybox", "bin/wontun", "sbin/init"):
        (root / path).chmod(0o755)
    keys = {name: output([str(options.binary), "genkey"]).strip() for name in ADDRESSES}
    for name, other in (("client", "server"), ("server", "client")):
        public = output([str(options.binary), "pubkey"], keys[other]).strip()
        folder = root / "etc" / name
        folder.mkdir()
        (folder / "outer").write_text(ADDRESSES[name] + "\n")
        # With full.conf, everything goes through the tunnel: a kill switch needs that.
        for file, allowed in (("wg0.conf", f"{INNER[other]}/32"), ("full.conf", "0.0.0.0/0")):
            (folder / file).write_text(
                f"[Interface]\nPrivateKey = {keys[name]}\nAddress = {INNER[name]}/24\nListenPort = 51820\n"
                f"[Peer]\nPublicKey = {public}\nAllowedIPs = {allowed}\nEndpoint = {ADDRESSES[other]}:51820\n"
            )
            (folder / file).chmod(0o600)
    disk = work / "disk"
    with disk.open("wb") as file:
        file.truncate(64 << 20)
    output(["mke2fs", "-q", "-t", "ext4", "-d", str(root), str(disk)])
    return disk


def run(options: argparse.Namespace, work: Path) -> bool:
    """Boots both machines. Returns true if the client says that all is well."""
    disk = make_disk(options, work)
    accelerator = qemu.choose_accelerator(options.root, options.accelerator)
    machines = {}
    try:
        for (number, name), end in zip(enumerate(ADDRESSES, start=1), socket.socketpair(), strict=True):
            arguments = [
                *(*accelerator, "-smp", "1", "-m", str(MEGABYTES), "-device", "virtio-rng-pci"),
                *qemu.boot_arguments(
                    options.root,
                    options.root / "initramfs",
                    work / f"{name}.serial.log",
                    f"net.ifnames=0 mitigations=off quiet vm.role={name}",
                ),
                *("-drive", f"file={disk},format=raw,if=virtio,snapshot=on"),
                *("-netdev", f"socket,id=lan,fd={end.fileno()}"),
                *("-device", f"virtio-net-pci,netdev=lan,mac=52:54:00:12:01:{number:02x}"),
            ]
            machines[name] = qemu.Qemu(arguments, work / f"{name}.qemu.log", (end,))
        with log.step("waiting for the client", "ended"):
            machines["client"].wait(TIMEOUT)
    finally:
        for machine in machines.values():
            machine.stop()
    said = (work / "client.serial.log").read_text(errors="replace")
    print(said[max(said.find("small:"), 0) :] if "small: client: passed" in said else said)
    if "small: client: passed" not in said:
        log.show_end(str(work / "client.qemu.log"), 10)
        log.show_end(str(work / "server.serial.log"), 40)
        return False
    return True


def main() -> int:
    """The command line, and the exit code: 0 if the client says so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="what make-root.sh made")
    parser.add_argument("--binary", type=Path, required=True, help="a static wontun")
    parser.add_argument("--accelerator", choices=["auto", "kvm", "tcg"], default="auto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wontun-vm-small.") as name:
        passed = run(options, Path(name))
    print("passed" if passed else "FAILED")
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())

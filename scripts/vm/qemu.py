"""QEMU: whether the processor helps it here, and one machine's command line and process."""

import os
import socket
import subprocess
import tempfile
from pathlib import Path

from log import say

# A kernel that shows no sign of life by then is not run by the processor: a /dev/kvm can be there and hang.
SMOKE_SECONDS = 10.0
KVM = ["-accel", "kvm", "-cpu", "host"]
# QEMU 7.2 damages the flags in cmpxchg16b, and Debian 13's kernel dies of that; without, kernels use something else.
EMULATION = ["-accel", "tcg,thread=multi", "-cpu", "max,cx16=off"]


class Qemu:
    """One running QEMU, ended by its process id."""

    def __init__(self, arguments: list[str], log: Path, keep: tuple[socket.socket, ...] = ()) -> None:
        command = ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-nodefaults", "-no-user-config"]
        command += ["-display", "none", "-no-reboot", *arguments]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[end.fileno() for end in keep],
            )
        # Only QEMU holds these from now on, so that its end is noticed at the other end.
        for end in keep:
            end.close()

    def wait(self, seconds: float) -> int | None:
        """The exit code; none if it runs on."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        """Ends it; one that hangs in the kernel is left to that after a while."""
        self._process.terminate()
        if self.wait(5) is None:
            self._process.kill()
            self.wait(5)


def boot_arguments(folder: Path, initramfs: Path, serial: Path, kernel_arguments: str) -> list[str]:
    """The kernel, on a machine with nothing but a serial console."""
    return [
        *("-machine", "q35", "-kernel", str(folder / "kernel"), "-initrd", str(initramfs)),
        *("-append", f"console=ttyS0 panic=-1 {kernel_arguments}", "-serial", f"file:{serial}"),
    ]


def choose_accelerator(folder: Path, wanted: str) -> list[str]:
    """KVM where a kernel was seen to run on it, emulation elsewhere."""
    if wanted == "tcg" or (wanted == "auto" and not os.access("/dev/kvm", os.R_OK | os.W_OK)):
        say("processor: emulated")
        return EMULATION
    if wanted == "kvm":
        say("processor: KVM, as asked for")
        return KVM
    with tempfile.TemporaryDirectory(prefix="wontun-vm-smoke.") as name:
        serial = Path(name, "serial")
        arguments = boot_arguments(folder, folder / "initramfs", serial, "vm.smoke")
        qemu = Qemu([*KVM, "-m", "256", *arguments], Path(name, "qemu"))
        try:
            qemu.wait(SMOKE_SECONDS)
        finally:
            qemu.stop()
        if serial.exists() and b"vm smoke: this kernel runs" in serial.read_bytes():
            say("processor: KVM")
            return KVM
        reason = Path(name, "qemu").read_text(errors="replace").strip() or f"nothing in {SMOKE_SECONDS:.0f} s"
    say(f"processor: emulated, since no kernel runs on the /dev/kvm here ({reason})")
    return EMULATION

"""One virtual machine with the interface that a NixOS test's script uses."""

import shlex
import socket
import time
from pathlib import Path

import cpio
import qemu
from log import say, step
from shell import Shell, ShellError

# As in the NixOS driver.
DEFAULT_TIMEOUT = 900.0
BOOT_TIMEOUT = 300.0


class MachineError(Exception):
    """The machine did not do what the script expects."""


class Machine:
    """A machine: what it boots, its console, its shell."""

    def __init__(self, name: str, root: Path, files: Path, work: Path, accelerator: list[str]) -> None:
        """`root` has the kernel and the disk, `files/overlay` what this machine has over them; logs go to `work`."""
        self.name = name
        self.serial = work / f"{name}.serial.log"
        self._root = root
        self._files = files
        self._work = work
        self._accelerator = accelerator
        self._process: qemu.Qemu | None = None
        self._shell: Shell | None = None

    def start(self, lan: socket.socket, hardware_address: str) -> None:
        """Boots, with this end of the network's cable in its one card."""
        initramfs = self._work / f"{self.name}.initramfs"
        initramfs.write_bytes((self._root / "initramfs").read_bytes() + cpio.pack(self._files))
        ours, theirs = socket.socketpair()
        # The kernel's mitigations cost an emulated processor a tenth of its time, and it has none of the flaws.
        kernel_arguments = "root=/dev/vda net.ifnames=0 mitigations=off quiet systemd.show_status=true"
        arguments = [
            *self._accelerator,
            *("-m", "512", "-device", "virtio-rng-pci"),
            *qemu.boot_arguments(self._root, initramfs, self.serial, kernel_arguments),
            # Writes go to a file that has no name: every start finds the same root.
            *("-drive", f"file={self._root / 'root.ext4'},format=raw,if=virtio,snapshot=on"),
            *("-chardev", f"socket,id=shell,fd={theirs.fileno()}"),
            *("-device", "virtio-serial-pci", "-device", "virtconsole,chardev=shell"),
            *("-netdev", f"socket,id=lan,fd={lan.fileno()}"),
            *("-device", f"virtio-net-pci,netdev=lan,mac={hardware_address}"),
        ]
        self._process = qemu.Qemu(arguments, self._work / f"{self.name}.qemu.log", (theirs, lan))
        self._shell = Shell(ours)
        say(f"{self.name}: started")

    def wait_until_booted(self) -> None:
        """Waits for its shell."""
        with step(f"{self.name}: waiting for its shell", "booted"):
            try:
                self._connected().wait_until_ready(BOOT_TIMEOUT)
            except ShellError as error:
                raise MachineError(f"{self.name}: {error}") from error
            for line in self.succeed("cat /proc/version", "systemctl --version").splitlines()[:2]:
                say(f"{self.name}: {line}")

    def stop(self) -> None:
        """Ends the machine as if its plug were pulled."""
        if self._process is not None:
            self._process.stop()

    def _connected(self) -> Shell:
        if self._shell is None:
            raise MachineError(f"{self.name} was not started: start_all() comes first")
        return self._shell

    # From here on: the names and the meaning of the NixOS driver.

    def execute(
        self,
        command: str,
        check_return: bool = True,
        check_output: bool = True,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> tuple[int, str]:
        """Runs a command: exit code and standard output. In the background it needs an output of its own."""
        del check_return, check_output
        try:
            return self._connected().run(f"set -euo pipefail; {command}", timeout or DEFAULT_TIMEOUT)
        except ShellError as error:
            raise MachineError(f"{self.name}: {error}") from error

    def succeed(self, *commands: str, timeout: float | None = None) -> str:
        """The outputs of commands that must succeed."""
        outputs = ""
        for command in commands:
            say(f"{self.name}: must succeed: {command}")
            code, output = self.execute(command, timeout=timeout)
            if code != 0:
                raise MachineError(f"{self.name}: exit code {code} of: {command}\n{output}")
            outputs += output
        return outputs

    def fail(self, *commands: str, timeout: float | None = None) -> str:
        """The outputs of commands that must fail."""
        outputs = ""
        for command in commands:
            say(f"{self.name}: must fail: {command}")
            code, output = self.execute(command, timeout=timeout)
            if code == 0:
                raise MachineError(f"{self.name}: succeeded against expectation: {command}\n{output}")
            outputs += output
        return outputs

    def wait_until_succeeds(self, command: str, timeout: float = DEFAULT_TIMEOUT) -> str:
        """The output of the first success; one try a second."""
        with step(f"{self.name}: waiting for success: {command}"):
            deadline = time.monotonic() + timeout
            while True:
                code, output = self.execute(command, timeout=timeout)
                if code == 0:
                    return output
                if time.monotonic() > deadline:
                    raise MachineError(f"{self.name}: no success in {timeout} s, exit code {code}: {command}\n{output}")
                time.sleep(1)

    def wait_for_unit(self, unit: str, user: str | None = None, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Waits until systemd says that the unit is active; fails as soon as it cannot become so."""
        if user is not None:
            raise MachineError(f"{self.name}: there are no users here whose units could be waited for")
        quoted = shlex.quote(unit)
        with step(f"{self.name}: waiting for unit {unit}"):
            deadline = time.monotonic() + timeout
            while True:
                _, output = self.execute(f"systemctl show --property=ActiveState --value -- {quoted}")
                state = output.strip()
                if state == "active":
                    return
                if state == "failed":
                    _, status = self.execute(f"systemctl status --no-pager --lines=20 -- {quoted}")
                    raise MachineError(f"{self.name}: unit {unit} failed\n{status}")
                if time.monotonic() > deadline:
                    raise MachineError(f"{self.name}: unit {unit} is '{state}' after {timeout} s")
                time.sleep(1)

    def wait_for_open_port(self, port: int, addr: str = "localhost", timeout: float = DEFAULT_TIMEOUT) -> None:
        """Waits until somebody accepts connections there, and ends the first one at once."""
        self.wait_until_succeeds(f"nc -z {shlex.quote(addr)} {port}", timeout)

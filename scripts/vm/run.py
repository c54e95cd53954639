"""Runs the scripts of NixOS tests on two virtual machines, a client and a server joined by a cable.

A script finds the names that the NixOS test driver gives: client, server, start_all, subtest. The machines are started
once: each script finds them as the one before it left them.
"""

import argparse
import hashlib
import shutil
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NoReturn

import log
import qemu
from image import image
from machine import Machine, MachineError

ADDRESSES = {"client": "192.168.1.1", "server": "192.168.1.2"}
SYSTEMD = Path(__file__).parent.parent / "systemd"
# Of RFC 7748, section 6.1: the scripts know its other half.
PRIVATE_KEY = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=\n"


def write_files(overlay: Path, name: str, binary: bytes, version: str) -> None:
    """What this machine has and the root has not."""

    def put(path: str, content: bytes | str, mode: int = 0o644) -> None:
        target = overlay / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        target.chmod(mode)

    put("usr/local/bin/wontun", binary, 0o755)
    put("etc/systemd/system/wontun@.service", (SYSTEMD / "wontun@.service").read_bytes())
    wants = overlay / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir()
    (wants / "wontun@tun0.service").symlink_to("../wontun@.service")
    put("etc/hostname", f"{name}\n")
    # With a number of its own the system is not on its first boot, which would enable and ask things.
    put("etc/machine-id", hashlib.sha256(name.encode()).hexdigest()[:32] + "\n")
    put("etc/hosts", "127.0.0.1 localhost\n" + "".join(f"{a} {n}\n" for n, a in ADDRESSES.items()))
    put("etc/vm-lan.env", f"ADDRESS={ADDRESSES[name]}/24\n")
    if name == "client":
        put("etc/wontun/tun0.env", "COMMAND=plain\nWONTUN_PEER=server\n")
    else:
        put("etc/wontun/tun0.env", "COMMAND=plain\n")
        put("etc/wontun-test/image.tar", image(binary, version))
        # A second tunnel, a WireGuard server, as the README has it.
        (wants / "wontun@vpn.service").symlink_to("../wontun@.service")
        put("etc/wontun-test/key", PRIVATE_KEY, 0o600)
        put(
            "etc/systemd/system/wontun@vpn.service.d/test.conf",
            "[Service]\nLoadCredential=private-key:/etc/wontun-test/key\nWatchdogSec=10\n",
        )
        put(
            "etc/wontun/vpn.env",
            "COMMAND=serve\nWONTUN_ENDPOINT=server\nWONTUN_SUBNET=10.77.0.0/24,fd77::/64\n"
            "WONTUN_PRIVATE_KEY_FILE=/run/credentials/wontun@vpn.service/private-key\n",
        )
        put("etc/sysctl.d/60-wontun.conf", (SYSTEMD / "60-wontun.conf").read_bytes())


def interrupted(number: int, _frame: object) -> NoReturn:
    """A signal ends the run as an error does, so that the machines end with it."""
    raise SystemExit(128 + number)


def too_long(_number: int, _frame: object) -> NoReturn:
    """The whole run has an end, whatever a script waits for."""
    raise MachineError("the whole run took too long")


def run(options: argparse.Namespace, work: Path) -> None:
    """Boots both machines when the first script says so, and ends them in any case."""
    binary = options.binary.read_bytes()
    accelerator = qemu.choose_accelerator(options.root, options.accelerator)
    machines = {}
    for name in ADDRESSES:
        files = work / name
        write_files(files / "overlay", name, binary, options.wontun_version)
        machines[name] = Machine(name, options.root, files, work, accelerator)

    running = False

    def start_all() -> None:
        nonlocal running
        if running:
            return
        running = True
        with log.step("starting all machines"):
            cable = socket.socketpair()
            for number, (machine, end) in enumerate(zip(machines.values(), cable, strict=True), start=1):
                machine.start(end, f"52:54:00:12:01:{number:02x}")
            for machine in machines.values():
                machine.wait_until_booted()

    def subtest(name: str) -> AbstractContextManager[None]:
        return log.step(f"subtest: {name}", "passed")

    driver: dict[str, Machine | Callable[..., object]] = {**machines, "start_all": start_all, "subtest": subtest}
    try:
        for script in options.script:
            with log.step(script.name, "passed"):
                code = compile(script.read_text(), str(script), "exec")
                exec(code, {"__name__": "test_script", **driver})
    except Exception:
        signal.alarm(0)
        # What the machines say of it, before they end.
        for machine in machines.values():
            log.show_end(str(machine.serial), 60)
            log.show_end(str(work / f"{machine.name}.qemu.log"), 10)
            try:
                _, journal = machine.execute("journalctl --no-pager --lines=60", timeout=30)
                print(f"--- the journal of {machine.name}\n{journal}", file=sys.stderr)
            except MachineError as error:
                print(f"--- no journal: {error}", file=sys.stderr)
        raise
    finally:
        for machine in machines.values():
            machine.stop()


def main() -> int:
    """The command line, and the exit code: 0 if every script ended well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="what make-root.sh made")
    parser.add_argument("--binary", type=Path, required=True, help="a static wontun")
    parser.add_argument("--wontun-version", required=True, help="the image's version")
    parser.add_argument("--accelerator", choices=["auto", "kvm", "tcg"], default="auto")
    parser.add_argument("--timeout", type=int, default=1800, help="seconds for the whole run")
    parser.add_argument("script", type=Path, nargs="+", help="the tests' scripts, run in this order")
    options = parser.parse_args()

    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupted)
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(options.timeout)
    work = Path(tempfile.mkdtemp(prefix="wontun-vm."))
    failed = False
    try:
        with log.step("two virtual machines", "all passed"):
            run(options, work)
    except Exception as error:
        failed = True
        if not isinstance(error, MachineError):
            traceback.print_exc()
        print(f"FAILED: {error}\nthe logs of both machines stay in {work}", file=sys.stderr)
    finally:
        for path in work.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif not failed or path.suffix != ".log":
                path.unlink()
        if not failed:
            work.rmdir()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

"""What a result must say of the machine and the programs that gave it."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from pathlib import Path

from hosts import Trouble, run
from tunnels import Tunnel, version_of


def describe_machine() -> dict:
    """Kernel, processor and distribution; nothing that tells whose machine it is."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    return {
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "system": operating_system(),
        "cpu": processor(cpuinfo),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "virtual": bool(re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.MULTILINE)),
    }


def processor(cpuinfo: str) -> str:
    """The processor's name: x86 has it in /proc/cpuinfo, others leave it to lscpu's tables."""
    match = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    if not match:
        try:
            match = re.search(r"^Model name:\s*(.+)$", run("env", "LC_ALL=C", "lscpu"), re.MULTILINE)
        except Trouble:
            match = None
    return match.group(1).strip() if match else platform.machine()


def operating_system() -> str:
    """The distribution's name and version."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return platform.system()
    return release.get("PRETTY_NAME", release["NAME"])


def describe_tools() -> dict[str, str]:
    """The versions of what measures."""
    iperf3 = run("iperf3", "--version").split("\n", 1)[0].removeprefix("iperf ").split(" ")[0]
    ping = run("ping", "-V").split("\n", 1)[0].removeprefix("ping from ")
    return {"iperf3": iperf3, "ping": ping}


def describe_tunnel(tunnel: Tunnel) -> dict:
    """One tunnel: what it was, which version, and the hash of the very file, which tells two builds of one version."""
    described = {"name": tunnel.name, "kind": tunnel.kind, "title": tunnel.title(), "options": list(tunnel.options)}
    if tunnel.binary is not None:
        described["version"] = version_of(tunnel)
        described["sha256"] = hashlib.sha256(Path(tunnel.binary).read_bytes()).hexdigest()
    return described

"""Two hosts on this machine: network namespaces with a cable between them, and the programs that run there."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path
from typing import Callable

# RFC 5737 keeps these for documentation; they are in namespaces of our own.
OUTER_PREFIX = 24
INNER_PREFIX = 24
INNER_NETWORK = "10.8.0.0/24"


class Trouble(Exception):
    """Something that keeps a figure from being taken, in words for the user."""


def run(*command: str, text: str | None = None, timeout: float = 20) -> str:
    """Runs a command to its end and returns what it printed; Trouble when it fails."""
    try:
        done = subprocess.run(command, input=text, text=True, capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as error:
        raise Trouble(f"'{' '.join(command)}' did not end within {timeout:.0f} s") from error
    except OSError as error:
        raise Trouble(f"'{command[0]}' does not start: {error.strerror}") from error
    if done.returncode != 0:
        said = (done.stderr + done.stdout).strip()
        raise Trouble(f"'{' '.join(command)}' failed (exit code {done.returncode}): {said[-600:]}")
    return done.stdout


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Tries the condition every 20 ms; Trouble when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Trouble(f"{what} within {seconds:.0f} s")
        time.sleep(0.02)


class Program:
    """A program in the background, its output in a file; `name` is for messages."""

    def __init__(self, name: str, command: list[str], log: Path, environment: dict[str, str] | None = None) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def must_run(self) -> None:
        """Trouble with the last of its output when it has ended."""
        code = self.process.poll()
        if code is not None:
            raise Trouble(f"{self.name} ended with exit code {code}: {self.said()}")

    def said(self) -> str:
        """The last of its output, as text without control characters."""
        text = self.log.read_text(errors="replace")[-800:]
        return re.sub(r"\x1b\[[0-9;]*m", "", text).strip()

    def stop(self) -> None:
        """Ends it: politely, after five seconds for good."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Host:
    """One end of the cable."""

    def __init__(self, role: str, outer: str, inner: str) -> None:
        self.role = role
        self.netns = f"wontun-bench-{os.getpid()}-{role}"
        # Named differently at both ends: the sockets of wg(8) have the devices' names and lie in one folder.
        self.device = f"bench-{role}"
        self.outer = outer
        self.inner = inner

    def inside(self, *command: str) -> list[str]:
        """The command line that runs a command here; ip becomes that command, so the process id is its own."""
        return ["ip", "netns", "exec", self.netns, *command]

    def run(self, *command: str, timeout: float = 20) -> str:
        return run(*self.inside(*command), timeout=timeout)

    def ip(self, *arguments: str) -> str:
        return run("ip", "-n", self.netns, *arguments)

    def has_device(self) -> bool:
        """Whether the tunnel's device is there and up or can be set up."""
        command = ["ip", "-n", self.netns, "link", "show", "dev", self.device]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def set_up_device(self, mtu: int) -> None:
        """What wg-quick would do for an implementation that leaves it to others."""
        self.ip("address", "add", f"{self.inner}/{INNER_PREFIX}", "dev", self.device)
        self.ip("link", "set", self.device, "mtu", str(mtu), "up")


class Pair:
    """A server and a client that see each other; a context manager, at whose end all of it is gone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = Host("server", "192.0.2.1", "10.8.0.1")
        self.client = Host("client", "192.0.2.2", "10.8.0.3")
        self.hosts = (self.server, self.client)
        self.programs: list[Program] = []

    def __enter__(self) -> Pair:
        try:
            for host in self.hosts:
                run("ip", "netns", "add", host.netns)
            run(
                *("ip", "link", "add", "eth0", "netns", self.server.netns),
                *("type", "veth", "peer", "name", "eth0", "netns", self.client.netns),
            )
            for host in self.hosts:
                host.ip("link", "set", "lo", "up")
                host.ip("address", "add", f"{host.outer}/{OUTER_PREFIX}", "dev", "eth0")
                host.ip("link", "set", "eth0", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for program in reversed(self.programs):
            program.stop()
        self.programs.clear()
        for host in self.hosts:
            # A namespace takes its cable and its devices along.
            subprocess.run(["ip", "netns", "delete", host.netns], capture_output=True, check=False)

    def start(self, host: Host, command: list[str], environment: dict[str, str] | None = None) -> Program:
        """Runs a program on a host until the pair is gone."""
        name = f"{Path(command[0]).name} on the {host.role}"
        program = Program(name, host.inside(*command), self.folder / f"{host.role}.log", environment)
        self.programs.append(program)
        return program

"""A root shell in a virtual machine, over one end of a socket: one command at a time, and no wait without an end."""

import base64
import binascii
import shlex
import socket
import time

READY = b"vm-shell-ready"
# The guest ends a command that takes too long; this much later the guest itself is thought dead.
GRACE = 30.0


class ShellError(Exception):
    """The machine does not answer: it hangs, or it ended."""


class Shell:
    """Commands, their output and their exit code."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = b""

    def wait_until_ready(self, timeout: float) -> None:
        """Waits for the line that the shell says first; what comes before it is the kernel's or systemd's."""
        deadline = time.monotonic() + timeout
        while self._line(deadline, "its shell to be ready") != READY:
            pass

    def run(self, command: str, timeout: float) -> tuple[int, str]:
        """Exit code and standard output. Standard error goes to the machine's own console."""
        seconds = max(1, round(timeout))
        line = (
            f"timeout --kill-after=5 {seconds} bash -c {shlex.quote(command)} </dev/null | base64 --wrap=0;"
            ' printf "\\n%s\\n" "${PIPESTATUS[0]}"\n'
        )
        deadline = time.monotonic() + seconds + GRACE
        self._connection.settimeout(GRACE)
        try:
            self._connection.sendall(line.encode())
        except OSError as error:
            raise ShellError(f"takes no command ({error}): {command}") from error
        output = self._line(deadline, command)
        code = self._line(deadline, command)
        try:
            return int(code), base64.b64decode(output, validate=True).decode(errors="replace")
        except (ValueError, binascii.Error) as error:
            raise ShellError(f"answered {output[:80]!r} and {code[:80]!r} to: {command}") from error

    def _line(self, deadline: float, what: str) -> bytes:
        while b"\n" not in self._received:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise ShellError(f"no answer in time, waiting for: {what}")
            self._connection.settimeout(remaining)
            try:
                received = self._connection.recv(65536)
            except TimeoutError:
                continue
            except OSError as error:
                raise ShellError(f"{error}, waiting for: {what}") from error
            if not received:
                raise ShellError(f"the machine ended, waiting for: {what}")
            self._received += received
        line, self._received = self._received.split(b"\n", 1)
        return line.rstrip(b"\r")

"""What the runner says, with the time since it began."""

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

# How systemd colours its lines and moves on a terminal.
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_began = time.monotonic()
_depth = 0


def say(text: str) -> None:
    """One line, flushed: a reader wants to see where a long run is."""
    print(f"[{time.monotonic() - _began:7.2f} s] {'  ' * _depth}{text}", flush=True)


@contextmanager
def step(title: str, done: str = "done") -> Iterator[None]:
    """Announces a step, indents what is said in it, and says how long it took."""
    global _depth
    say(title)
    began = time.monotonic()
    _depth += 1
    try:
        yield
    except BaseException:
        _depth -= 1
        say(f"{title}: FAILED after {time.monotonic() - began:.2f} s")
        raise
    _depth -= 1
    say(f"{title}: {done} ({time.monotonic() - began:.2f} s)")


def show_end(path: str, lines: int) -> None:
    """The last lines of a file, on stderr."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            plain = _ESCAPES.sub("", file.read())
        end = [line for line in plain.splitlines() if line.strip()][-lines:]
    except OSError as error:
        end = [f"(cannot be read: {error})"]
    print(f"--- the end of {path}", *end, sep="\n    | ", file=sys.stderr, flush=True)

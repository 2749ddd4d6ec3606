"""Progress of a run on one line of a terminal, or in plain lines elsewhere. ASCII only; a closed stream is no error."""

import os
import time
from typing import TextIO


class Progress:
    """Writes `cell k/n (p %) m:ss` to a stream, which may be None, closed, or no terminal."""

    def __init__(self, stream: TextIO | None, title: str, minutes: float) -> None:
        self._stream = stream
        self._title = title
        self._expected = f"of about {clock(60 * minutes)}"
        self._start = time.monotonic()
        self._line = ""
        self._live = _is_terminal(stream)

    def show(self, done: int, total: int, *, changed: bool) -> None:
        """Show `done` of `total` cells; plain streams get a line only when something `changed`."""
        if not (self._live or changed):
            return
        share = f"{100 * done // total:3d} %" if total else "  0 %"
        elapsed = clock(time.monotonic() - self._start)
        line = f"{self._title}: cell {done}/{total or '?'} ({share}) {elapsed} {self._expected}"
        if line == self._line:
            return
        padding = " " * max(0, len(self._line) - len(line))
        self._line = line
        self._write(f"\r{line}{padding}" if self._live else f"{line}\n")

    def close(self, text: str = "") -> None:
        """End the line, with a last message."""
        if self._live and self._line:
            self._write("\n")
        if text:
            self._write(f"{text}\n")
        self._line = ""

    def _write(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(text.encode("ascii", "replace").decode())
            self._stream.flush()
        except (OSError, ValueError):
            self._stream = None


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    except ValueError:
        return False


def clock(seconds: float) -> str:
    """Minutes and seconds.

    >>> clock(75.2)
    '1:15'
    """
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"

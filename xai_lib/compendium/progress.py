"""Progress of a run on one line of a terminal, or in plain lines elsewhere. ASCII only; a closed stream is no error."""

import contextlib
import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from tqdm import tqdm

WORK_FILE = "progress.json"
EVERY = 10.0


class Progress:
    """Writes `cell k/n (p %) m:ss` to a stream, which may be None, closed, or no terminal."""

    def __init__(self, stream: TextIO | None, title: str, minutes: float) -> None:
        self._stream = stream
        self._title = title
        self._expected = f"of about {clock(60 * minutes)}"
        self._start = time.monotonic()
        self._line = ""
        self._live = _is_terminal(stream)

    def show(self, done: int, total: int, *, changed: bool, inside: str = "") -> None:
        """Show `done` of `total` cells, and what happens `inside`; plain streams get a line only when something `changed`."""
        if not (self._live or changed):
            return
        share = f"{100 * done // total:3d} %" if total else "  0 %"
        elapsed = clock(time.monotonic() - self._start)
        line = (
            f"{self._title}: cell {done}/{total or '?'} ({share}) {elapsed} {self._expected}{f'; {inside}' if inside else ''}"
        )
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


class Meter:
    """Progress of many shards: one bar with rate and time left on a terminal, a line now and then elsewhere.

    Inside a run ($XAI_RUN_DIR) the same is written to a file, from which the runner shows it.
    """

    def __init__(self, stream: TextIO | None, label: str, total: int, unit: str = "image") -> None:
        self._label, self._total, self._unit, self._done = label, total, unit, 0
        self._start = self._last = time.monotonic()
        live = _is_terminal(stream) and total > 0
        self._bar: Any = tqdm(total=total, desc=label, unit=unit, file=stream, ascii=True, leave=False) if live else None
        self._stream = None if live or not total else stream
        folder = os.environ.get("XAI_RUN_DIR")
        self._file = Path(folder) / ".work" / WORK_FILE if folder and total else None

    def __enter__(self) -> "Meter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.unlink(missing_ok=True)

    def advance(self, n: int) -> None:
        """`n` more are done."""
        self._done += n
        if self._bar is not None:
            self._bar.update(n)
        now = time.monotonic()
        if now - self._last < EVERY and not (self._file is not None and now - self._last > 0.5):
            return
        self._last = now
        with contextlib.suppress(OSError, ValueError):
            if self._file is not None:
                scratch = self._file.with_suffix(".new")
                scratch.write_text(json.dumps(self.text()), encoding="utf-8")
                scratch.replace(self._file)
            elif self._stream is not None:
                self._stream.write(f"{self.text()}\n")
                self._stream.flush()

    def text(self) -> str:
        """Done, rate and time left, such as `ig: 12/30 images, 1.5 images/s, 0:12 left`."""
        rate = self._done / max(1e-9, time.monotonic() - self._start)
        left = clock((self._total - self._done) / rate) if self._done else "?"
        return f"{self._label}: {self._done}/{self._total} {self._unit}s, {rate:.3g} {self._unit}s/s, {left} left"


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

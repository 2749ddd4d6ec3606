"""Catalogues of errors that are shown by a script: what follows from the definition, beside what is there.

for each in DEFECTS.values():
    shown = each.run()          # Shown(right=[6.0, 3.0], found=[5.4, 2.7])
"""

import contextlib
import importlib.metadata
import inspect
import io
import logging
import textwrap
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

RELATIVE = 1e-3
"""Relative difference up to which two numbers are the same answer."""


@dataclass(frozen=True)
class Shown:
    """The right answer and the one that is there: numbers, lists of them, truth values or texts."""

    right: Any
    found: Any

    @property
    def agree(self) -> bool:
        """Whether they are the same (numbers up to RELATIVE)."""
        return _same(self.right, self.found)


@dataclass(frozen=True)
class Entry:
    """One error.

    number  as in the list of them, such as D1 or E1.2
    source  where it is: a distribution's name, or a document's number
    place   where in the source; may be empty
    here    what this project does instead
    script  the function that shows it; its docstring says what is wrong
    """

    number: str
    source: str
    place: str
    here: str
    script: Callable[[], Shown]

    @property
    def what(self) -> str:
        """What is there, and why that is not what its readers or users expect."""
        return " ".join((self.script.__doc__ or "").split())

    @property
    def version(self) -> str:
        """The installed version of a distribution."""
        return importlib.metadata.version(self.source)

    @property
    def code(self) -> str:
        """The script's lines, without the head and the docstring, which a page shows elsewhere."""
        text = inspect.getsource(self.script).split('"""', 2)[2]
        return textwrap.dedent(text).strip()

    def run(self) -> Shown:
        """Run the script, silent and with every global generator put back."""
        with _quiet():
            return self.script()


class Catalogue(dict[str, Entry]):
    """Entries by number, in the order in which they are shown."""

    def enter(
        self, number: str, source: str, *, here: str, place: str = ""
    ) -> Callable[[Callable[[], Shown]], Callable[[], Shown]]:
        """Decorator: enter a script.

        Raises:
            ValueError: the number is taken.
        """

        def enter(script: Callable[[], Shown]) -> Callable[[], Shown]:
            if number in self:
                raise ValueError(f"{number} is entered twice: {self[number].script.__name__} and {script.__name__}")
            self[number] = Entry(number, source, place, here, script)
            return script

        return enter


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    numbers = np.random.get_state()  # noqa: NPY002
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            torch.random.fork_rng(devices=[]),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            np.random.seed(0)  # noqa: NPY002
            yield
    finally:
        logging.disable(level)
        np.random.set_state(numbers)  # noqa: NPY002


def _same(right: Any, found: Any) -> bool:
    if isinstance(right, list | tuple):
        alike = isinstance(found, list | tuple) and len(right) == len(found)
        return alike and all(_same(a, b) for a, b in zip(right, found, strict=True))
    numbers = [isinstance(value, int | float) and not isinstance(value, bool) for value in (right, found)]
    if all(numbers):
        return bool(np.isclose(found, right, rtol=RELATIVE, atol=1e-9, equal_nan=True))
    return type(right) is type(found) and bool(right == found)

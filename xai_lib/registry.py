"""Registered functions: looked up, checked and bound by name.

The key is the function's name. `bind` checks names and parameters at once and returns a partial; `ask` passes a metric
exactly the words it names. Registering is one decorator:

>>> TOYS = Registry("toy")
>>> @TOYS.register(label="Twice", cite="none")
... def twice(inputs, *, times: int = 2):
...     return inputs * times
>>> TOYS.bind("twice", times=3)(5)
15
>>> TOYS.bind("twise")
Traceback (most recent call last):
    ...
xai_lib.errors.ConfigError: unknown toy 'twise': did you mean 'twice'? Known: twice
"""

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from xai_lib.errors import ConfigError, InputError, unknown

F = TypeVar("F", bound=Callable[..., Any])
WORDS = ("model", "inputs", "targets", "attributions", "masks", "boxes", "method")


@dataclass(frozen=True)
class Entry:
    """One registered function: what it is called in tables, where it comes from, what can be relied on."""

    name: str
    function: Callable[..., Any]
    label: str
    cite: str
    traits: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """The function's own (keyword-only) parameters."""
        signature = inspect.signature(self.function)
        return {k: p for k, p in signature.parameters.items() if p.kind is p.KEYWORD_ONLY}

    @property
    def words(self) -> tuple[str, ...]:
        """The positional arguments, in order."""
        signature = inspect.signature(self.function)
        return tuple(k for k, p in signature.parameters.items() if p.kind is not p.KEYWORD_ONLY)

    @property
    def summary(self) -> str:
        """First line of the docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]


class Registry(Mapping[str, Entry]):
    """A read-only mapping from names to entries; filled by the `register` decorator.

    `home` is the module that registers everything of this kind; it is imported at the first look-up, so that importing
    `xai_lib` stays quick.
    """

    def __init__(self, kind: str, home: str = "") -> None:
        self.kind = kind
        self._home = home
        self._entries: dict[str, Entry] = {}

    def _filled(self) -> dict[str, Entry]:
        if self._home:
            home, self._home = self._home, ""
            importlib.import_module(home)
        return self._entries

    def __getitem__(self, name: str) -> Entry:
        entries = self._filled()
        if name not in entries:
            raise unknown(self.kind, name, entries)
        return entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._filled()

    def __iter__(self) -> Iterator[str]:
        return iter(self._filled())

    def __len__(self) -> int:
        return len(self._filled())

    def register(self, *, label: str, cite: str, traits: Mapping[str, Any] | None = None) -> Callable[[F], F]:
        """Decorator: enter a function under its own name.

        Args:
            label: the name shown in tables and figures.
            cite: key of its source in book/references.bib ("none" for our own controls).
            traits: what tests and pages may rely on, such as {"complete": True, "random": True}.

        Raises:
            ConfigError: the name is taken, or the function takes *args or **kwargs.
        """

        def enter(function: F) -> F:
            name = function.__name__
            if name in self._entries:
                raise ConfigError(f"{self.kind} {name!r} is registered twice; names must be unique")
            for parameter in inspect.signature(function).parameters.values():
                if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                    raise ConfigError(f"{self.kind} {name!r} takes {parameter}; name every parameter instead")
            self._entries[name] = Entry(name, function, label, cite, dict(traits or {}))
            return function

        return enter

    def bind(self, spec: Any, **parameters: Any) -> Callable[..., Any]:
        """A function with its parameters filled in and checked.

        Args:
            spec: a registered name, a `{name: {parameters}}` mapping, or a callable (returned with `parameters` bound).
            parameters: own parameters of the function; they override those of the mapping.

        Returns:
            functools.partial (or the callable itself when there is nothing to bind).

        Raises:
            ConfigError: unknown name or parameter, or a mapping that does not hold exactly one name.

        For what is accepted as `spec` see `split`.
        """
        if callable(spec) and not isinstance(spec, str | Mapping):
            return partial(spec, **parameters) if parameters else spec
        name, own = self.split(spec)
        entry = self[name]
        chosen = {**own, **parameters}
        for key in chosen:
            if key not in entry.parameters:
                error = unknown(f"parameter of {self.kind} {name!r}", key, entry.parameters)
                raise error
        return partial(entry.function, **chosen)

    def split(self, spec: Any) -> tuple[str, dict[str, Any]]:
        """Name and parameters of a spec that is a name or a one-entry mapping."""
        if isinstance(spec, str):
            return spec, {}
        if isinstance(spec, Mapping) and len(spec) == 1:
            ((name, own),) = spec.items()
            if own is None or isinstance(own, Mapping):
                return str(name), dict(own or {})
        raise ConfigError(
            f"{self.kind} {spec!r}: expected a registered name, one {{name: {{parameter: value}}}} mapping or a callable"
        )

    def resolved(self, spec: Any, **parameters: Any) -> tuple[str, dict[str, Any]]:
        """Name and the full set of own parameters, defaults included: what a manifest records."""
        bound = self.bind(spec, **parameters)
        function = bound.func if isinstance(bound, partial) else bound
        given = bound.keywords if isinstance(bound, partial) else {}
        signature = inspect.signature(function)
        own = {k: p.default for k, p in signature.parameters.items() if p.kind is p.KEYWORD_ONLY}
        return getattr(function, "__name__", "callable"), {**own, **given}

    def ask(self, metric: Any, case: Mapping[str, Any]) -> Any:
        """Call a metric with exactly the words it names, taken from `case`.

        Raises:
            InputError: the case lacks a word that the metric needs; the message names both.
        """
        bound = self.bind(metric)
        function = bound.func if isinstance(bound, partial) else bound
        taken = bound.keywords if isinstance(bound, partial) else {}
        parameters = inspect.signature(function).parameters
        words = [k for k, p in parameters.items() if p.kind is not p.KEYWORD_ONLY and k not in taken]
        missing = [word for word in words if case.get(word) is None and parameters[word].default is inspect.Parameter.empty]
        if missing:
            name = getattr(function, "__name__", "callable")
            raise InputError(f"{self.kind} {name!r} needs {', '.join(missing)}; the case has {', '.join(sorted(case))}")
        return bound(**{word: case[word] for word in words if word in case})


METHODS = Registry("method", "xai_lib.methods")
METRICS = Registry("metric", "xai_lib.metrics")
BASELINES = Registry("baseline", "xai_lib.baselines")
SCORES = Registry("score", "xai_lib.scores")
DATASETS = Registry("data set", "xai_lib.data")
MODELS = Registry("model", "xai_lib.models")

"""The search for an anchor: a beam of rules, of which KL-LUCB keeps the most precise (FIDELITY 6.7).

A rule is a set of segments that must be present; the others are present with probability 1/2 each. All that is asked is
whether the class stays the same for a coalition, so that the search can be tested without a model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from xai_lib.checks import check_count
from xai_lib.errors import ConfigError

Rule = tuple[int, ...]
Seen = dict[Rule, tuple[Tensor, Tensor]]
"""What was drawn under each rule: coalitions (k, M) bool, and whether the class stayed (k,) bool."""
Ask = Callable[[Tensor], Tensor]
"""Coalitions (k, M) bool -> whether the class stays (k,) bool."""
Pull = Callable[[Rule, int], None]


@dataclass(frozen=True)
class Settings:
    """The numbers of a search, explained in `methods.anchors.anchors_image`.

    Raises:
        ConfigError: one of them is out of range.
    """

    threshold: float = 0.95
    delta: float = 0.05
    epsilon: float = 0.1
    tolerance: float = 0.05
    beam_size: int = 1
    draws: int = 100
    max_rows: int = 1000
    max_segments: int | None = None

    def __post_init__(self) -> None:
        for name in ("threshold", "delta", "epsilon", "tolerance"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise ConfigError(f"{name}={value!r}: expected a number between 0 and 1, both excluded")
        for name in ("beam_size", "draws", "max_rows"):
            check_count(name, getattr(self, name))
        if self.max_segments is not None:
            check_count("max_segments", self.max_segments)


@dataclass(frozen=True)
class Anchor:
    """The rule "these segments are present" and what is known of it.

    segments   numbers of the segments, ascending
    found      whether it passed the test of an anchor
    precision  share of the images drawn under the rule that keep the class, in [0, 1]
    lower      lower confidence bound of the precision
    coverage   share of all perturbed images that the rule covers: 2^-k for k segments
    settled    whether every choice and test was made to the confidence asked for; False = `max_rows` ended one
    rows       images shown to the model
    """

    segments: Rule
    found: bool
    precision: float
    lower: float
    coverage: float
    settled: bool
    rows: int


def search(ask: Ask, n_segments: int, generator: torch.Generator, settings: Settings) -> Anchor:
    """The first rule that passes, from the empty one up; else the most precise of the last size tried.

    Args:
        ask: see `Ask`.
        n_segments: M.
        generator: what coalitions and the order of tied rules are drawn from.
        settings: see `Settings`.

    Returns:
        an `Anchor`; without segments and with precision 0 where the class does not stay even for the full coalition.
    """
    if not bool(ask(torch.ones(1, n_segments, dtype=torch.bool))):
        return Anchor((), False, 0.0, 0.0, 1.0, True, 1)
    seen: Seen = {(): (torch.zeros(0, n_segments, dtype=torch.bool), torch.zeros(0, dtype=torch.bool))}
    rows = 1

    def pull(rule: Rule, k: int) -> None:
        nonlocal rows
        present = torch.randint(0, 2, (k, n_segments), generator=generator) == 1
        present[:, list(rule)] = True
        rows += k
        seen[rule] = (torch.cat([seen[rule][0], present]), torch.cat([seen[rule][1], ask(present)]))

    beam: list[Rule] = [()]
    tried: list[Anchor] = []
    settled = True
    for size in range(min(n_segments, settings.max_segments or n_segments) + 1):
        if size:
            rules = _extended(beam, n_segments, seen)
            shuffled = [rules[k] for k in torch.randperm(len(rules), generator=generator).tolist()]
            beam, certain = _most_precise(shuffled, seen, pull, settings)
            settled = settled and certain
        tried = []
        for rule in beam:
            found, certain, precision, lower = _test(rule, seen, pull, settings, n_segments)
            settled = settled and certain
            tried.append(Anchor(rule, found, precision, lower, 0.5**size, settled, rows))
            if found:
                return tried[-1]
    best = max(tried, key=lambda anchor: anchor.lower)
    return Anchor(best.segments, False, best.precision, best.lower, best.coverage, settled, rows)


def kl_bounds(means: Tensor, draws: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """The smallest and largest q with draws * KL(mean, q) <= level, KL of Bernoulli variables in nats.

    Args:
        means: in [0, 1].
        draws: at least 1 each, same shape.
        level: log(1 / error probability), above 0.

    Returns:
        lower and upper bounds, float64, same shape. At mean 1 the lower is exp(-level / draws).
    """
    p, limit = means.double(), level / draws.double()
    near = torch.stack([p, p])
    far = torch.stack([torch.zeros_like(p), torch.ones_like(p)])
    for _ in range(36):  # halvings: 1e-11
        middle = (near + far) / 2
        q = middle.clamp(1e-15, 1 - 1e-15)
        inside = torch.xlogy(p, p / q) + torch.xlogy(1 - p, (1 - p) / (1 - q)) <= limit
        near, far = torch.where(inside, middle, near), torch.where(inside, far, middle)
    return near[0], near[1]


def _extended(beam: list[Rule], n_segments: int, seen: Seen) -> list[Rule]:
    """Every rule of the beam with one segment more; it starts with those of its parent's draws that it covers."""
    found: dict[Rule, None] = {}
    for rule in beam:
        present, stayed = seen[rule]
        for k in set(range(n_segments)) - set(rule):
            longer = tuple(sorted((*rule, k)))
            if longer not in found:
                found[longer] = None
                seen[longer] = (present[present[:, k]], stayed[present[:, k]])
    return list(found)


def _most_precise(rules: list[Rule], seen: Seen, pull: Pull, settings: Settings) -> tuple[list[Rule], bool]:
    """KL-LUCB: the `beam_size` most precise rules, and whether none left out can be better by more than epsilon.

    Its level at round t is b + log b, b = log(405.5 K t^1.1 / delta) for K rules.
    """
    for rule in rules:
        if not len(seen[rule][1]):
            pull(rule, 1)
    kept, turn, spent = settings.beam_size, 1, 0
    while True:
        means = torch.stack([seen[rule][1].double().mean() for rule in rules])
        order = means.argsort(descending=True, stable=True)
        inside, outside = order[:kept].tolist(), order[kept:].tolist()
        if not outside:
            return [rules[k] for k in inside], True
        exploring = log(405.5 * len(rules) * turn**1.1 / settings.delta)
        lower, upper = kl_bounds(means, torch.tensor([len(seen[rule][1]) for rule in rules]), exploring + log(exploring))
        weakest, rival = min(inside, key=lambda k: float(lower[k])), max(outside, key=lambda k: float(upper[k]))
        certain = bool(upper[rival] - lower[weakest] <= settings.epsilon)
        if certain or spent + 2 * settings.draws > settings.max_rows:
            return [rules[k] for k in inside], certain
        for k in (rival, weakest):
            pull(rules[k], settings.draws)
        turn, spent = turn + 1, spent + 2 * settings.draws


def _test(rule: Rule, seen: Seen, pull: Pull, settings: Settings, n_segments: int) -> tuple[bool, bool, float, float]:
    """Whether the rule is an anchor, whether that is certain, its precision and the lower bound: from new draws only.

    Those that made it the best of many would flatter it. At most (beam_size - 1) M + 1 rules are tested, so that each may err
    with delta divided by that.
    """
    level = log((1 + (settings.beam_size - 1) * n_segments) / settings.delta)
    low, high = settings.threshold - settings.tolerance, settings.threshold + settings.tolerance
    old, spent = len(seen[rule][1]), 0
    while True:
        pull(rule, settings.draws)
        spent += settings.draws
        new = seen[rule][1][old:]
        precision = float(new.double().mean())
        lower, upper = (float(bound) for bound in kl_bounds(new.double().mean(), torch.tensor(len(new)), level))
        passing = precision >= settings.threshold
        if (passing and lower >= low) or (not passing and upper < high):
            return passing, True, precision, lower
        if spent + settings.draws > settings.max_rows:
            return False, False, precision, lower

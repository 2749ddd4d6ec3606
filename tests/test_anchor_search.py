"""The search for anchors: bounds in closed form, games whose answer is known, rows counted."""

import itertools
from math import exp, log

import pytest
import torch

from xai_lib.anchor_search import Anchor, Settings, kl_bounds, search

CERTAIN = {"max_rows": 100_000, "draws": 500}


def found_by(formula, n_segments, seed=0, **own):
    """The anchor of a game given on coalitions (k, M)."""
    return search(formula, n_segments, torch.Generator().manual_seed(seed), Settings(**own))


def all_of(*members):
    return lambda present: present[:, list(members)].all(dim=1)


# --- bounds -------------------------------------------------------------------------------------------------------------------


def divergence(p, q):
    return sum(a * log(a / b) for a, b in ((p, q), (1 - p, 1 - q)) if a > 0)


def test_bounds_at_the_ends_are_closed_forms():
    lower, upper = kl_bounds(torch.tensor([1.0, 0.0]), torch.tensor([10, 10]), 3.0)
    assert lower.tolist() == pytest.approx([exp(-0.3), 0])
    assert upper.tolist() == pytest.approx([1, 1 - exp(-0.3)])


@pytest.mark.parametrize(("p", "n", "level"), [(0.5, 10, 3.0), (0.9, 100, 5.0), (0.02, 7, 1.0), (0.97, 1000, 12.0)])
def test_bounds_are_where_the_divergence_is_the_level(p, n, level):
    lower, upper = kl_bounds(torch.tensor([p], dtype=torch.float64), torch.tensor([n]), level)
    assert lower < p < upper
    for q in (lower.item(), upper.item()):
        assert n * divergence(p, q) == pytest.approx(level, rel=1e-6)


def test_more_draws_give_narrower_bounds():
    lower, upper = kl_bounds(torch.full((3,), 0.8), torch.tensor([10, 100, 1000]), 3.0)
    assert (upper - lower).diff().max() < 0


def test_levels_are_those_of_the_paper(monkeypatch):
    """Choosing: b + log b, b = log(405.5 K t^1.1 / delta) at round t. Testing: log((1 + (B - 1) M) / delta)."""
    seen = []

    def remember(means, draws, level):
        seen.append((len(means) if means.ndim else 0, level))
        return kl_bounds(means, draws, level)

    monkeypatch.setattr("xai_lib.anchor_search.kl_bounds", remember)
    made = found_by(all_of(2), 6, beam_size=3, delta=0.1, epsilon=0.02)
    assert made.segments == (2,)
    choosing, testing = ([level for k, level in seen if bool(k) == many] for many in (True, False))
    for turn, level in enumerate(choosing, start=1):
        b = log(405.5 * 6 * turn**1.1 / 0.1)
        assert level == pytest.approx(b + log(b))
    assert len(choosing) > 2
    assert testing == pytest.approx([log(13 / 0.1)] * 2)
    assert made.lower == pytest.approx(exp(-log(13 / 0.1) / 100))


# --- the search ---------------------------------------------------------------------------------------------------------------


def precision(game, n_segments, rule):
    """Exact precision of a rule, by enumeration."""
    rows = torch.tensor([row for row in itertools.product([0, 1], repeat=n_segments) if all(row[k] for k in rule)]) == 1
    return game(rows).double().mean().item()


@pytest.mark.parametrize("members", [(2,), (0, 3), (1, 4, 5)])
@pytest.mark.parametrize("seed", range(3))
def test_the_segments_that_decide_are_the_anchor(members, seed):
    made = found_by(all_of(*members), 6, seed)
    assert (made.segments, made.found, made.precision) == (members, True, 1.0)
    assert made.coverage == 0.5 ** len(members)


def test_no_shorter_rule_was_an_anchor():
    """At least 3 of 4 of the first segments, or the last with any two of them."""

    def game(present):
        return (present[:, :4].sum(1) + present[:, 4] >= 3) & (present[:, :4].sum(1) >= 2)

    made = found_by(game, 6, **CERTAIN, beam_size=3)
    assert made.found
    assert precision(game, 6, made.segments) >= 0.9
    for size in range(len(made.segments)):
        best = max(precision(game, 6, rule) for rule in itertools.combinations(range(6), size))
        assert best < 0.95


def trap(present):
    """(a and b) or (c and at least 2 of 4): c is the best single segment, and no part of the shortest anchor."""
    return present[:, :2].all(dim=1) | (present[:, 2] & (present[:, 3:].sum(dim=1) >= 2))


def test_a_beam_finds_what_a_greedy_search_misses():
    single = [precision(trap, 7, (k,)) for k in range(7)]
    assert max(range(7), key=single.__getitem__) == 2
    own = {**CERTAIN, "epsilon": 0.05}
    greedy, beam = found_by(trap, 7, **own), found_by(trap, 7, **own, beam_size=3)
    assert (2 in greedy.segments, len(greedy.segments)) == (True, 3)
    assert beam.segments == (0, 1)


def test_a_prediction_that_nothing_changes_has_the_empty_anchor():
    made = found_by(lambda present: torch.ones(len(present), dtype=torch.bool), 5)
    assert (made.segments, made.found, made.precision, made.coverage) == ((), True, 1.0, 1.0)
    assert made.rows == 101


def test_the_test_of_a_rule_is_on_its_lower_bound():
    """Precision 31/32 of the empty rule: over .95, but its lower bound must come within the tolerance."""

    def game(present):
        return present[:, :5].any(dim=1)

    made = {
        tolerance: [found_by(game, 8, s, tolerance=tolerance, max_rows=20_000) for s in range(4)] for tolerance in (0.1, 0.005)
    }
    for tolerance, four in made.items():
        assert all(own.found and own.segments == () and own.lower >= 0.95 - tolerance for own in four)
    assert min(own.lower for own in made[0.1]) < 0.945
    loose, strict = (sum(own.rows for own in four) for four in made.values())
    assert strict > 2 * loose
    assert found_by(game, 8, threshold=0.99, tolerance=0.005).segments != ()


def test_a_higher_threshold_asks_for_more():
    """Two of three: P = 1/2 with none, 3/4 with one, 1 with two."""

    def game(present):
        return present[:, :3].sum(dim=1) >= 2

    assert len(found_by(game, 5, threshold=0.65, **CERTAIN).segments) == 1
    assert len(found_by(game, 5, threshold=0.9, **CERTAIN).segments) == 2


def test_ties_are_broken_at_random():
    """Any one of six keeps the class: all are anchors, and place does not decide which is taken."""
    own = {"threshold": 0.995, "tolerance": 0.004, "max_rows": 2000, "draws": 500}
    made = [found_by(lambda present: present.any(dim=1), 6, seed, **own) for seed in range(8)]
    assert {len(each.segments) for each in made} == {1}
    assert len({each.segments for each in made}) > 3


def test_max_rows_bounds_the_work_and_is_said():
    """Two equal segments cannot be told apart to within epsilon in 200 rows."""
    asked = []

    def game(present):
        asked.append(len(present))
        return present[:, :6].sum(dim=1) >= 4

    made, settled = found_by(game, 12, max_rows=200, epsilon=0.02), found_by(all_of(3), 4, **CERTAIN)
    assert (made.settled, settled.settled) == (False, True)
    assert made.rows == sum(asked)
    assert sum(asked) <= 1 + 200 + len(made.segments) * (200 + 12 + 200)
    assert made.found
    assert precision(game, 12, made.segments) > 0.85


def test_an_exhausted_test_is_not_passed():
    """Every rule has precision .96; 100 rows cannot tell it from .949."""
    luck = torch.Generator().manual_seed(0)
    own = {"tolerance": 0.001, "max_rows": 100, "draws": 50, "max_segments": 2, "epsilon": 0.99}  # every choice is certain
    made = found_by(lambda present: torch.rand(len(present), generator=luck) < 0.96, 5, **own)
    assert (made.found, made.settled, len(made.segments)) == (False, False, 2)
    assert made.lower == pytest.approx(kl_bounds(torch.tensor(made.precision), torch.tensor(100), log(20))[0].item())


def test_what_the_class_does_not_survive_has_no_anchor():
    made = found_by(lambda present: ~present.all(dim=1), 3)
    assert made == Anchor((), False, 0.0, 0.0, 1.0, True, 1)


def test_a_rule_is_shown_with_its_segments_and_half_of_the_others():
    shown = []

    def game(present):
        shown.append(present)
        return present[:, 0] & present[:, 1]

    made = found_by(game, 6, **CERTAIN)
    assert made.segments == (0, 1)
    assert made.rows == sum(map(len, shown))
    assert shown[0].tolist() == [[True] * 6]
    forced = [own.all(dim=0) for own in shown[1:]]
    assert [int(own.sum()) for own in forced] == sorted(int(own.sum()) for own in forced)
    assert {int(own.sum()) for own in forced} == {0, 1, 2}
    for own, always in zip(shown[1:], forced, strict=True):
        assert ((own.double().mean(dim=0)[~always] - 0.5).abs() < 0.1).all()


def test_what_was_drawn_under_a_shorter_rule_counts_and_does_not_mislead():
    """P = 3/4 under any one of three: the estimate of the rule that was not extended further is right."""

    def game(present):
        return present[:, :3].sum(dim=1) >= 2

    made = [found_by(game, 5, seed, **CERTAIN, max_segments=1) for seed in range(10)]
    assert all(own.segments[0] < 3 and not own.found for own in made)
    assert torch.tensor([own.precision for own in made]).mean().item() == pytest.approx(0.75, abs=0.02)

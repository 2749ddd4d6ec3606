"""The smallest amount that changes a prediction: plain loops, captum and closed forms (FIDELITY 6.8, TV-29)."""

import numpy as np
import pytest
import torch
from captum.robust import MinParamPerturbation
from torch import nn
from torchvision.transforms import functional as tv

from xai_lib import toys
from xai_lib.counterfactuals import PERTURBATIONS, cover_rows, minimal_perturbation, predictions, random_bounds, transitions
from xai_lib.counterfactuals.search import ALREADY
from xai_lib.errors import ConfigError, InputError, ModelError

X = torch.rand((6, 3, 8, 8), generator=torch.Generator().manual_seed(0))


class Edges(nn.Module):
    """A net with sharp, non-monotone changes under rotation: weights of high frequency on every pixel."""

    def __init__(self, shape=(3, 8, 8), classes=4):
        super().__init__()
        size = int(np.prod(shape))
        self.weight = nn.Parameter(
            torch.randn((classes, size), generator=torch.Generator().manual_seed(3)), requires_grad=False
        )
        self.eval()

    def forward(self, x):
        return x.flatten(1) @ self.weight.T


EDGES = Edges()
TARGETS = EDGES(X).argmax(dim=1)


def changed_between(*intervals):
    """Class 1 where the single value lies in one of the open intervals, else class 0."""

    def logits(x):
        value = x.flatten(1)[:, 0]
        inside = torch.zeros_like(value)
        for low, high in intervals:
            inside = inside + ((value > low) & (value < high)).to(value)
        return inside - 0.5

    return toys.Formula(lambda x: torch.stack([0 * logits(x), logits(x)], dim=1))


def along(value=0.0, n=1):
    """Images of one value in float64, explained as class 0."""
    return torch.full((n, 1), value, dtype=torch.float64), torch.zeros(n, dtype=torch.int64)


LINE = {"brightness": {"clip": False}}


def test_tv29():
    """Class 1 iff z > 0.5, attack z - d, z = 0.8, step 0.01: 0.30."""
    model = toys.Formula(lambda x: torch.stack([0 * x[:, 0], x[:, 0] - 0.5], dim=1))
    for step, precision in ((0.01, 0.01), (0.1, 0.01), (0.3, 0.01)):
        found = minimal_perturbation(
            model, torch.tensor([[0.8]]), torch.tensor([1]), perturbation="brightness", maximum=0.9, step=step,
            precision=precision,
        )  # fmt: skip
        assert found.amounts.tolist() == [0.3]
        assert (found.signs.tolist(), found.flips_to.tolist(), found.flags) == ([-1], [0], ("",))


def test_a_change_that_is_undone_is_found_where_halving_would_miss_it():
    """Changed in (0.145, 0.2) and above 0.785: halving [0, 1] asks 0.5, then only above it, and finds 0.79."""
    model, (x, t) = changed_between((0.145, 0.2), (0.785, 9.0)), along()

    def halved():
        low, high = 0, 100
        while high - low > 1:
            middle = (low + high) // 2
            changed = model(x + middle / 100).argmax(dim=1) != t
            low, high = (low, middle) if changed else (middle, high)
        return high / 100

    own = {"perturbation": LINE, "maximum": 1.0, "directions": "positive"}
    assert halved() == 0.79
    assert minimal_perturbation(model, x, t, step=0.05, precision=0.01, **own).amounts.item() == 0.15
    assert minimal_perturbation(model, x, t, step=0.01, precision=0.01, **own).amounts.item() == 0.15
    missed = minimal_perturbation(model, x, t, step=0.25, precision=0.01, **own)
    assert missed.amounts.item() == 0.79, "undone before the next coarse amount: outside the guarantee"


def test_inside_its_interval_the_first_of_several_changes_is_taken():
    """Changed in (0.315, 0.335) and above 0.375: coarse scan stops at 0.4, halving (0.3, 0.4) asks 0.35 and goes up."""
    model, (x, t) = changed_between((0.315, 0.335), (0.375, 9.0)), along()
    found = minimal_perturbation(model, x, t, perturbation=LINE, maximum=1.0, step=0.1, precision=0.01)
    assert (found.amounts.item(), found.signs.item()) == (0.32, 1)


def test_the_other_direction_may_change_earlier_inside_the_interval():
    """Upwards from 0.385 on, downwards only in (-0.365, -0.315): the coarse scan meets the one, the fine scan the other."""
    model, (x, t) = changed_between((0.385, 9.0), (-0.365, -0.315)), along()
    both = minimal_perturbation(model, x, t, perturbation=LINE, maximum=1.0, step=0.1, precision=0.01)
    assert (both.amounts.item(), both.signs.item()) == (0.32, -1)
    up = minimal_perturbation(model, x, t, perturbation=LINE, maximum=1.0, step=0.1, precision=0.01, directions="positive")
    assert (up.amounts.item(), up.signs.item()) == (0.39, 1)


def test_none_and_already():
    model = changed_between((0.995, 9.0))
    x, t = torch.tensor([[0.0], [2.0]], dtype=torch.float64), torch.zeros(2, dtype=torch.int64)
    found = minimal_perturbation(model, x, t, perturbation=LINE, maximum=0.9, step=0.3, precision=0.1)
    assert str(found.amounts.tolist()) == "[nan, 0.0]"
    assert (found.flips_to.tolist(), found.signs.tolist()) == ([-1, 1], [0, 0])
    assert found.flags == ("none up to 0.9", ALREADY)
    assert found.rows.tolist() == [1 + 2 * 3, 1]
    reached = minimal_perturbation(model, x[:1], t[:1], perturbation=LINE, maximum=1.2, step=0.3, precision=0.1)
    assert reached.amounts.tolist() == [1.0], "the maximum itself is tried"


def linear_scan(model, x, target, perturb, count, step, signs=(1, -1)):
    """The smallest multiple of a step that changes the prediction, by plain loops: (amount, sign, class)."""
    for k in range(1, count + 1):
        for sign in signs:
            predicted = int(model(perturb(x[None], round(sign * k * step, 10))).argmax())
            if predicted != target:
                return round(k * step, 10), sign, predicted
    return None


def two_scans(model, x, target, perturb, coarse, step, fine, precision):
    """Coarse scan, then the fine one in its last interval, by plain loops."""
    found = linear_scan(model, x, target, perturb, coarse, step)
    if found is None:
        return float("nan"), 0, -1
    low = round(found[0] / precision) - fine
    for k in range(low + 1, low + fine + 1):
        for sign in (1, -1):
            predicted = int(model(perturb(x[None], round(sign * k * precision, 10))).argmax())
            if predicted != target:
                return round(k * precision, 10), sign, predicted
    raise AssertionError


@pytest.mark.parametrize(
    ("perturbation", "maximum", "step", "precision"),
    [
        ("rotation", 90.0, 7.5, 0.5),
        ("rotation", 40.0, 0.5, 0.5),
        ("cover_rows", 8.0, 2.0, 1.0),
        ({"rotation": {"inside": True}}, 60.0, 6.0, 1.0),
    ],
)
def test_searches_are_the_plain_loops(perturbation, maximum, step, precision):
    perturb = PERTURBATIONS.bind(perturbation)
    found = minimal_perturbation(EDGES, X, TARGETS, perturbation=perturbation, maximum=maximum, step=step, precision=precision)
    started = EDGES(perturb(X, 0.0)).argmax(dim=1)
    for i in range(len(X)):
        expected = (0.0, 0, int(started[i])) if started[i] != TARGETS[i] else two_scans(
            EDGES, X[i], int(TARGETS[i]), perturb, round(maximum / step), step, round(step / precision), precision
        )  # fmt: skip
        got = (found.amounts[i].item(), found.signs[i].item(), found.flips_to[i].item())
        assert str(got) == str(expected)
    assert len(set(found.amounts.tolist())) >= 2


def test_captums_linear_mode_finds_the_same_angles():
    for i in range(3):
        peer = [
            MinParamPerturbation(EDGES, lambda image, angle, sign=sign: tv.rotate(image, sign * angle), "angle", 0.5, 90.5, 0.5)
            .evaluate(X[i : i + 1], target=int(TARGETS[i]))[1]
            for sign in (1, -1)
        ]  # fmt: skip
        expected = min(float("inf") if one is None else one for one in peer)
        found = minimal_perturbation(EDGES, X[i : i + 1], TARGETS[i : i + 1], step=0.5, precision=0.5)
        assert found.amounts.item() == expected


def test_an_image_depends_on_no_company_order_or_batch():
    own = {"maximum": 60.0, "step": 3.0, "precision": 0.5}
    whole = minimal_perturbation(EDGES, X, TARGETS, **own)
    order, crowd = torch.tensor([3, 0, 5]), torch.arange(6).repeat(8)
    for at, batch in ((torch.arange(6), 1), (order, 5), (crowd, None)):
        inputs, targets = X[at], TARGETS[at]
        found = minimal_perturbation(EDGES, inputs, targets, max_batch=batch, **own)
        for name in ("amounts", "signs", "flips_to", "rows"):
            assert torch.equal(getattr(found, name).nan_to_num(-1), getattr(whole, name)[at].nan_to_num(-1)), name


def test_rows_are_those_that_went_through_the_model(spy):
    model = spy(EDGES)
    found = minimal_perturbation(model, X, TARGETS, maximum=60.0, step=3.0, precision=0.5)
    assert sum(model.calls) == int(found.rows.sum())


def test_noise_has_one_direction():
    found = minimal_perturbation(EDGES, X, TARGETS, perturbation="noise", maximum=2.0, step=0.2, precision=0.05)
    assert {1} <= set(found.signs.tolist()) <= {0, 1}
    with pytest.raises(ConfigError, match="one direction only"):
        minimal_perturbation(EDGES, X, TARGETS, perturbation="noise", directions="negative")
    with pytest.raises(ConfigError, match="one direction only"):
        random_bounds(EDGES, X, TARGETS, perturbation="noise")


def test_a_perturbation_may_be_a_function():
    def shifted(images, amounts):
        return images + amounts.to(images.dtype)[:, None]

    x, t = along()
    found = minimal_perturbation(changed_between((0.195, 9)), x, t, perturbation=shifted, maximum=1.0, step=0.1, precision=0.05)
    assert (found.amounts.item(), found.signs.item()) == (0.2, 1)


BAD = {
    "multiple of precision": ({"step": 0.5, "precision": 0.2}, "step=0.5 is no multiple of precision=0.2"),
    "multiple of step": ({"maximum": 90.25}, "maximum=90.25 is no multiple of step=0.2"),
    "coarser": ({"step": 0.05, "precision": 0.5}, "no multiple"),
    "zero": ({"step": 0.0}, "step=0.0: expected a positive number"),
    "infinite": ({"maximum": float("inf")}, "maximum=inf: expected a positive number"),
    "truth": ({"precision": True}, "precision=True"),
    "direction": ({"directions": "left"}, "directions='left': expected one of both, positive, negative"),
    "name": ({"perturbation": "rotate"}, "did you mean 'rotation'"),
    "parameter": ({"perturbation": {"rotation": {"mode": "nearest"}}}, "parameter of perturbation 'rotation'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_are_refused_before_the_model_runs(case, spy):
    own, message = BAD[case]
    model = spy(EDGES)
    with pytest.raises(ConfigError, match=message):
        minimal_perturbation(model, X, TARGETS, **own)
    assert model.calls == []


def test_a_nan_logit_is_an_error_not_a_class():
    model = toys.Formula(lambda x: torch.where(x > 0.25, torch.nan, x).flatten(1).sum(1))
    x, t = along()
    with pytest.raises(ModelError, match="a logit of a changed image is NaN"):
        minimal_perturbation(model, x, t, perturbation=LINE, maximum=0.5, step=0.1, precision=0.1, directions="positive")
    with pytest.raises(InputError, match="the model has 4"):
        minimal_perturbation(EDGES, X, TARGETS + 4)


def test_predictions_are_those_of_each_changed_image():
    rows = (0, 3, 5, -3, -5)
    made = predictions(EDGES, X, TARGETS, "cover_rows", rows, max_batch=4)
    for i, k in np.ndindex(len(X), len(rows)):
        assert made[i, k] == EDGES(cover_rows(X[i : i + 1], rows[k])).argmax()
    assert torch.equal(made[:, 0], TARGETS)
    with pytest.raises(ConfigError, match="at least one"):
        predictions(EDGES, X, TARGETS, "cover_rows", ())


def test_transitions_count_pairs():
    before, after = torch.tensor([0, 1, 1, 2, 2]), torch.tensor([1, 2, 2, -1, 0])
    assert transitions(before, after, 3).tolist() == [[0, 1, 0], [0, 0, 2], [1, 0, 0]]
    with pytest.raises(InputError, match="0 to 1"):
        transitions(before, after, 2)
    with pytest.raises(InputError, match="twice"):
        transitions(before, after[:2], 3)

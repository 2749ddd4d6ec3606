"""The document's protocol of random rotations: its plain loop, and what its number overshoots (FIDELITY E4.2)."""

import numpy as np
import pytest
import torch
from test_counterfactuals import EDGES, LINE, TARGETS, X, along, changed_between
from torchvision.transforms import functional as tv

from xai_lib import randomness
from xai_lib.counterfactuals import overshoot, random_bounds
from xai_lib.errors import ConfigError


def draws_of(image, repeats, count, limits, seed=0):
    generator = randomness.image_generator(seed, "random_bounds", image)
    unit = torch.rand((repeats, count), generator=generator, dtype=torch.float64)
    return [[(2 * float(u) - 1) * limit for u, limit in zip(row, limits, strict=True)] for row in unit]


@pytest.mark.parametrize("resolution", [None, 1.5])
def test_the_protocol_is_its_plain_loop(resolution):
    """Rotate by a fresh draw at every bound with torchvision, stop at the first other class."""
    limits = [round(0.3 * k, 10) for k in range(1, 100)]
    found = random_bounds(EDGES, X, TARGETS, maximum=30.0, step=0.3, repeats=3, resolution=resolution)
    for i in range(len(X)):
        for r, row in enumerate(draws_of(X[i], 3, len(limits), limits)):
            expected = float("nan"), -1
            for limit, drawn in zip(limits, row, strict=True):
                angle = drawn if resolution is None else round(drawn / resolution) * resolution
                predicted = int(EDGES(tv.rotate(X[i : i + 1], angle)).argmax())
                if predicted != TARGETS[i]:
                    expected = limit, predicted
                    break
            assert str((found.bounds[i, r].item(), found.flips_to[i, r].item())) == str(expected)
            if not np.isnan(expected[0]):
                assert abs(found.drawn[i, r].item() - drawn) < 1e-12
    assert bool((found.bounds > 0).any())


@pytest.mark.parametrize("amount", [0.24, 0.08])
def test_its_number_overshoots_as_rayleigh_says(amount):
    """|z| > amount changes: mean and spread of the overshoot against a Rayleigh distribution's."""
    step, (x, t) = 0.0005, along()
    model = changed_between((amount, 9.0), (-9.0, -amount))
    over = random_bounds(
        model, x, t, perturbation=LINE, maximum=0.4, step=step, repeats=4000, resolution=step
    ).bounds[0] - amount  # fmt: skip
    expected, spread = overshoot(amount, step), ((2 - np.pi / 2) * step * amount) ** 0.5
    assert float(over.min()) > -step
    assert abs(float(over.mean()) - expected) < 4 * spread / 4000**0.5 + step
    assert float(over.std()) == pytest.approx(spread, rel=0.06)


def test_one_direction_overshoots_by_root_two_more():
    step, (x, t) = 0.0005, along()
    found = random_bounds(
        changed_between((0.2, 9.0)), x, t, perturbation=LINE, maximum=0.4, step=step, repeats=4000, resolution=step
    )  # fmt: skip
    expected = overshoot(0.2, step, sides=1)
    assert abs(float(found.bounds.mean()) - 0.2 - expected) < 0.03 * expected + step
    assert bool((found.drawn >= 0.2 - step).all())
    assert expected == pytest.approx(2**0.5 * overshoot(0.2, step))
    with pytest.raises(ConfigError, match="sides=3"):
        overshoot(1.0, 0.1, sides=3)


def test_bounds_that_never_or_always_change():
    x, t = along(n=1)
    own = {"perturbation": LINE, "maximum": 0.4, "step": 0.01, "repeats": 2}
    for resolution in (None, 0.01):
        never = random_bounds(changed_between((7, 9)), x, t, resolution=resolution, **own)
        assert bool(never.bounds.isnan().all())
        assert never.flips_to.tolist() == [[-1, -1]]
        always = random_bounds(changed_between((-9, 9)), x, t, resolution=resolution, **own)
        assert (always.bounds.tolist(), always.flips_to.tolist(), always.rows.tolist()) == ([[0, 0]], [[1, 1]], [1])
    assert never.rows.tolist() == [1 + 2 * 40]


def test_repeats_differ_and_an_images_bounds_are_its_own():
    own = {"maximum": 60.0, "step": 0.5, "repeats": 4, "resolution": 2.0}
    whole = random_bounds(EDGES, X, TARGETS, **own)
    one = random_bounds(EDGES, X[4:5], TARGETS[4:5], max_batch=3, **own)
    for name in ("bounds", "drawn", "flips_to", "rows"):
        assert torch.equal(getattr(whole, name)[4:5].nan_to_num(-1), getattr(one, name).nan_to_num(-1)), name
    assert len(set(whole.bounds.nan_to_num(-1).flatten().tolist())) > 6
    assert not torch.equal(random_bounds(EDGES, X, TARGETS, seed=1, **own).bounds, whole.bounds)
    literal = random_bounds(EDGES, X[:1], TARGETS[:1], maximum=60.0, step=0.5, repeats=4, resolution=None)
    fine = random_bounds(EDGES, X[:1], TARGETS[:1], maximum=60.0, step=0.5, repeats=4, resolution=0.01)
    assert torch.allclose(literal.bounds, fine.bounds, atol=1.0, equal_nan=True)


def test_bad_protocols_are_refused():
    for own, message in (
        ({"repeats": 0}, "repeats=0"),
        ({"resolution": 0.7}, "no multiple of step=0.7"),
        ({"step": -1}, "step=-1"),
    ):
        with pytest.raises(ConfigError, match=message):
            random_bounds(EDGES, X, TARGETS, **own)

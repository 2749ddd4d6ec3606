"""Anchors of images: TV-28, a model whose reasons are known, and rows counted by a spy."""

import dataclasses
import inspect

import pytest
import torch

from xai_lib import METHODS, segments, toys
from xai_lib.anchor_search import Anchor, Settings
from xai_lib.errors import ConfigError, InputError
from xai_lib.methods.anchors import anchors

CERTAIN = {"max_rows": 100_000, "draws": 500}
AND = toys.Formula(lambda x: torch.stack([1.5 - x.flatten(1).sum(1), x.flatten(1).sum(1) - 1.5], dim=1))
BITS = torch.tensor([[[0, 1]]])


def flipped(inputs):
    return 1 - inputs


# --- TV-28 --------------------------------------------------------------------------------------------------------------------


def test_tv28_of_one_and_one_the_anchor_is_both():
    """f = x1 AND x2: {x1 = 1} has precision 1/2 and coverage 1/2; both together have 1 and 1/4."""
    x, t = torch.ones(1, 1, 1, 2), torch.ones(1, dtype=torch.int64)
    (made,) = anchors(AND, x, t, BITS, Settings(**CERTAIN), baseline=flipped)
    assert (made.segments, made.found, made.precision, made.coverage, made.settled) == ((0, 1), True, 1.0, 0.25, True)
    (short,) = anchors(AND, x, t, BITS, Settings(**CERTAIN, max_segments=1), baseline=flipped)
    assert (len(short.segments), short.found, short.coverage) == (1, False, 0.5)
    assert short.precision == pytest.approx(0.5, abs=0.05)


def test_tv28_of_nought_and_one_the_anchor_is_the_nought():
    x, t = torch.tensor([[[[0.0, 1.0]]]]), torch.zeros(1, dtype=torch.int64)
    (made,) = anchors(AND, x, t, BITS, Settings(**CERTAIN), baseline=flipped)
    assert (made.segments, made.found, made.precision, made.coverage) == ((0,), True, 1.0, 0.5)
    map_of = METHODS.bind("anchors_image", segments=BITS, baseline=flipped)(AND, x, t)
    assert map_of.flatten().tolist() == [1, 0]


# --- the method ---------------------------------------------------------------------------------------------------------------


def corner(x):
    """Class 1 where the top left quarter is bright."""
    bright = x[:, :, :4, :4].flatten(1).mean(1) - 0.5
    return torch.stack([-bright, bright], dim=1)


X = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.2
X[:2, :, :4, :4] += 0.7
T = torch.tensor([1, 1, 0])
QUARTERS = {"grid": {"rows": 2, "columns": 2}}


def explain(**own):
    return METHODS.bind("anchors_image", **{"segments": QUARTERS, "baseline": "black", **own})


def test_the_quarter_that_decides():
    made = explain()(toys.Formula(corner), X, T).sum(1)
    expected = torch.zeros(8, 8)
    expected[:4, :4] = 1
    torch.testing.assert_close(made[:2], expected.expand(2, -1, -1))
    assert not made[2].any()  # dark stays dark: the empty rule


def test_a_class_that_is_not_predicted_has_no_anchor_and_a_zero_map():
    labels = segments.segment(QUARTERS, X)
    made = anchors(toys.Formula(corner), X, 1 - T, labels, Settings(), baseline="black")
    assert [own.found for own in made] == [False] * 3
    assert not explain()(toys.Formula(corner), X, 1 - T).any()


def test_a_rule_that_failed_is_not_drawn():
    """Two quarters decide, one may be taken: nothing is found, nothing is shown."""
    both = toys.Formula(lambda x: torch.stack([x.new_full((len(x),), 1.5), x[:, 0, 0, 0] + x[:, 0, 7, 7]], dim=1))
    ones, t = torch.ones(1, 1, 8, 8), torch.ones(1, dtype=torch.int64)
    assert explain(max_segments=2)(both, ones, t)[0, 0].mean() == 0.5
    assert not explain(max_segments=1)(both, ones, t).any()


def test_an_image_is_explained_alike_in_any_company(images, zeros):
    """Class 0 where the mean is above 0.38: about four cells of six must be seen."""
    bright = toys.Formula(lambda x: x.flatten(1).mean(1) - 0.38)
    cells = {"grid": {"rows": 2, "columns": 3}}
    labels, settings = segments.segment(cells, images), Settings(max_rows=80, draws=20)
    made = anchors(bright, images, zeros, labels, settings, baseline="black")
    assert all(own.found and len(own.segments) > 2 for own in made)
    assert len({own.segments for own in made}) > 1
    other = anchors(bright, images[[3, 1]], zeros[:2], labels[:2], settings, baseline="black", max_batch=7)
    assert other == [made[3], made[1]]
    assert anchors(bright, images, zeros, labels, settings, baseline="black", seed=1) != made
    maps = explain(segments=cells, max_rows=80, draws=20)(bright, images, zeros).sum(1)
    for i, own in enumerate(made):
        torch.testing.assert_close(maps[i], torch.isin(labels[i], torch.tensor(own.segments)).float())


def test_rows_are_counted_and_within_max_batch(spy):
    model = spy(toys.Formula(corner))
    made = anchors(model, X, T, segments.segment(QUARTERS, X), Settings(), baseline="black", max_batch=32)
    assert sum(model.calls) == sum(own.rows for own in made)
    assert max(model.calls) <= 32


def test_settings_are_those_of_the_method():
    given = inspect.signature(METHODS["anchors_image"].function).parameters
    for own in dataclasses.fields(Settings):
        assert given[own.name].default == own.default
    own = {"threshold": 0.7, "delta": 0.2, "epsilon": 0.3, "tolerance": 0.4, "beam_size": 2, "draws": 7, "max_rows": 9}
    with pytest.MonkeyPatch.context() as patch:
        seen = []
        patch.setattr(
            "xai_lib.methods.anchors.anchors", lambda *given, **_: seen.append(given[4]) or [Anchor((), *[0] * 6)] * 3
        )
        explain(**own, max_segments=3)(toys.Formula(corner), X, T)
    assert seen == [Settings(**own, max_segments=3)]


def test_what_cannot_be_asked_is_refused(spy):
    model = spy(toys.Formula(corner))
    for name in ("threshold", "delta", "epsilon", "tolerance"):
        for value in (0, 1, -0.1):
            with pytest.raises(ConfigError, match=rf"{name}={value}: expected a number between 0 and 1"):
                explain(**{name: value})(model, X, T)
    for name in ("beam_size", "draws", "max_rows", "max_segments"):
        for value in (0, 1.5):
            with pytest.raises(ConfigError, match=rf"{name}={value}: expected an integer of at least 1"):
                explain(**{name: value})(model, X, T)
    with pytest.raises(InputError, match="one segment only"):
        explain(segments={"grid": {"rows": 1, "columns": 1}})(model, X, T)
    assert model.calls == []

"""Occlusion: FIDELITY 6.1, TV-23, a plain loop, Captum where it says the same."""

import pytest
import torch

from xai_lib import METHODS, baselines, compute, maps, toys
from xai_lib.errors import ConfigError, InputError
from xai_lib.methods import occlusion as module

RAMP = toys.linear(torch.arange(1.0, 10.0)[None])


def run(model, x, target=0, **own):
    return METHODS.bind("occlusion", **own)(model, x, torch.full((len(x),), target))


def seeded(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def slow(model, x, target, size, step, fill, score="logit"):
    """Every window in a loop over its corners, every pixel the mean of the drops of its windows."""
    made = torch.zeros(x.shape[0], *x.shape[2:])
    for i, image in enumerate(x):
        height, width = image.shape[1:]
        whole = compute.scores(model, image[None], torch.tensor([target]), score=score)
        drops = [[[] for _ in range(width)] for _ in range(height)]
        top = 0
        while True:
            left = 0
            while True:
                hidden = image.clone()
                hidden[:, top : top + size, left : left + size] = fill[i][:, top : top + size, left : left + size]
                drop = whole - compute.scores(model, hidden[None], torch.tensor([target]), score=score)
                for v in range(top, min(top + size, height)):
                    for u in range(left, min(left + size, width)):
                        drops[v][u].append(float(drop))
                if left + size >= width:
                    break
                left += step
            if top + size >= height:
                break
            top += step
        for v in range(height):
            for u in range(width):
                made[i, v, u] = sum(drops[v][u]) / len(drops[v][u])
    return made


def test_tv_23():
    made = run(RAMP, torch.ones(1, 1, 3, 3), patch=2, stride=1, baseline="black")
    assert made[0, 0].tolist() == [[12, 14, 16], [18, 20, 22], [24, 26, 28]]


def test_single_pixels_of_a_linear_model_give_the_drop_of_that_pixel():
    x, w = seeded(2, 3, 4, 5), seeded(60, seed=1) - 0.5
    made = run(toys.linear(w[None]), x, patch=1, stride=1, baseline="white")
    expected = (w.reshape(3, 4, 5) * (x - 1)).sum(1)
    torch.testing.assert_close(maps.reduce(made), expected)
    assert torch.equal(made[:, 0], made[:, 2])


def test_a_window_over_everything_gives_the_difference_of_the_scores():
    x = seeded(2, 3, 4, 6)
    model, targets = toys.TinyNet(), torch.ones(2, dtype=torch.int64)
    made = maps.reduce(run(model, x, 1, patch=6, stride=6, baseline="black"))
    drop = compute.scores(model, x, targets) - compute.scores(model, torch.zeros_like(x), targets)
    torch.testing.assert_close(made, drop[:, None, None].expand(2, 4, 6))


@pytest.mark.parametrize(("size", "step"), [(3, 1), (3, 2), (4, 3), (5, 5), (2, 2)])
def test_a_loop_agrees(size, step):
    """7 x 10: the windows are cut at one edge, at both or at none."""
    x, model = seeded(2, 3, 7, 10), toys.TinyNet(seed=1)
    fill = torch.tensor([0.2, 0.5, 0.7])[None, :, None, None].expand_as(x)
    own = {"patch": size, "stride": step, "baseline": {"constant": {"value": [0.2, 0.5, 0.7]}}}
    for score in ("logit", "prob"):
        expected = slow(model, x, 2, size, step, fill, score)
        torch.testing.assert_close(maps.reduce(run(model, x, 2, score=score, **own)), expected, atol=1e-6, rtol=1e-4)
    assert expected.std() > 1e-4


@pytest.mark.parametrize(("size", "step"), [(3, 2), (4, 4), (5, 3), (1, 1)])
def test_captum_agrees_up_to_the_number_of_channels(size, step):
    from captum.attr import Occlusion

    x, model = seeded(2, 3, 9, 11).double(), toys.TinyNet(seed=2).double()
    fill = baselines.average(x)
    expected = Occlusion(model).attribute(
        x, sliding_window_shapes=(3, size, size), strides=(3, step, step), baselines=fill, target=torch.tensor([1, 1])
    )
    made = run(model, x, 1, patch=size, stride=step)
    torch.testing.assert_close(3 * made, expected.double(), atol=1e-6, rtol=1e-5)  # Captum answers in float32
    assert expected.abs().max() > 1e-3


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((224, 224), (15, 8)),
        ((28, 28), (4, 2)),
        ((32, 32), (4, 2)),
        ((128, 300), (9, 5)),
        ((299, 299), (20, 11)),
        ((6, 6), (3, 2)),
        ((1, 9), (1, 1)),
    ],
)
def test_the_default_window_follows_the_size_of_the_picture(shape, expected):
    assert module._window(*shape, None, None) == expected


def test_the_default_stride_follows_the_patch():
    assert module._window(224, 224, 31, None) == (31, 17)
    assert module._window(224, 224, None, 5) == (15, 5)


def test_the_default_fill_is_the_mean_colour_of_the_picture_itself():
    """Where a picture has its mean colour already, hiding changes nothing."""
    x = torch.tensor([0.25, 0.5, 0.75])[None, :, None, None].repeat(2, 1, 4, 4)
    x[1, 0, 0, 0] = 0.5  # the mean of red is 17/64 here
    made = maps.reduce(run(toys.linear(torch.ones(1, 48)), x, patch=1, stride=1))
    expected = torch.full((4, 4), -1 / 64)
    expected[0, 0] = 15 / 64
    torch.testing.assert_close(made[1], expected)
    assert not made[0].any()


def test_never_more_rows_than_max_batch_and_one_row_for_each_window(spy):
    """7 x 10, window 4 every 3: 2 by 3 windows of 3 images, and the whole pictures first."""
    x = seeded(3, 3, 7, 10)
    for most in (1, 4, 5):
        model = spy(toys.TinyNet())
        run(model, x, patch=4, stride=3, max_batch=most)
        assert max(model.calls) <= most
        assert sum(model.calls) == 3 + 3 * 6


def test_a_random_fill_belongs_to_the_image_and_the_seed():
    x = seeded(3, 3, 6, 6)
    own = {"patch": 3, "baseline": "uniform"}
    made = run(toys.TinyNet(), x, **own)
    torch.testing.assert_close(made[1:2], run(toys.TinyNet(), x[1:2], **own), atol=1e-6, rtol=1e-4)
    assert not torch.allclose(made, run(toys.TinyNet(), x, seed=1, **own))


def test_bad_requests_are_refused():
    x = seeded(1, 3, 6, 8)
    for own in ({"patch": 0}, {"patch": 9}, {"patch": 2.0}, {"patch": True}):
        with pytest.raises(ConfigError, match=r"patch=.*whole pixels from 1 to 8 for pictures of 6 x 8"):
            run(toys.TinyNet(), x, **own)
    for stride in (0, 4, 1.5):
        with pytest.raises(ConfigError, match=r"stride=.*whole pixels from 1 to the patch, 3"):
            run(toys.TinyNet(), x, patch=3, stride=stride)
    with pytest.raises(InputError, match=r"occlusion: expected images \(n, c, h, w\), got shape \(1, 9\)"):
        run(RAMP, torch.ones(1, 9))

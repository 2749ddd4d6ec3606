"""Which pixels are removed, and what is left (FIDELITY 8.11, TV-37, E2.4, E2.5)."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from xai_lib.errors import ConfigError, InputError
from xai_lib.removal import HOOKER, LORETH_COLOUR, Protocol, degrade, fill_of, protocol, removal_order, removed


@pytest.fixture
def digits():
    return torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(1))


def test_tv37_exactly_a_tenth_and_ties_that_vary_with_the_seed():
    maps = torch.zeros(1, 1, 28, 28)
    maps.view(-1)[[3, 100, 200, 300, 783]] = torch.tensor([5.0, -4.0, 3.0, 2.0, 1.0])
    gone = [removed(removal_order(maps, HOOKER, seed=seed), (1, 28, 28), 0.1)[0].flatten() for seed in (0, 1)]
    assert [int(each.sum()) for each in gone] == [78, 78]
    marked = maps.flatten() != 0
    assert all(bool(each[marked].all()) for each in gone)
    shared = int((gone[0] & gone[1] & ~marked).sum())
    assert shared < 30  # 73 of 779 at random: 6.8 shared on average
    by_index = removed(removal_order(maps, Protocol(ties="index")), (1, 28, 28), 0.1)[0].flatten()
    assert by_index.nonzero().flatten().tolist() == [*range(74), 100, 200, 300, 783]


def test_the_order_is_that_of_a_loop_over_the_values():
    maps = torch.randn(3, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    values = {"signed": lambda a: a, "abs": abs, "squared": lambda a: a * a}
    for ranking, value in values.items():
        for row, picture in zip(removal_order(maps, Protocol(ranking=ranking)), maps, strict=True):
            flat = [value(float(v)) for v in picture.flatten()]
            assert row.tolist() == sorted(range(60), key=lambda k: -flat[k])
        for row, picture in zip(removal_order(maps, Protocol(ranking=ranking, unit="pixel")), maps, strict=True):
            sums = [sum(value(float(picture[c, k // 5, k % 5])) for c in range(3)) for k in range(20)]
            assert row.tolist() == sorted(range(20), key=lambda k: -sums[k])


def test_a_pixel_goes_in_every_channel_and_a_channel_value_alone():
    order = torch.tensor([[3, 0, 1, 2]])
    assert removed(order, (3, 2, 2), 0.25, unit="pixel")[0].tolist() == [[[False, False], [False, True]]] * 3
    values = torch.tensor([[7, *[k for k in range(12) if k != 7]]])
    alone = removed(values, (3, 2, 2), 1 / 12)[0]
    assert alone.flatten().nonzero().flatten().tolist() == [7]


def test_keep_removes_exactly_what_remove_leaves(digits):
    order = removal_order(digits)
    for fraction in (0.0, 0.1, 0.29, 1.0):
        gone, kept = (removed(order, (1, 28, 28), fraction, keep=keep) for keep in (False, True))
        assert bool((gone ^ kept).all())
        assert set(gone.flatten(1).sum(1).tolist()) == {int(fraction * 784 + 1e-9)}


def test_what_is_left_by_hand():
    picture = torch.tensor([[[[0.0, 0.5]], [[1.0, 0.25]]]])
    gone = torch.tensor([[[[True, False]], [[False, True]]]])
    assert degrade(picture, gone, fill=[0.1, 0.9]).flatten().tolist() == pytest.approx([0.1, 0.5, 1.0, 0.9])
    assert degrade(picture, gone, fill=[0.1, 0.9], show="pattern").flatten().tolist() == [1.0, 0.0, 0.0, 1.0]
    assert picture.flatten().tolist() == [0.0, 0.5, 1.0, 0.25]


def test_e25_the_published_fill_is_a_picture_saved_after_normalising(digits):
    """The twin writes and reads a PNG file: normalise, write 0.1307 into it, clip, round to 8 bits."""
    rules = protocol("loreth")
    gone = removed(removal_order(digits, rules), (1, 28, 28), 0.3)
    made = degrade(digits, gone, fill=fill_of(rules.fill, digits), saved_as=rules.saved_as)
    for picture, mask, ours in zip(digits.numpy(), gone.numpy(), made.numpy(), strict=True):
        written = (picture - np.float32(0.1307)) / np.float32(0.3081)
        written[mask] = 0.1307
        file = io.BytesIO()
        Image.fromarray(np.clip(written[0] * 255 + 0.5, 0, 255).astype(np.uint8)).save(file, "png")
        np.testing.assert_allclose(ours[0], np.asarray(Image.open(file)) / 255, atol=1e-6)
    assert made[gone].unique().tolist() == pytest.approx([33 / 255])
    black, ink = degrade(
        torch.tensor([[[[0.0, 0.9]]]]), torch.zeros(1, 1, 1, 2, dtype=torch.bool), fill=[0.1], saved_as=(0.1307, 0.3081)
    ).flatten()
    assert (black, ink) == (0.0, 1.0)


def test_e25_the_colour_form_writes_imagenets_means_into_normalised_pixels():
    mean, std, written = (0.561, 0.440, 0.312), (0.252, 0.256, 0.259), (0.485, 0.456, 0.406)
    colour = torch.tensor(LORETH_COLOUR.fill)
    normalised = (colour - torch.tensor(mean)) / torch.tensor(std)
    assert normalised.tolist() == pytest.approx(written, abs=1e-5)


def test_the_mean_is_that_of_each_channel(digits):
    pictures = torch.cat([digits, digits**2, 1 - digits], dim=1)
    assert fill_of("mean", pictures) == pytest.approx([float(pictures[:, c].mean()) for c in range(3)], abs=1e-6)
    assert fill_of(0.25, pictures) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda: Protocol(target="true"), ConfigError, "target of a protocol"),
        (lambda: Protocol(fill="median"), ConfigError, "fill='median'"),
        (lambda: protocol("hoker"), ConfigError, "did you mean 'hooker'"),
        (lambda: protocol("hooker", tie="index"), ConfigError, "field of a protocol"),
        (lambda: removal_order(torch.zeros(2, 4)), InputError, r"expected \(n, c, h, w\)"),
        (lambda: removal_order(torch.full((1, 1, 2, 2), torch.nan)), InputError, "NaN"),
        (lambda: removal_order(torch.full((1, 1, 2, 2), torch.nan), Protocol(ties="index")), InputError, "NaN"),
        (lambda: removed(torch.zeros(1, 4), (1, 2, 2), 10), ConfigError, r"fraction 10: must lie in \[0, 1\]"),
        (lambda: removed(torch.zeros(1, 4), (3, 2, 2), 0.5), InputError, r"expected \(n, 12\)"),
        (lambda: fill_of([0.1, 0.2], torch.zeros(1, 3, 2, 2)), ConfigError, "3 channels"),
        (lambda: degrade(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), fill=[0.0]), InputError, "bool mask"),
        (lambda: degrade(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2) > 0, fill=[0.0], show="mask"), ConfigError, "show"),
    ],
)
def test_bad_requests_say_what_is_wrong(call, error, told):
    with pytest.raises(error, match=told):
        call()

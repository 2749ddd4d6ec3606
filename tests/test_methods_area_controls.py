"""Controls that reward nothing but area: closed forms, and the density of another method's map kept exactly."""

import pytest
import torch

from xai_lib import METHODS, baselines, maps, toys
from xai_lib.errors import ConfigError, InputError

X = torch.rand(4, 3, 12, 10, generator=torch.Generator().manual_seed(0))
T = torch.zeros(4, dtype=torch.int64)


def run(name, x=X, model=None, **own):
    return METHODS.bind(name, **own)(model or toys.TinyNet(), x, torch.zeros(len(x), dtype=torch.int64))


def kept(attributions, k):
    """FIDELITY 8.19 in numpy, image by image: the pixels of |sum over channels| at or above k population deviations."""
    made = []
    for one in maps.reduce(attributions).double().numpy():
        size = abs(one) / abs(one).max() if one.any() else one
        made.append(torch.from_numpy((size >= k * size.std()) & (size > 0)))
    return torch.stack(made)


def test_all_ones_is_one_everywhere():
    assert torch.equal(maps.reduce(run("all_ones")), torch.ones(4, 12, 10))
    assert torch.equal(run("all_ones", torch.rand(2, 5), toys.mean_pixel()), torch.ones(2, 5))


def test_the_centre_box_of_four_shapes():
    ten = maps.reduce(run("centre_box", torch.rand(1, 1, 10, 10)))[0]
    expected = torch.zeros(10, 10)
    expected[1:9, 1:9] = 1  # reach 3.54 around 4.5: rows 1 to 8, 64 of 100 pixels; 6 rows would be 36
    assert torch.equal(ten, expected)
    large = maps.reduce(run("centre_box", torch.rand(1, 3, 224, 224)))[0]
    assert torch.equal(large, large.flip(0))
    assert torch.equal(large, large.mT)
    assert float(large.mean()) == pytest.approx(0.5, abs=0.005)
    assert maps.reduce(run("centre_box", area_fraction=1.0)).eq(1).all()
    dot = maps.reduce(run("centre_box", torch.rand(1, 1, 5, 4), area_fraction=1e-6))[0]
    assert dot.nonzero().tolist() == [[2, 1], [2, 2]]


@pytest.mark.parametrize("k", [0.0, 0.25, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("base", ["gradient", "edge_detector", {"occlusion": {"patch": 3, "baseline": "white"}}])
def test_a_density_matched_map_keeps_as_many_pixels_as_its_base(base, k):
    given = METHODS.bind(base)(toys.TinyNet(), X, T)
    made = run("density_matched_random", base=base, k=k)
    count = kept(given, k).flatten(1).sum(1)
    assert torch.equal(maps.reduce(made).gt(0).flatten(1).sum(1), count)
    assert set(made.unique().tolist()) <= {0.0, float(torch.tensor(1 / 3))}
    assert torch.equal(kept(made, k).flatten(1).sum(1), count)  # also after its own thresholding
    assert base != "gradient" or k <= 0.5 or count.float().mean() < 100


def test_the_places_are_uniform_and_belong_to_image_and_seed():
    """5 of 20 pixels are kept: over 600 seeds each pixel is among them a quarter of the time."""
    x = torch.rand(2, 1, 4, 5, generator=torch.Generator().manual_seed(1))
    base = torch.zeros(2, 1, 4, 5)
    base[..., 0] = -1.0
    base[:, :, 0, 1] = 1.0
    own = {"base": lambda *_: base, "k": 0.5}
    shares = sum(run("density_matched_random", x, seed=s, **own) for s in range(600)) / 600
    torch.testing.assert_close(shares, torch.full_like(shares, 0.25), atol=0.075, rtol=0)
    one = run("density_matched_random", x, **own)
    assert not torch.equal(one[0], one[1])
    assert torch.equal(one[1:], run("density_matched_random", x[1:], base=lambda *_: base[1:], k=0.5))


def test_the_threshold_counts_channels_together_and_all_pixels_in_the_deviation():
    """Channel sums (4, 2, 0, 0): deviation sqrt(11 / 4) = 1.658; k = 1.2 keeps from 1.99 up, k = 1.21 from 2.006 up."""
    base = torch.tensor([[[[7.0, 1.0, -2.0, 0.0]], [[-3.0, 1.0, 2.0, 0.0]]]])
    for k, count in ((0.0, 2), (1.2, 2), (1.21, 1), (2.4, 1), (2.5, 0)):
        made = run("density_matched_random", torch.rand(1, 2, 1, 4), base=lambda *_: base, k=k)
        assert int(maps.reduce(made).gt(0).sum()) == count


def test_a_pixel_at_the_threshold_is_kept():
    """Half ones, half zeros: deviation 1/2, so that k = 2 is at the ones exactly."""
    base = torch.tensor([[[[1.0, 0.0, -1.0, 0.0]]]])
    for k, count in ((2.0, 2), (2.01, 0)):
        assert int(run("density_matched_random", torch.rand(1, 1, 1, 4), base=lambda *_: base, k=k).sum()) == count


def test_maps_without_values_have_no_density():
    base = torch.stack([torch.zeros(3, 12, 10), torch.ones(3, 12, 10), torch.rand(3, 12, 10), torch.rand(3, 12, 10)])
    base[2, 1, 4, 4], base[3, 0, 0, 0] = torch.nan, torch.inf
    made = run("density_matched_random", base=lambda *_: base)
    assert not made[0].any()
    assert torch.equal(maps.reduce(made[1:2]), torch.ones(1, 12, 10))
    assert maps.flags(made) == ["zero", "constant", "nonfinite", "nonfinite"]
    assert made[2:].isnan().all()


def test_a_density_matched_row_of_a_table():
    x = torch.tensor([[1.0, -3.0, 0.1, 0.0, 0.2]])
    made = run("density_matched_random", x, toys.mean_pixel(), base="intensity", k=0.5)
    assert sorted(made[0].tolist()) == [0, 0, 0, 1, 1]


def test_the_input_difference_is_the_distance_to_the_baseline():
    assert torch.equal(run("input_difference"), X)
    assert torch.equal(run("input_difference", baseline="white"), 1 - X)
    torch.testing.assert_close(run("input_difference", baseline="average"), (X - X.mean((2, 3), keepdim=True)).abs())
    first, second = (run("input_difference", baseline="uniform", seed=seed) for seed in (0, 1))
    assert torch.equal(first, (X - baselines.draw("uniform", X, seed=0)).abs())
    assert not torch.equal(first, second)


@pytest.mark.parametrize("name", ["all_ones", "centre_box", "density_matched_random", "input_difference"])
def test_no_control_asks_the_model(name):
    assert METHODS[name].traits["control"]
    assert run(name, model=lambda _: pytest.fail("the model was asked")).shape == X.shape


def test_bad_requests_are_refused():
    for share in (0, -0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match=r"area_fraction=.*in \(0, 1\]"):
            run("centre_box", area_fraction=share)
    with pytest.raises(InputError, match=r"expected images \(n, c, h, w\), got shape \(2, 5\)"):
        run("centre_box", torch.rand(2, 5), toys.mean_pixel())
    for k in (-0.5, float("nan")):
        with pytest.raises(ConfigError, match=r"k=.*at least 0"):
            run("density_matched_random", k=k)
    with pytest.raises(ConfigError, match="unknown method 'gradeint'"):
        run("density_matched_random", base="gradeint")
    with pytest.raises(InputError, match=r"base: expected attributions of shape \(4, 3, 12, 10\), got \(4, 12, 10\)"):
        run("density_matched_random", base=lambda _, x, t: x[:, 0])
    with pytest.raises(InputError, match=r"base: .* got NoneType"):
        run("density_matched_random", base=lambda *_: None)

"""Blur Integrated Gradients: closed forms, SciPy's filter, the slow twin, and both ends of the path."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from xai_lib import BASELINES, METHODS, compute, toys
from xai_lib.errors import ConfigError, InputError

RULES = {"left": 0.0, "middle": 0.5, "right": 1.0}


def blur_ig(model, x, t=None, **parameters):
    t = torch.zeros(len(x), dtype=torch.int64) if t is None else t
    return METHODS.bind("blur_integrated_gradients", **parameters)(model, x, t)


def wide():
    return torch.rand(3, 2, 7, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.2, 1.3, 30.0])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("spacing", ["sigma", "variance"])
@pytest.mark.parametrize("tall", [False, True])
def test_linear_models_give_weight_times_what_the_blur_takes_away(sigma, rule, spacing, tall):
    x = wide().mT if tall else wide()
    weights = torch.randn(168, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    made = blur_ig(toys.linear(weights[None]), x, sigma_max=sigma, rule=rule, spacing=spacing, steps=5, max_batch=4)
    lost = x - BASELINES.bind("blur", sigma=sigma)(x)
    torch.testing.assert_close(made, lost * weights.reshape(1, *x.shape[1:]), atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("spacing", ["sigma", "variance"])
def test_squares_in_closed_form(steps, spacing):
    """f = sum x^2 / 2: the mean of left and right rule telescopes to (x^2 - L^2) / 2 exactly; the middle tends to it."""
    x, own = wide(), {"sigma_max": 2.0, "spacing": spacing}
    model = toys.half_square([1.0] * 168)
    exact = (x**2 - BASELINES.bind("blur", sigma=2.0)(x) ** 2) / 2
    left, right = (blur_ig(model, x, rule=rule, steps=steps, **own) for rule in ("left", "right"))
    torch.testing.assert_close((left + right) / 2, exact, atol=1e-12, rtol=1e-9)
    assert (left - right).abs().max() > 1e-2
    errors = [(blur_ig(model, x, steps=m, **own) - exact).abs().max().item() for m in (16, 64)]
    assert errors[1] < errors[0] / 7 < 1e-2


def blurred(image, sigma, radius):
    """SciPy's filter on both axes; its "mirror" repeats no edge pixel."""
    if sigma == 0:
        return image
    made = gaussian_filter1d(image, sigma, axis=1, mode="mirror", radius=radius)
    return gaussian_filter1d(made, sigma, axis=2, mode="mirror", radius=radius)


def slow_twin(model, x, t, *, sigma, steps, rule, spacing):
    radius = min(max(1, round(3 * sigma)), min(x.shape[2:]) - 1)

    def width(along):
        return sigma * (1 - along if spacing == "sigma" else (1 - along) ** 0.5)

    maps = np.zeros(x.shape)
    for i, image in enumerate(x.numpy()):
        for k in range(steps):
            point = torch.as_tensor(blurred(image, width((k + RULES[rule]) / steps), radius))
            gradient = compute.input_gradient(model, point[None], t[i : i + 1])[0].numpy()
            maps[i] += gradient * (blurred(image, width((k + 1) / steps), radius) - blurred(image, width(k / steps), radius))
    return maps


@pytest.mark.parametrize("max_batch", [1, 5, 64])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("spacing", ["sigma", "variance"])
def test_the_slow_twin(spacing, rule, max_batch):
    model, x, t = toys.TinyNet(channels=2).double(), wide(), torch.tensor([0, 3, 1])
    made = blur_ig(model, x, t, sigma_max=1.7, steps=4, rule=rule, spacing=spacing, max_batch=max_batch)
    expected = slow_twin(model, x, t, sigma=1.7, steps=4, rule=rule, spacing=spacing)
    np.testing.assert_allclose(made, expected, atol=1e-12, rtol=1e-8)


def test_square_images(images, zeros):
    model, x = toys.TinyNet().double(), images.double()
    expected = slow_twin(model, x, zeros, sigma=2.5, steps=3, rule="middle", spacing="sigma")
    np.testing.assert_allclose(blur_ig(model, x, sigma_max=2.5, steps=3), expected, atol=1e-12, rtol=1e-8)


def test_sums_to_the_change_of_the_score(images, zeros):
    model, x = toys.TinyNet().double(), images.double()
    change = compute.scores(model, x, zeros) - compute.scores(model, BASELINES.bind("blur", sigma=2.0)(x), zeros)
    gaps = [(blur_ig(model, x, sigma_max=2.0, steps=m).flatten(1).sum(1) - change).abs().max().item() for m in (10, 40)]
    assert gaps[1] < gaps[0] / 8
    assert gaps[1] < 1e-2 * change.abs().max()


def test_the_longest_blur_is_scaled_with_the_shorter_side():
    x = wide()
    model = toys.half_square([1.0] * 168)
    assert torch.equal(blur_ig(model, x, steps=3), blur_ig(model, x, steps=3, sigma_max=50 * 7 / 224))


def test_a_plain_image_has_no_path(zeros):
    x = torch.full((1, 3, 6, 6), 0.4, dtype=torch.float64)
    assert blur_ig(toys.TinyNet().double(), x, steps=4).abs().max() < 1e-14


def test_rows_spent(images, zeros, spy):
    watched = spy(toys.TinyNet())
    blur_ig(watched, images, steps=7, max_batch=4)
    assert sum(watched.calls) == 35
    assert max(watched.calls) == 4


def test_tables_are_refused():
    with pytest.raises(InputError, match=r"expected images \(n, c, h, w\)"):
        blur_ig(toys.product(), torch.rand(2, 2))


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"sigma_max": 0}, "sigma_max=0"),
        ({"sigma_max": -1.0}, "sigma_max=-1.0"),
        ({"sigma_max": float("nan")}, "sigma_max=nan"),
        ({"sigma_max": float("inf")}, "sigma_max=inf"),
        ({"steps": 0}, "steps=0"),
        ({"steps": 2.0}, "steps=2.0"),
        ({"spacing": "varience"}, "did you mean 'variance'"),
        ({"rule": "gauss_legendre"}, "unknown rule"),
    ],
)
def test_bad_requests(wrong, match, images, zeros):
    with pytest.raises(ConfigError, match=match):
        blur_ig(toys.TinyNet(), images, **wrong)

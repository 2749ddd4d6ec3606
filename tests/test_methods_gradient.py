"""Gradient, its ensembles and the controls: FIDELITY TV-3, TV-8, RELIABILITY's oracle table."""

import pytest
import torch

from xai_lib import METHODS, toys
from xai_lib.errors import ConfigError, InputError


def run(name, model, x, **parameters):
    x = torch.as_tensor(x)
    return METHODS.bind(name, **parameters)(model, x, torch.zeros(len(x), dtype=torch.int64))


@pytest.mark.parametrize(
    ("x", "gradient", "product"),
    [((1.0, 1.0), (6.0, -3.0), (6.0, -3.0)), ((0.0, 3.0), (2.0, -2.0), (0.0, -6.0))],
)
def test_two_relu_rows(x, gradient, product):  # TV-3
    assert run("gradient", toys.two_relu(), [x]).tolist() == [list(gradient)]
    assert run("input_x_gradient", toys.two_relu(), [x]).tolist() == [list(product)]
    assert run("saliency", toys.two_relu(), [x]).tolist() == [[abs(g) for g in gradient]]


def test_ensembles_of_half_square_meet_their_expectations():  # TV-8: .5, .34, .09
    x = torch.full((1, 4), 0.5)
    for name, expected in {"smoothgrad": 0.5, "smoothgrad_squared": 0.34, "vargrad": 0.09}.items():
        made = run(name, toys.half_square([1.0, 1.0, 1.0, 1.0]), x, sigma=0.3, n_samples=4000)
        assert made.mean().item() == pytest.approx(expected, abs=0.01)


def test_a_linear_model_has_its_weights_and_no_variance():
    model, x = toys.linear([[2.0, -3.0, 0.5]]), torch.rand(2, 3)
    torch.testing.assert_close(run("smoothgrad", model, x), torch.tensor([[2.0, -3.0, 0.5]] * 2))
    torch.testing.assert_close(run("smoothgrad_squared", model, x), torch.tensor([[4.0, 9.0, 0.25]] * 2))
    assert not run("vargrad", model, x).any()


def test_the_three_share_their_noise(images):
    model = toys.TinyNet().double()
    x = images.double()
    mean, square, variance = (run(n, model, x, n_samples=6) for n in ("smoothgrad", "smoothgrad_squared", "vargrad"))
    torch.testing.assert_close(variance, square - mean**2, atol=1e-12, rtol=1e-9)


def test_no_noise_is_the_gradient(images):
    model = toys.TinyNet()
    for parameters in ({"sigma": 0.0}, {"noise_fraction": 0.0}):
        torch.testing.assert_close(run("smoothgrad", model, images, **parameters), run("gradient", model, images))


def test_noise_scales_with_the_range_of_the_image():
    model, x = toys.half_square([1.0] * 400), torch.linspace(0.2, 0.7, 400)[None]
    made = run("vargrad", model, x, n_samples=200, noise_fraction=0.1)
    assert made.mean().item() == pytest.approx((0.1 * 0.5) ** 2, rel=0.05)


def test_smoothgrad_equals_a_loop(images):
    from xai_lib.randomness import digest, key

    model, x = toys.TinyNet(), images[:2]
    slow = []
    for image in x:
        sigma = 0.15 * (image.max() - image.min())
        gradients = []
        for j in range(3):
            generator = torch.Generator().manual_seed(key(0, "smoothgrad", digest(image), j))
            gradients.append(run("gradient", model, (image + sigma * torch.randn(image.shape, generator=generator))[None])[0])
        slow.append(torch.stack(gradients).mean(0))
    torch.testing.assert_close(run("smoothgrad", model, x, n_samples=3), torch.stack(slow), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("wrong", [{"n_samples": 0}, {"noise_fraction": -0.1}, {"sigma": -1.0}])
def test_bad_noise(wrong, images):
    with pytest.raises(ConfigError):
        run("smoothgrad", toys.TinyNet(), images, **wrong)


def test_edge_detector_of_a_step_and_a_ramp():
    step = torch.zeros(1, 1, 5, 6)
    step[..., 3:] = 1
    made = run("edge_detector", toys.mean_pixel(), step)[0, 0]
    assert made[:, [0, 1, 4, 5]].abs().max() == 0
    torch.testing.assert_close(made[:, 2:4], torch.full((5, 2), 0.5))
    ramp = torch.arange(6.0).expand(1, 1, 5, 6) / 5
    torch.testing.assert_close(run("edge_detector", toys.mean_pixel(), ramp)[0, 0, :, 1:5], torch.full((5, 4), 0.2))


def test_centre_gaussian_peaks_in_the_middle_and_is_symmetric(images):
    made = run("centre_gaussian", toys.TinyNet(), images).sum(1)
    assert made[0].argmax().item() in (44, 45, 54, 55)
    torch.testing.assert_close(made, made.flip(1).flip(2))
    assert made[0, 4, 4].item() == pytest.approx(torch.tensor(-((0.5 / 2.5) ** 2)).exp().item(), rel=1e-5)
    with pytest.raises(ConfigError, match="sigma_fraction"):
        run("centre_gaussian", toys.TinyNet(), images, sigma_fraction=0)


def test_random_attribution_is_standard_normal_and_seeded():
    x = torch.rand(1, 1, 100, 100)
    made = run("random_attribution", toys.mean_pixel(), x)
    assert made.mean().item() == pytest.approx(0, abs=0.05)
    assert made.std().item() == pytest.approx(1, abs=0.05)
    assert not torch.equal(made, run("random_attribution", toys.mean_pixel(), x, seed=1))


@pytest.mark.parametrize("name", ["centre_gaussian", "edge_detector"])
def test_image_controls_refuse_tables(name):
    with pytest.raises(InputError, match="expected images"):
        run(name, toys.linear([[1.0, 1.0]]), torch.rand(2, 2))

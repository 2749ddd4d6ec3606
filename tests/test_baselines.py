"""Baselines: closed forms, bounds, nesting and independence of company."""

import pytest
import torch

from xai_lib import BASELINES, baselines
from xai_lib.errors import ConfigError, InputError

RANDOM = [name for name in BASELINES if BASELINES[name].traits.get("random")]
SPECS = {name: ({name: {"reference": torch.rand(6, 3, 10, 10)}} if "dataset" in name else name) for name in BASELINES}


def test_closed_forms():
    x = torch.tensor([[[[0.2, 0.5], [0.8, 0.1]], [[1.0, 1.0], [0.0, 0.0]]]])
    assert not baselines.black(x).any()
    assert baselines.white(x).eq(1).all()
    assert baselines.max_distance(x).flatten().tolist() == [1, 0, 0, 1, 0, 0, 1, 1]  # TV-11; ties go to 0
    assert baselines.average(x)[0, :, 0, 0].tolist() == pytest.approx([0.4, 0.5])
    assert baselines.average(x, per="image").unique().tolist() == pytest.approx([0.45])
    reference = torch.stack([torch.zeros(2, 2, 2), torch.ones(2, 2, 2)])
    assert baselines.dataset_mean(x, reference=reference).eq(0.5).all()


def test_max_distance_is_at_least_half_away(images):
    assert (images - baselines.max_distance(images)).abs().min() >= 0.5


def test_blur_keeps_flat_images_and_mass_and_approaches_the_mean():
    flat = torch.full((1, 1, 9, 9), 0.3)
    torch.testing.assert_close(baselines.blur(flat, sigma=2.0), flat)
    dot = torch.zeros(1, 1, 41, 41)
    dot[..., 20, 20] = 1
    blurred = baselines.blur(dot, sigma=2.0)
    assert blurred.sum().item() == pytest.approx(1, abs=1e-4)
    ratio = (blurred[0, 0, 20, 22] / blurred[0, 0, 20, 20]).item()
    assert ratio == pytest.approx(torch.tensor(-0.5).exp().item(), rel=1e-4)  # exp(-d^2 / (2 sigma^2)), d = sigma
    torch.testing.assert_close(baselines.blur(dot), baselines.blur(dot, sigma=10 * 41 / 224))


@pytest.mark.parametrize(("shape", "sigma"), [((2, 3, 40, 56), 4.0), ((1, 1, 28, 28), 1.25), ((1, 2, 9, 5), 3.0)])
def test_blur_is_the_gaussian_blur_of_torchvision(shape, sigma):
    from torchvision.transforms.v2.functional import gaussian_blur

    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    radius = min(max(1, round(3 * sigma)), min(shape[2:]) - 1)
    expected = gaussian_blur(x, [2 * radius + 1] * 2, [sigma] * 2)
    torch.testing.assert_close(baselines.blur(x, sigma=sigma), expected, rtol=0, atol=2e-6)


def test_noise_has_the_stated_moments():
    x = torch.full((1, 1, 200, 200), 0.5)
    u = baselines.uniform(x)
    assert (u.min() >= 0, u.max() <= 1) == (True, True)
    assert u.mean().item() == pytest.approx(0.5, abs=0.01)
    assert u.std().item() == pytest.approx(12**-0.5, abs=0.01)
    for made in (baselines.gaussian_around(x, sigma=0.1), baselines.gaussian_noise(x, centre=0.5, sigma=0.1)):
        assert made.mean().item() == pytest.approx(0.5, abs=0.01)
        assert made.std().item() == pytest.approx(0.1, abs=0.005)


def test_gaussian_around_follows_the_image_and_gaussian_noise_does_not(images):
    around, noise = baselines.gaussian_around(images, sigma=0.01), baselines.gaussian_noise(images, sigma=0.01)
    assert (around - images).abs().max() < 0.06
    assert (noise - 0.5).abs().max() < 0.06


def test_permutation_keeps_the_pixels_as_wholes(images):
    made = baselines.pixel_permutation(images)
    for before, after in zip(images, made, strict=True):
        rows = before.flatten(1).T.tolist()
        assert sorted(rows) == sorted(after.flatten(1).T.tolist())
    assert not torch.equal(made, images)


def test_dataset_samples_come_from_the_reference_and_never_are_the_image(images):
    bank = torch.cat([images[:1], torch.rand(2, 3, 10, 10)])
    for seed in range(8):
        made = baselines.dataset_samples(images[:1], reference=bank, seed=seed)
        assert any(torch.equal(made[0], other) for other in bank[1:])
    with pytest.raises(InputError, match="equals the image"):
        baselines.dataset_samples(images[:1], reference=images[:1])


@pytest.mark.parametrize("name", BASELINES)
def test_shape_range_and_company(name, images):
    spec = SPECS[name]
    made = baselines.draw(spec, images, 3, seed=5)
    assert (made.shape, made.dtype) == (images.shape, images.dtype)
    assert (made.min() >= -1e-6, made.max() <= 1 + 1e-6) == (True, True)
    alone = torch.cat([baselines.draw(spec, images[i : i + 1], 3, seed=5) for i in (4, 1)])
    torch.testing.assert_close(made[[4, 1]], alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", RANDOM)
def test_draws_are_repeatable_and_differ_by_number_seed_and_image(name, images):
    spec = SPECS[name]
    state = torch.random.get_rng_state()
    first = baselines.draw(spec, images, 0, seed=1)
    assert torch.equal(first, baselines.draw(spec, images, 0, seed=1))
    assert torch.equal(state, torch.random.get_rng_state())
    others = torch.stack([baselines.draw(spec, images, b, seed=s) for b, s in [(1, 1), (2, 1), (3, 1), (0, 2), (0, 3)]])
    assert any(not torch.equal(first, other) for other in others)
    if name != "dataset_samples":
        assert all(not torch.equal(first, other) for other in others)


def test_errors_say_what_is_wrong(images):
    for name, bad in {"blur": {"sigma": 0}, "gaussian_noise": {"sigma": -1}, "average": {"per": "row"}}.items():
        with pytest.raises(ConfigError, match=name):
            baselines.draw({name: bad}, images)
    with pytest.raises(ConfigError, match="low < high"):
        baselines.draw({"uniform": {"low": 1.0, "high": 0.0}}, images)
    with pytest.raises(InputError, match="expected images"):
        baselines.draw("blur", torch.rand(3, 4))
    with pytest.raises(InputError, match="expected shape"):
        baselines.draw(lambda x: x[:1], images)
    with pytest.raises(InputError, match="NaN"):
        baselines.draw(lambda x: x * float("nan"), images)
    with pytest.raises(InputError, match="must agree"):
        baselines.draw({"dataset_mean": {"reference": torch.rand(3, 1, 4, 4)}}, images)


def test_a_constant_colour_has_one_value_per_channel():
    x = torch.rand(2, 3, 4, 5)
    made = BASELINES.bind("constant", value=[0.1, 0.5, 0.9])(x)
    assert made.shape == x.shape
    assert [made[:, c].unique().tolist() for c in range(3)] == [pytest.approx([v]) for v in (0.1, 0.5, 0.9)]
    assert BASELINES.bind("constant", value=0.25)(x).unique().tolist() == [0.25]
    for value in ([0.1, 0.2], 1.5, [-0.1, 0.0, 0.0]):
        with pytest.raises(ConfigError, match="constant baseline"):
            BASELINES.bind("constant", value=value)(x)

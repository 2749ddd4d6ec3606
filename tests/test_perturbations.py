"""Perturbations by one signed amount: rotation against torchvision, the others by hand (FIDELITY 6.8)."""

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from xai_lib.counterfactuals import PERTURBATIONS, brightness, cover_rows, disc, first_turn, noise, rotation
from xai_lib.errors import ConfigError, InputError

GENERATOR = torch.Generator().manual_seed(0)
X = torch.rand((6, 3, 8, 8), generator=GENERATOR)
ANGLES = [k * 0.5 for k in range(-40, 41)] + [45.0, 90.0, -90.0, 180.0, 33.33, -123.4, 60.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(8, 8), (7, 12), (9, 9), (28, 28)])
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_rotation_is_torchvisions_bit_by_bit(mode, shape, dtype):
    image = torch.rand((1, 2, *shape), generator=torch.Generator().manual_seed(1), dtype=dtype)
    angles = [a for a in ANGLES if a != 0]
    made = rotation(image.expand(len(angles), -1, -1, -1), torch.tensor(angles, dtype=torch.float64), interpolation=mode)
    theirs = torch.cat([tv.rotate(image, angle, interpolation=InterpolationMode(mode)) for angle in angles])
    assert torch.equal(made, theirs)


def test_rotation_turns_counter_clockwise_and_zero_is_the_image():
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert rotation(image, 90.0).flatten().tolist() == [2, 4, 1, 3]
    assert rotation(image, -90.0).flatten().tolist() == [3, 1, 4, 2]
    odd = torch.rand((2, 3, 7, 11), generator=GENERATOR)
    mixed = rotation(odd, torch.tensor([0.0, 30.0]), interpolation="bilinear")
    assert torch.equal(mixed[0], odd[0])
    assert not torch.equal(mixed[1], odd[1])


@pytest.mark.parametrize("side", [2, 3, 7, 28, 32, 33, 224])
def test_below_the_first_turn_no_pixel_moves_and_above_it_one_does(side):
    values = torch.arange(1.0, side * side + 1, dtype=torch.float64).reshape(1, 1, side, side)
    angle = first_turn(side)
    for sign in (1, -1):
        assert torch.equal(rotation(values, sign * (angle - 0.01)), values)
        assert not torch.equal(rotation(values, sign * (angle + 0.01)), values)


def test_half_precision_is_turned_with_exact_coordinates():
    image = torch.arange(64.0).reshape(1, 1, 8, 8)
    assert torch.equal(rotation(image.bfloat16(), 31.0), rotation(image, 31.0).bfloat16())


@pytest.mark.parametrize("side", [7, 8, 32])
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_no_black_comes_into_the_disc(mode, side):
    ones = torch.ones(len(ANGLES), 1, side, side, dtype=torch.float64)
    made = rotation(ones, torch.tensor(ANGLES), interpolation=mode, inside=True)
    assert torch.allclose(made, disc(side, side).double().expand_as(made), atol=1e-12)
    corners = rotation(ones, 45.0)[..., 0, 0]
    assert bool((corners == 0).all())


def test_disc_counts_the_pixels_of_a_circle():
    for height, width in ((3, 3), (5, 8), (32, 32)):
        radius = (min(height, width) - 1) / 2
        slow = [
            [(i - (height - 1) / 2) ** 2 + (j - (width - 1) / 2) ** 2 <= radius**2 for j in range(width)] for i in range(height)
        ]
        assert disc(height, width).tolist() == slow


def test_covered_rows_from_both_sides():
    made = cover_rows(X[:3], torch.tensor([2, -3, 8]), value=0.25)
    for k, covered in enumerate((range(2), range(5, 8), range(8))):
        for row in range(8):
            expected = torch.full((3, 8), 0.25) if row in covered else X[k, :, row]
            assert torch.equal(made[k, :, row], expected)
    assert torch.equal(cover_rows(X, 0), X)


def test_brightness_adds_and_noise_keeps_its_direction():
    assert torch.equal(brightness(X, 0.25), (X + 0.25).clamp(0, 1))
    assert torch.equal(brightness(X, -0.25, clip=False), X - 0.25)
    drawn = noise(X, 1.0, clip=False) - X
    assert torch.allclose(
        noise(X, torch.arange(6.0), clip=False), X + torch.arange(6.0).reshape(-1, 1, 1, 1) * drawn, atol=1e-5
    )
    assert float(drawn.std()) == pytest.approx(1, abs=0.05)
    assert float(drawn.mean()) == pytest.approx(0, abs=0.1)
    assert noise(X, 5.0).aminmax() == (0, 1)
    assert torch.equal(noise(X[2:3], 1.0), noise(X, 1.0)[2:3]), "an image's noise is its own"
    assert not torch.allclose(noise(X, 1.0, seed=1), noise(X, 1.0))


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_amount_zero_is_the_image_and_bad_amounts_are_refused(name):
    perturb = PERTURBATIONS.bind(name)
    assert torch.equal(perturb(X, 0.0), X)
    with pytest.raises(ConfigError, match="NaN or infinite"):
        perturb(X, float("nan"))
    with pytest.raises(InputError, match="6 images, but amounts of shape"):
        perturb(X, torch.ones(5))
    with pytest.raises(InputError, match="expected float images"):
        perturb(X.to(torch.uint8), 1.0)


def test_what_cannot_be_covered_or_turned_is_refused():
    for rows in (9, -9, 1.5):
        with pytest.raises(ConfigError, match="whole number from -8 to 8"):
            cover_rows(X, rows)
    with pytest.raises(InputError, match="k, c, h, w"):
        rotation(torch.ones(2, 3), 1.0)
    with pytest.raises(ConfigError, match="interpolation='bicubic'"):
        rotation(X, 1.0, interpolation="bicubic")

"""RISE: its masks against scikit-image's, its sum against a loop, its expectation on linear models in closed form."""

import numpy as np
import pytest
import torch
from skimage.transform import resize

from xai_lib import METHODS, compute, maps, toys
from xai_lib.errors import ConfigError, InputError
from xai_lib.methods.rise import draw_masks, enlargement


def run(model, x, target=0, **own):
    return METHODS.bind("rise", **own)(model, x, torch.full((len(x),), target))


def seeded(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def full_masks(image, n_masks, grid, p, seed=0):
    """The masks of one image (1, c, h, w) one by one, enlarged by scikit-image as the authors do."""
    cells, shifts = draw_masks(image, n_masks, grid, p, seed)
    height, width = image.shape[2:]
    up = [(grid + 1) * int(np.ceil(side / grid)) for side in (height, width)]
    for one, (top, left) in zip(cells[0].double().numpy(), shifts[0].tolist(), strict=True):
        large = resize(one, up, order=1, mode="reflect", anti_aliasing=False)
        yield torch.from_numpy(large[top : top + height, left : left + width])


@pytest.mark.parametrize(("height", "width", "grid"), [(10, 12, 3), (9, 7, 4), (8, 8, 8), (14, 14, 7), (5, 6, 2)])
def test_the_weights_are_those_of_scikit_image(height, width, grid):
    up = [(grid + 1) * int(np.ceil(side / grid)) for side in (height, width)]
    cells = seeded(grid, grid, seed=grid).double()
    made = enlargement(height, grid) @ cells @ enlargement(width, grid).T
    expected = resize(cells.numpy(), up, order=1, mode="reflect", anti_aliasing=False)
    np.testing.assert_allclose(made.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("grid", [1, 2, 5])
def test_each_pixel_of_the_enlarged_mask_is_a_mean_of_cells(grid):
    weights = enlargement(7, grid)
    assert weights.shape == ((grid + 1) * -(-7 // grid), grid)
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(1), torch.ones(len(weights), dtype=torch.float64))


@pytest.mark.parametrize("score", ["prob", "logit"])
def test_a_loop_agrees(score):
    x, model = seeded(2, 3, 9, 7).double(), toys.TinyNet(seed=1).double()
    own = {"n_masks": 12, "grid": 3, "p": 0.4}
    made = maps.reduce(run(model, x, 1, score=score, seed=5, baseline={"constant": {"value": [0.1, 0.2, 0.3]}}, **own))
    fill = torch.tensor([0.1, 0.2, 0.3]).double()[:, None, None]
    for i in range(2):
        expected = torch.zeros(9, 7).double()
        for mask in full_masks(x[i : i + 1], **own, seed=5):
            shown = x[i] * mask + fill * (1 - mask)
            expected += compute.scores(model, shown[None], torch.tensor([1]), score=score) * mask / (12 * 0.4)
        torch.testing.assert_close(made[i], expected)
    assert made.std() > 1e-3


def test_p_of_1_shows_everything():
    x, model = seeded(2, 3, 9, 7), toys.TinyNet()
    made = maps.reduce(run(model, x, 1, n_masks=3, p=1.0))
    whole = compute.scores(model, x, torch.ones(2, dtype=torch.int64), score="prob")
    torch.testing.assert_close(made, whole[:, None, None].expand(2, 9, 7))


def expectation(side, grid):
    """E over shifts of sum_c u_c(i) u_c(l) for two pixels i, l of one axis, u the weights of the cells."""
    cell, weights = -(-side // grid), enlargement(side, grid)
    return sum(weights[a : a + side] @ weights[a : a + side].T for a in range(cell)) / cell


@pytest.mark.parametrize(("height", "width", "grid", "p"), [(6, 5, 3, 0.5), (4, 8, 2, 0.3)])
def test_the_expectation_on_a_linear_model(height, width, grid, p):
    """f = sum g_i: E M_i M_l = p^2 + p (1 - p) K_il, K = K_rows x K_columns; E S_l = p sum_i g_i + (1 - p) sum_i K_il g_i."""
    x = seeded(1, 1, height, width).double() + 0.5
    w = torch.linspace(-1, 1.2, width).double().repeat(height)
    given = (w * x.flatten()).reshape(height, width)
    expected = p * given.sum() + (1 - p) * expectation(height, grid) @ given @ expectation(width, grid).T
    groups = torch.stack(
        [
            run(toys.linear(w[None]), x, n_masks=500, grid=grid, p=p, score="logit", seed=s, max_batch=500)[0, 0]
            for s in range(40)
        ]
    )
    error = groups.std(0) / 40**0.5
    assert ((groups.mean(0) - expected).abs() < 4 * error).all()
    assert error.max() < 0.05 * (expected.max() - expected.min())


def test_the_mean_mask_is_p():
    """On a constant f = 1 the map is the mean of the masks over p."""
    made = run(toys.constant(), seeded(1, 1, 6, 9), n_masks=20000, grid=3, p=0.3, score="logit", max_batch=2000)
    torch.testing.assert_close(made, torch.ones_like(made), atol=0.04, rtol=0)


def test_the_first_masks_of_many_are_those_of_few_and_every_shift_occurs():
    x = seeded(2, 3, 10, 8)
    few, many = draw_masks(x, 7, 3, 0.5, 0), draw_masks(x, 300, 3, 0.5, 0)
    for one, other in zip(few, many, strict=True):
        assert torch.equal(one, other[:, :7])
    cells, shifts = many
    assert shifts[0, :, 0].unique().tolist() == [0, 1, 2, 3]  # ceil(10 / 3) = 4 pixels to a cell
    assert shifts[0, :, 1].unique().tolist() == [0, 1, 2]
    assert cells.float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert not torch.equal(cells[0], cells[1])
    assert not torch.equal(cells, draw_masks(x, 300, 3, 0.5, 1)[0])


def test_no_mask_is_too_long_for_the_largest_shift():
    for side in range(1, 30):
        for grid in range(1, 9):
            assert len(enlargement(side, grid)) >= side + -(-side // grid) - 1


def test_a_window_on_what_matters_stands_out():
    """f = mean inside a square of 6 x 6: pixels there show more of it than pixels far away."""
    mask = torch.zeros(24, 24, dtype=torch.bool)
    mask[4:10, 12:18] = True
    made = maps.reduce(run(toys.planted(mask), torch.ones(1, 1, 24, 24), n_masks=600, score="logit"))[0]
    assert made[mask].min() > made[16:].max() + 0.05


def test_never_more_rows_than_max_batch_and_one_row_for_each_mask(spy):
    x = seeded(3, 3, 7, 10)
    for most in (1, 4, 50):
        model = spy(toys.TinyNet())
        run(model, x, n_masks=11, max_batch=most)
        assert max(model.calls) <= most
        assert sum(model.calls) == 33


def test_bad_requests_are_refused():
    x = seeded(1, 3, 6, 8)
    for own in ({"n_masks": 0}, {"n_masks": 2.0}, {"grid": 0}, {"grid": True}):
        with pytest.raises(ConfigError, match=f"{next(iter(own))}=.*at least 1"):
            run(toys.TinyNet(), x, **own)
    for p in (0, 1.1, -0.5, float("nan"), "half"):
        with pytest.raises(ConfigError, match=r"rise: p=.*a probability in \(0, 1\]"):
            run(toys.TinyNet(), x, p=p)
    with pytest.raises(InputError, match=r"rise: expected images \(n, c, h, w\), got shape \(1, 9\)"):
        run(toys.mean_pixel(), torch.ones(1, 9))

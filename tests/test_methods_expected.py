"""Expected Gradients: FIDELITY TV-12, linear models, the slow twin, and who draws what."""

import statistics

import pytest
import torch

from xai_lib import METHODS, baselines, compute, toys
from xai_lib.errors import ConfigError
from xai_lib.randomness import drawn_as, image_generator, image_values

T1 = torch.zeros(1, dtype=torch.int64)
ZERO_OR_TWO = {"dataset_samples": {"reference": torch.tensor([[0.0], [2.0]])}}


def eg(model, x, t=None, **parameters):
    t = torch.zeros(len(x), dtype=torch.int64) if t is None else t
    return METHODS.bind("expected_gradients", **parameters)(model, x, t)


def drawn(spec, x, count, seed=0):
    return torch.stack([baselines.draw(spec, x, r, seed=seed) for r in range(count)])


def test_square_from_zero_or_two():  # TV-12
    """One sample has variance 1/3 + 4: a from the position, 4 from the reference."""
    made = eg(toys.square(), torch.ones(1, 1), baseline=ZERO_OR_TWO, steps=4000).item()
    assert made == pytest.approx(-1, abs=4 * (13 / 3 / 4000) ** 0.5)


def test_square_given_its_references():
    """Integrated Gradients is 1 from 0 and -3 from 2; only the positions are random, with variance 1/3."""
    x, many = torch.ones(1, 1, dtype=torch.float64), 20
    twos = int((drawn(ZERO_OR_TWO, x, many) == 2).sum())
    assert 0 < twos < many
    made = eg(toys.square(), x, baseline=ZERO_OR_TWO, n_references=many, steps=2000).item()
    assert made == pytest.approx(((many - twos) - 3 * twos) / many, abs=4 * (1 / 3 / 40000) ** 0.5)


@pytest.mark.parametrize(("own", "count"), [({"steps": 7}, 7), ({"n_references": 3, "steps": 2}, 3)])
def test_linear_models_are_exact_given_the_references(own, count):
    x = torch.tensor([[1.0, 1.0], [0.2, 0.7]], dtype=torch.float64)
    made = eg(toys.linear([[2.0, -3.0]]), x, seed=5, **own)
    expected = torch.tensor([2.0, -3.0]) * (x - drawn("uniform", x, count, seed=5).mean(0))
    torch.testing.assert_close(made, expected, atol=1e-12, rtol=0)


def slow_twin(model, x, t, baseline, references, each, seed):
    """Image by image, sample by sample."""
    maps = torch.zeros_like(x)
    for i in range(len(x)):
        positions = torch.rand(references * each, generator=image_generator(seed, "expected_gradients", x[i]))
        for r in range(references):
            start = baselines.draw(baseline, x[i : i + 1], r, seed=seed)[0]
            for k in range(each):
                point = (start + positions[r * each + k].double() * (x[i] - start)).requires_grad_(True)
                (gradient,) = torch.autograd.grad(model(point[None])[0, t[i]], point)
                maps[i] += gradient * (x[i] - start) / (references * each)
    return maps


@pytest.mark.parametrize("max_batch", [1, 4, 64])
@pytest.mark.parametrize(
    ("own", "references", "each"),
    [({"steps": 5}, 5, 1), ({"n_references": 3, "steps": 4}, 3, 4), ({"n_references": 1, "steps": 3}, 1, 3)],
)
def test_the_slow_twin(own, references, each, max_batch, images):
    model, x, t = toys.TinyNet().double(), images[:3].double(), torch.tensor([0, 2, 1])
    made = eg(model, x, t, seed=4, max_batch=max_batch, **own)
    torch.testing.assert_close(made, slow_twin(model, x, t, "uniform", references, each, 4), atol=1e-12, rtol=1e-9)


def test_a_fresh_reference_is_one_position_per_reference(images, zeros):
    torch.testing.assert_close(
        eg(toys.TinyNet(), images, steps=6), eg(toys.TinyNet(), images, n_references=6, steps=1), atol=0, rtol=0
    )


def test_sums_to_the_change_of_the_score_in_expectation(images):
    """Over twelve seeds, the mean gap to f(x) - mean_r f(x'_r) is noise, and the noise is small against the change."""
    model, x, dark = toys.TinyNet().double(), images[:1].double(), {"uniform": {"high": 0.2}}
    gaps, changes = [], []
    for seed in range(12):
        start = drawn(dark, x, 3, seed=seed)[:, 0]
        changes.append((compute.scores(model, x, T1) - compute.scores(model, start, T1.expand(3)).mean()).item())
        gaps.append(eg(model, x, baseline=dark, n_references=3, steps=50, seed=seed).sum().item() - changes[-1])
    error = statistics.stdev(gaps) / 12**0.5
    assert abs(statistics.mean(gaps)) < 4 * error < 0.1 * abs(statistics.mean(changes))


def test_positions_cover_the_whole_line():
    """f = 1 at the reference's end, -1 at the input's: the map is the share of positions below 1/2 less the share above."""
    model = toys.Formula(lambda x: 0.5 - (x.flatten(1).sum(1) - 0.5).abs())
    made = eg(model, torch.ones(1, 1), baseline="black", n_references=1, steps=4000).item()
    assert made == pytest.approx(0, abs=4 / 4000**0.5)


@pytest.mark.parametrize("baseline", ["black", lambda x: torch.zeros_like(x)])
def test_one_fixed_reference_may_be_deterministic(baseline, images, zeros):
    made = eg(toys.mean_pixel(), images, baseline=baseline, n_references=1, steps=3)
    torch.testing.assert_close(made, images / 300, atol=1e-8, rtol=1e-5)


@pytest.mark.parametrize("max_batch", [1, 3, 4, 60])
def test_each_reference_is_drawn_once(max_batch, images, zeros, monkeypatch):
    calls, draw = [], baselines.draw
    monkeypatch.setattr(baselines, "draw", lambda spec, x, r, *, seed: calls.append(r) or draw(spec, x, r, seed=seed))
    eg(toys.TinyNet(), images, n_references=3, steps=4, max_batch=max_batch)
    assert sorted(calls) == [0] * 5 + [1] * 5 + [2] * 5


def test_rows_spent(images, zeros, spy):
    for own, rows in (({"steps": 7}, 35), ({"n_references": 2, "steps": 3}, 30)):
        watched = spy(toys.TinyNet())
        eg(watched, images, max_batch=4, **own)
        assert sum(watched.calls) == rows
        assert max(watched.calls) == 4


def test_other_seeds_and_other_images_draw_otherwise(images, zeros):
    f = toys.square()
    assert not torch.allclose(eg(f, images, steps=3), eg(f, images, steps=3, seed=1))
    x = torch.full((2, 1), 0.5)
    x[1] += 1e-6
    one, two = eg(f, x, steps=3).flatten().tolist()
    assert abs(one - two) > 1e-3


def test_a_copy_inside_drawn_as_draws_what_its_original_does(images, zeros):
    copy = images[:1] + 0.01
    with drawn_as(copy, [image_values(images[0])]):
        made = eg(toys.square(), copy, steps=3)
    start = drawn("uniform", images[:1], 3)[:, 0]
    along = torch.rand(3, generator=image_generator(0, "expected_gradients", images[0])).reshape(-1, 1, 1, 1)
    expected = (2 * (start + along * (copy - start)) * (copy - start)).mean(0, keepdim=True)
    torch.testing.assert_close(made, expected, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(made, eg(toys.square(), copy, steps=3), atol=1e-3)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"steps": 0}, "steps=0"),
        ({"steps": True}, "steps=True"),
        ({"steps": 2.0}, "steps=2.0"),
        ({"n_references": 0}, "n_references=0"),
        ({"n_references": "all"}, "n_references='all'"),
        ({"baseline": "black"}, "the same image every time"),
        ({"baseline": "black", "n_references": 3}, "the same image every time"),
        ({"baseline": "unifrom"}, "did you mean 'uniform'"),
    ],
)
def test_bad_requests(wrong, match, images, zeros):
    with pytest.raises(ConfigError, match=match):
        eg(toys.TinyNet(), images, **wrong)

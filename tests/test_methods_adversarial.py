"""Adversarial Gradient Integration: FIDELITY TV-13, closed forms, the slow twin, the choice of classes, and what is spent."""

import numpy as np
import pytest
import torch

from xai_lib import METHODS, compute, toys
from xai_lib.errors import ConfigError, InputError, ModelError
from xai_lib.methods import adversarial
from xai_lib.methods.adversarial import adversarial_paths

T1 = torch.zeros(1, dtype=torch.int64)
TWO = toys.linear([[1.0, -2.0], [-1.0, 2.0]])
POINT = torch.tensor([[0.6, 0.2]], dtype=torch.float64)


def agi(model, x, t=None, **parameters):
    t = torch.zeros(len(x), dtype=torch.int64) if t is None else t
    return METHODS.bind("adversarial_gradient_integration", **parameters)(model, x, t)


@pytest.mark.parametrize("classes", ["probable", "random", "spaced"])
@pytest.mark.parametrize(
    ("variant", "expected", "steps", "reached"),
    [("paper", (0.048964, 0.097927), 2, 1.0), ("official_code", (0.497841, 0.995681), 20, 0.0)],
)
def test_two_classes(variant, expected, steps, reached, classes):  # TV-13
    maps, there, taken = adversarial_paths(TWO, POINT, T1, variant=variant, classes=classes, step=0.05, max_iter=20)
    np.testing.assert_allclose(maps, [expected], atol=6e-7)
    assert (there.item(), taken.item()) == (reached, steps)
    assert torch.equal(maps, agi(TWO, POINT, variant=variant, classes=classes))


def test_two_classes_sum_to_the_loss_of_probability():  # TV-13
    end = POINT + 0.05 * 2 * torch.tensor([-1.0, 1.0])
    ends = compute.scores(TWO, torch.cat([POINT, end]), T1.expand(2), score="prob")
    assert (ends[0] - ends[1]).item() == pytest.approx(0.14852, abs=6e-6)
    assert agi(TWO, POINT).sum().item() == pytest.approx(0.14689, abs=6e-6)
    fine = agi(TWO, POINT, step=0.0005, max_iter=200)  # flips at (.5333, .2667)
    flip = compute.scores(TWO, POINT, T1, score="prob").item() - 0.5
    assert fine.sum().item() == pytest.approx(flip, abs=1e-3)


def test_logits_of_a_linear_model_in_closed_form():
    """Under the logit, every step adds -w_c eps sgn(w_t), for the paper's path; the k-th point is as far as k steps."""
    w = torch.tensor([[1.0, -2.0], [3.0, 0.5], [-4.0, 0.0]])
    made = agi(toys.linear(w, [50.0, 0.0, 0.0]), POINT, score="logit", step=0.1, max_iter=7)
    expected = -w[0] * 0.1 * 7 * (w[1].sign() + w[2].sign())
    np.testing.assert_allclose(made, expected[None], atol=1e-12)


def test_images_are_clipped_and_tables_are_not():
    """Pixels at 1 cannot rise: no step, no attribution there; the others stop at 1."""
    model = toys.linear([[-1.0] * 4, [1.0] * 4], [50.0, 0.0])
    x = torch.tensor([[0.5, 0.95, 1.0, 0.0]], dtype=torch.float64)
    own = {"score": "logit", "step": 0.1, "max_iter": 3}
    np.testing.assert_allclose(agi(model, x, **own), [[0.3] * 4], atol=1e-12)
    np.testing.assert_allclose(agi(model, x.reshape(1, 1, 2, 2), **own).flatten(), [0.3, 0.05, 0, 0.3], atol=1e-12)
    dark = toys.linear([[1.0] * 4, [-1.0] * 4], [50.0, 0.0])
    np.testing.assert_allclose(agi(dark, x.reshape(1, 1, 2, 2), **own).flatten(), [0.3, 0.3, 0.3, 0], atol=1e-12)


def slow_classes(logits, c, how, k):
    if how == "probable":
        order = sorted(range(len(logits)), key=lambda j: -logits[j])
    else:
        order = list(range(0, len(logits), max(1, len(logits) // k)))[:k]
    return [j for j in order if j != c][:k]


def slow_twin(model, x, c, false, *, variant, step, max_iter):
    """One image, one class and one step at a time: (map, paths that arrived, steps)."""
    total, arrived, steps = torch.zeros_like(x), 0, 0
    for t in false:
        point = x.clone()
        for _ in range(max_iter):
            leaf = point.clone().requires_grad_(True)
            out = model(leaf[None])[0]
            if int(out.argmax()) == t:
                arrived += 1
                break
            p = out.softmax(0)
            (climb,) = torch.autograd.grad(p[t], leaf, retain_graph=True)
            (slope,) = torch.autograd.grad(p[c], leaf)
            origin = point if variant == "paper" else x
            after = (origin + step * climb.sign()).clamp(0, 1)
            total -= slope * (after - origin)
            point, steps = after, steps + 1
    return total, arrived, steps


@pytest.mark.parametrize("classes", ["probable", "spaced"])
@pytest.mark.parametrize("variant", ["paper", "official_code"])
@pytest.mark.parametrize("n_classes", [2, 9])
def test_the_slow_twin(variant, classes, n_classes, images):
    model, x, t = toys.TinyNet(classes=6, seed=3).double(), images.double(), torch.tensor([0, 1, 2, 3, 4])
    own = {"variant": variant, "step": 0.05, "max_iter": 6}
    maps, reached, steps = adversarial_paths(model, x, t, classes=classes, n_classes=n_classes, max_batch=3, **own)
    for i in range(len(x)):
        false = slow_classes(model(x[i : i + 1])[0].tolist(), int(t[i]), classes, n_classes)
        total, arrived, taken = slow_twin(model, x[i], int(t[i]), false, **own)
        torch.testing.assert_close(maps[i], total, atol=1e-12, rtol=1e-9)
        assert reached[i].item() == pytest.approx(arrived / len(false))
        assert steps[i].item() == taken
    assert 0 < reached.mean() < 1  # both ways to end are there


def test_the_first_step_is_the_same_in_both_variants(images, zeros):
    one, two = (agi(toys.TinyNet(), images, variant=v, max_iter=1) for v in adversarial.VARIANTS)
    assert torch.equal(one, two)
    assert one.abs().max() > 0
    assert not torch.allclose(*(agi(toys.TinyNet(), images, variant=v, max_iter=4) for v in adversarial.VARIANTS), atol=1e-4)


def chosen(n_classes, classes, targets, seed=0, inputs=None, many=1000):
    inputs = torch.rand(len(targets), 3, generator=torch.Generator().manual_seed(1)) if inputs is None else inputs
    weights = torch.randn(many, 3, generator=torch.Generator().manual_seed(2))
    made = adversarial._false_classes(toys.linear(weights), inputs, torch.tensor(targets), n_classes, classes, seed, None)
    return [made[1][made[0] == i].tolist() for i in range(len(targets))], inputs @ weights.T


def test_probable_classes():
    rows, logits = chosen(20, "probable", [7, 7])
    for row, values in zip(rows, logits, strict=True):
        assert row == [j for j in values.argsort(descending=True).tolist() if j != 7][:20]
    best = int(logits[0].argmax())
    assert best not in chosen(20, "probable", [best, best])[0][0]


def test_random_classes():
    rows, _ = chosen(20, "random", [7, 8])
    assert rows[0] != rows[1]
    assert rows == chosen(20, "random", [7, 8])[0]
    assert rows != chosen(20, "random", [7, 8], seed=1)[0]
    assert rows[1:] == chosen(20, "random", [8], inputs=torch.rand(2, 3, generator=torch.Generator().manual_seed(1))[1:])[0]
    draws = [chosen(3, "random", [2], seed=s, many=5)[0][0] for s in range(400)]
    assert all(len(set(row)) == 3 and 2 not in row for row in draws)
    counts = np.bincount(np.concatenate(draws), minlength=5)
    assert counts[2] == 0
    np.testing.assert_allclose(counts[[0, 1, 3, 4]], 300, atol=4 * (400 * 0.75 * 0.25) ** 0.5)


def test_spaced_classes():
    assert chosen(20, "spaced", [7, 150])[0] == [list(range(0, 1000, 50)), [j for j in range(0, 1000, 50) if j != 150]]
    assert chosen(3, "spaced", [3], many=10)[0] == [[0, 6]]


@pytest.mark.parametrize("classes", ["probable", "random", "spaced"])
def test_all_classes_where_the_model_has_fewer(classes):
    rows, _ = chosen(20, classes, [0, 4], many=5)
    assert [sorted(row) for row in rows] == [[1, 2, 3, 4], [0, 1, 2, 3]]


def test_random_classes_move_the_map_only_through_the_seed(images, zeros):
    own = {"classes": "random", "n_classes": 1, "max_iter": 4}
    net = toys.TinyNet(classes=8)
    assert torch.equal(agi(net, images, seed=2, **own), agi(net, images, seed=2, **own))
    assert not torch.allclose(agi(net, images, seed=2, **own), agi(net, images, seed=3, **own))


def test_paths_that_have_arrived_cost_nothing(images, spy):
    net, t = toys.TinyNet(classes=6, seed=3), torch.tensor([0, 1, 2, 3, 4])
    watched = spy(net)
    _, reached, steps = adversarial_paths(watched, images, t, n_classes=5, max_iter=12, max_batch=4)
    assert 0 < reached.mean() < 1
    assert sum(watched.calls) == 5 + int(2 * steps.sum() + (5 * reached).sum().round())
    assert max(watched.calls) == 4


def test_a_path_that_starts_at_its_end_gives_zeros(images):
    """The explained class is not the predicted one, and the only false class is: nothing to climb."""
    x = torch.tensor([[0.2, 0.6]])
    maps, reached, steps = adversarial_paths(TWO, x, T1)
    assert not maps.any()
    assert (reached.item(), steps.item()) == (1, 0)


def test_groups_of_paths_and_company_change_nothing(images, monkeypatch):
    net, t = toys.TinyNet(classes=6, seed=3).double(), torch.tensor([0, 1, 2, 3, 4])
    whole = adversarial_paths(net, images.double(), t, max_iter=6)
    alone = adversarial_paths(net, images[3:4].double(), t[3:4], max_iter=6)
    for a, b in zip(whole, alone, strict=True):
        torch.testing.assert_close(a[3:4], b, atol=1e-12, rtol=1e-9)
    monkeypatch.setattr(adversarial, "POINT_VALUES", 1000)
    for a, b in zip(whole, adversarial_paths(net, images.double(), t, max_iter=6), strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"variant": "offical_code"}, "did you mean 'official_code'"),
        ({"classes": "propable"}, "did you mean 'probable'"),
        ({"n_classes": 0}, "n_classes=0"),
        ({"n_classes": True}, "n_classes=True"),
        ({"max_iter": 0}, "max_iter=0"),
        ({"max_iter": 2.5}, "max_iter=2.5"),
        ({"step": 0}, "step=0"),
        ({"step": -0.1}, "step=-0.1"),
        ({"classes": "spaced", "n_classes": 1}, "at least 2"),
    ],
)
def test_bad_requests(wrong, match, images, zeros):
    with pytest.raises(ConfigError, match=match):
        agi(toys.TinyNet(), images, **wrong)


def test_models_and_targets_without_false_classes(images, zeros):
    with pytest.raises(ModelError, match="1 class"):
        agi(toys.linear([[1.0] * 300]), images)
    with pytest.raises(InputError, match="class 4 asked"):
        agi(toys.TinyNet(), images, zeros + 4)

"""Activation maximisation: linear scores have known maximisers; what regularisers do; what is refused."""

import pytest
import torch
from torch import Tensor, nn

from xai_lib import compute, toys
from xai_lib.activation_maximisation import UnitMeans, maximise
from xai_lib.errors import ConfigError, InputError, ModelError

W = torch.tensor([[3.0, -4.0, 0.0, 12.0], [1.0, 1.0, 1.0, -1.0]])
FIRST = torch.tensor([0])


def free(model: nn.Module, targets: Tensor = FIRST, **own: object) -> Tensor:
    asked = {"shape": (4,), "limits": None, "start": 0.0, "step_size": 0.25, "steps": 60} | own
    return maximise(model, targets, **asked).pictures


@pytest.mark.parametrize("start", [0.0, 0.5])
def test_in_a_ball_a_linear_score_is_largest_along_its_weights(start: float) -> None:
    found = free(toys.linear(W), torch.tensor([0, 1]), start=start, radius=2.0)
    assert torch.allclose(found, start + 2 * W / W.norm(dim=1, keepdim=True), atol=1e-6)


def test_a_ball_is_reached_from_noise_as_well() -> None:
    found = free(toys.linear(W), noise=1.0, radius=2.0, steps=300)
    assert torch.allclose(found, 2 * W[:1] / 13, atol=1e-4)


@pytest.mark.parametrize("decay", [0.1, 0.5])
def test_decay_ends_where_a_step_makes_up_for_it(decay: float) -> None:
    found = free(toys.linear(W), decay=decay, start=0.25, steps=400)
    assert torch.allclose(found, 0.25 + 0.25 * (1 - decay) / decay * W[:1] / 13, atol=1e-5)


def test_with_limits_alone_each_value_goes_to_the_limit_of_its_sign() -> None:
    found = free(toys.linear(W), start=0.5, limits=(0.0, 1.0))
    assert found.tolist() == [[1.0, 0.0, 0.5, 1.0]]


def test_one_step_has_the_length_asked_for() -> None:
    assert torch.allclose(free(toys.linear(W), steps=1, step_size=0.7), 0.7 * W[:1] / 13)


def test_the_quadratic_climbs_away_from_its_minimum() -> None:
    found = maximise(toys.square(), FIRST, shape=(2,), start=0.5, limits=None, steps=3, step_size=0.1)
    assert (found.history.diff(dim=0) > 0).all()
    assert found.scores.item() == pytest.approx(2 * (0.5 + 0.3 / 2**0.5) ** 2)
    assert found.history[0].item() == pytest.approx(0.5)


def test_a_score_without_gradient_leaves_the_start() -> None:
    assert free(toys.constant(), start=0.3).tolist() == [[pytest.approx(0.3)] * 4]


def one_pixel() -> nn.Module:
    weights = torch.zeros(2, 1, 9, 9)
    weights[0, 0, 4, 4] = 1.0
    return toys.linear(weights.flatten(1))


def test_jitter_reaches_as_far_as_it_says_and_no_farther() -> None:
    own = {"shape": (1, 9, 9), "steps": 400, "step_size": 0.1}
    still = free(one_pixel(), **own)
    moved = free(one_pixel(), jitter=2, **own)
    assert (still != 0).nonzero().tolist() == [[0, 0, 4, 4]]
    reached = (moved[0, 0] > 0).nonzero()
    assert len(reached) == 25
    assert reached.min().item() == 2
    assert reached.max().item() == 6
    assert moved.sum().item() == pytest.approx(40.0, rel=1e-4)


def test_jitter_changes_nothing_for_a_score_that_shifts_do_not_change() -> None:
    own = {"shape": (1, 9, 9), "noise": 0.2, "start": 0.0, "limits": None, "steps": 4}
    still, moved = (maximise(toys.square(), FIRST, jitter=jitter, **own).pictures for jitter in (0, 3))
    assert torch.allclose(still, moved, atol=1e-6)


def test_blur_spreads_what_a_step_put_in_one_place() -> None:
    own = {"shape": (1, 9, 9), "steps": 1, "step_size": 1.0}
    sharp, soft = free(one_pixel(), **own), free(one_pixel(), blur=0.8, **own)
    assert soft.sum().item() == pytest.approx(1.0, abs=1e-5)
    assert soft[0, 0, 4, 4] < 0.5 < sharp[0, 0, 4, 4]
    assert soft[0, 0, 4, 5] > 0


@pytest.mark.parametrize("own", [{}, {"jitter": 1}, {"noise": 0.2, "blur": 0.5}])
def test_company_order_and_batches_change_nothing(own: dict[str, float]) -> None:
    asked = {"shape": (3, 8, 8), "steps": 4} | own
    both = maximise(toys.TinyNet(), torch.tensor([2, 1, 2]), **asked)
    alone = maximise(toys.TinyNet(), torch.tensor([1]), max_batch=1, **asked)
    assert torch.allclose(both.pictures[1], alone.pictures[0], atol=1e-5)
    assert torch.equal(both.pictures[0], both.pictures[2])
    assert both.history.shape == (4, 3)


def test_seeds_change_draws_only() -> None:
    asked = {"shape": (3, 8, 8), "steps": 2}
    first, second = (maximise(toys.TinyNet(), FIRST, seed=s, **asked).pictures for s in (0, 1))
    assert torch.equal(first, second)
    first, second, again = (maximise(toys.TinyNet(), FIRST, seed=s, noise=0.1, **asked).pictures for s in (0, 1, 0))
    assert torch.equal(first, again)
    assert not torch.allclose(first, second)


def test_pictures_stay_within_limits_and_scores_are_theirs() -> None:
    found = maximise(toys.TinyNet(), torch.arange(4), shape=(3, 8, 8), steps=20, noise=0.3)
    assert found.pictures.min() >= 0
    assert found.pictures.max() <= 1
    assert torch.allclose(found.scores, compute.scores(toys.TinyNet(), found.pictures, torch.arange(4)))
    assert (found.scores > found.history[0]).all()


def test_another_score_is_climbed_when_asked_for() -> None:
    weights = torch.tensor([[1.0, 0.0], [1.0, -1.0]])
    plain, margin = (free(toys.linear(weights), shape=(2,), radius=1.0, score=s) for s in ("logit", "margin"))
    assert torch.allclose(plain, torch.tensor([[1.0, 0.0]]), atol=1e-5)
    assert torch.allclose(margin, torch.tensor([[0.0, 1.0]]), atol=1e-5)


def test_units_are_the_means_of_their_maps() -> None:
    net, x = toys.TinyNet(), torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(UnitMeans(net, "conv1")(x), net.conv1(x).mean(dim=(2, 3)))
    assert torch.equal(UnitMeans(net, "head")(x), net(x))
    assert not net.conv1._forward_hooks


def test_the_maximiser_of_a_linear_unit_is_its_filter() -> None:
    net = toys.TinyNet()
    units = UnitMeans(nn.Sequential(nn.Conv2d(3, 2, 5)).eval(), "0")
    weight = units.model[0].weight.detach()
    found = maximise(units, torch.arange(2), shape=(3, 5, 5), start=0.0, limits=None, radius=1.0, steps=50)
    assert torch.allclose(found.pictures, weight / weight.flatten(1).norm(dim=1).reshape(2, 1, 1, 1), atol=1e-5)
    assert maximise(UnitMeans(net, "conv2"), torch.tensor([7]), shape=(3, 8, 8), steps=1).scores.shape == (1,)


def test_double_precision_stays() -> None:
    assert maximise(toys.TinyNet().double(), FIRST, shape=(3, 8, 8), steps=1, noise=0.1).pictures.dtype == torch.float64


@pytest.mark.parametrize(
    ("own", "error", "words"),
    [
        ({"steps": 0}, ConfigError, "steps=0"),
        ({"step_size": 0.0}, ConfigError, "step_size=0.0"),
        ({"radius": 0.0}, ConfigError, "radius=0.0"),
        ({"decay": 1.0}, ConfigError, "decay=1.0"),
        ({"noise": -1.0}, ConfigError, "noise=-1.0"),
        ({"blur": -1.0}, ConfigError, "blur=-1.0"),
        ({"jitter": -1}, ConfigError, "jitter=-1"),
        ({"jitter": 1, "shape": (4,)}, ConfigError, "they need images"),
        ({"shape": ()}, InputError, "shape"),
        ({"score": "logits"}, ConfigError, "logits"),
        ({"radius": float("inf")}, ConfigError, "radius=inf: expected finite"),
        ({"noise": float("inf")}, ConfigError, "noise=inf.*finite"),
        ({"blur": float("inf")}, ConfigError, "blur=inf.*finite"),
        ({"limits": (1.0, 0.0)}, ConfigError, r"limits=\(1.0, 0.0\): expected the smaller value first"),
        ({"limits": (0.5, 0.5)}, ConfigError, "limits"),
        ({"limits": (float("nan"), 1.0)}, ConfigError, "limits"),
    ],
)
def test_what_is_refused(own: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        maximise(toys.TinyNet(), FIRST, **({"shape": (3, 8, 8), "steps": 1} | own))


def test_a_missing_layer_class_or_map_is_refused() -> None:
    with pytest.raises(ModelError, match="no layer 'conv3'"):
        UnitMeans(toys.TinyNet(), "conv3")
    with pytest.raises(InputError, match="class 9 asked"):
        maximise(toys.TinyNet(), torch.tensor([9]), shape=(3, 8, 8), steps=1)
    deep = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten(2)).eval()
    with pytest.raises(ModelError, match="expected"):
        UnitMeans(deep, "1")(torch.zeros(1, 1, 2, 2))

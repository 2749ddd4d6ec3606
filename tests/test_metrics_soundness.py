"""Completeness and soundness of certificates: FIDELITY TV-40, closed forms, slow twin, the insertion curve, company."""

import itertools
import math

import pytest
import torch

from xai_lib import METHODS, METRICS, baselines, toys
from xai_lib.errors import ConfigError, InputError
from xai_lib.metrics.insertion import perturbation_curves
from xai_lib.metrics.soundness import (
    certificate_completeness,
    certificate_soundness,
    certificates,
    completeness_of,
    soundness_of,
)

NET = toys.TinyNet()
GRADIENT = METHODS.bind("gradient")
BOTH = ["certificate_completeness", "certificate_soundness"]


def test_completeness_and_soundness_of_numbers():
    """TV-40."""
    r, p = torch.tensor([0.6, 0.9, 0.5]), torch.tensor([0.8, 0.8, 0.05])
    assert completeness_of(r, p).tolist() == pytest.approx([0.75, 1, 1])
    assert soundness_of(r, p).tolist() == pytest.approx([1, 0.8889, 0.2], abs=1e-4)


def test_thresholds():
    r, p = torch.tensor([0.05, 0.4, 0.0, 0.0]), torch.tensor([0.5, 1.0, 0.0, 0.5])
    assert completeness_of(r, p).tolist() == pytest.approx([0.2, 0.4, 1, 0.2])
    assert completeness_of(r, p, epsilon=0.25, alpha=0.5).tolist() == pytest.approx([0.5, 0.8, 1, 0.5])
    assert completeness_of(r, p, epsilon=0).tolist() == pytest.approx([0.1, 0.4, 1, 0])
    assert soundness_of(p, r).tolist() == pytest.approx([0.2, 0.4, 1, 0.2])
    assert soundness_of(p, r, beta=0).tolist() == pytest.approx([0.1, 0.4, 1, 0])
    for bad in ({"epsilon": -0.1}, {"epsilon": 1.1}, {"alpha": 0}, {"alpha": 1.5}, {"alpha": math.nan}):
        with pytest.raises(ConfigError, match=r"epsilon=.*alpha="):
            completeness_of(r, p, **bad)
    for beta in (-0.1, 1.1, math.nan):
        with pytest.raises(ConfigError, match="beta="):
            soundness_of(r, p, beta=beta)
    missing = torch.tensor([math.nan, 0.5]), torch.tensor([0.5, math.nan])
    assert completeness_of(*missing).isnan().all()
    assert soundness_of(*missing).isnan().all()


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def own_pixel(model, inputs, targets):
    """For label a, pixel a."""
    return torch.nn.functional.one_hot(targets, inputs[0].numel()).reshape(inputs.shape).to(inputs)


def test_a_map_can_certify_what_the_model_does_not_believe():
    """z = (5 x0, 3 x1): the pixel of label 1 alone makes the model say 1, though the image is a 0."""
    model, x, t = (
        toys.linear([[5.0, 0.0], [0.0, 3.0]]),
        torch.ones(1, 2, dtype=torch.float64),
        torch.zeros(1, dtype=torch.int64),
    )
    own = {"step": 1, "fill": 0.0}
    made = certificates(model, x, t, own_pixel, **own)
    whole = sigmoid(2), sigmoid(-2)
    shown = (sigmoid(5) + sigmoid(2)) / 2, (sigmoid(3) + sigmoid(-2)) / 2
    assert made.labels.tolist() == [[0, 1]]
    assert made.probabilities[0].tolist() == pytest.approx(whole)
    assert made.certificates[0].tolist() == pytest.approx(shown)
    assert certificate_soundness(model, x, t, own_pixel, **own).item() == pytest.approx(whole[1] / shown[1])
    assert certificate_soundness(model, x, t, own_pixel, **own, over="target").item() == pytest.approx(whole[0] / shown[0])
    assert certificate_completeness(model, x, t, own_pixel, **own).item() == 1
    hidden = {"step": 1, "fill": 0.0, "over": "target"}
    other = certificate_completeness(model, x, t, lambda m, i, t: own_pixel(m, i, 1 - t), **hidden)  # the wrong pixel first
    assert other.item() == pytest.approx((sigmoid(-3) + sigmoid(2)) / 2 / sigmoid(2))


def slow(model, x, label, values, labels, counts, fill, restrict):
    """p and r of one label."""
    flat = values.flatten().tolist()
    order = sorted(range(len(flat)), key=lambda i: -flat[i])

    def believed(image):
        logits = model(image[None])[0]
        among = [logits[other].exp() for other in (labels if restrict else range(len(logits)))]
        return (logits[label].exp() / sum(among)).item()

    curve = []
    for count in counts:
        image = fill.clone()
        for pixel in order[:count]:
            row, column = divmod(pixel, x.shape[2])
            image[:, row, column] = x[:, row, column]
        curve.append(believed(image))
    return believed(x), sum(curve) / len(curve)


@pytest.mark.parametrize("restrict", [True, False])
@pytest.mark.parametrize("how", [{"step": 30}, {"points": 6, "reduce": "abs_sum"}])
def test_slow_twin(restrict, how, images):
    x, t = images[:3], torch.tensor([1, 3, 0])
    made = certificates(NET, x, t, GRADIENT, labels=3, restrict=restrict, fill="average", seed=2, **how)
    filled = baselines.average(x)
    counts = [30, 60, 90, 100] if "step" in how else [20, 40, 60, 80, 100]
    logits = NET(x)
    for i, labels in enumerate(made.labels.tolist()):
        assert labels[0] == t[i]
        others = [label for label in logits[i].argsort(descending=True).tolist() if label != t[i]]
        assert labels[1:] == others[:2]
        for rank, label in enumerate(labels):
            values = GRADIENT(NET, x[i : i + 1], torch.tensor([label]))[0].sum(0)
            values = values.abs() if "reduce" in how else values
            p, r = slow(NET, x[i], label, values, labels, counts, filled[i], restrict)
            assert made.probabilities[i, rank].item() == pytest.approx(p, abs=1e-6)
            assert made.certificates[i, rank].item() == pytest.approx(r, abs=1e-6)
    assert (made.probabilities.sum(1) > 0.999).tolist() == [restrict] * 3


def test_without_restriction_it_is_the_insertion_curve_without_its_first_point(images, zeros):
    made = certificates(NET, images, zeros, GRADIENT, labels=2, restrict=False)
    for rank in range(2):
        t = made.labels[:, rank]
        (curve,) = perturbation_curves(NET, images, t, GRADIENT(NET, images, t), [("insertion", "mean")])
        torch.testing.assert_close(made.certificates[:, rank], curve.scores[:, 1:].mean(1), atol=1e-6, rtol=0)
        torch.testing.assert_close(made.probabilities[:, rank], curve.scores[:, -1], atol=1e-6, rtol=0)


def test_worst_over_labels(images, zeros):
    made = certificates(NET, images, zeros, GRADIENT, labels=4)
    complete, sound = (
        completeness_of(made.certificates, made.probabilities),
        soundness_of(made.certificates, made.probabilities),
    )
    for name, values in zip(BOTH, (complete, sound), strict=True):
        ask = METRICS.bind(name, labels=4)
        expected = {"all": values.amin(1), "target": values[:, 0], "others": values[:, 1:].amin(1)}
        for over, worst in expected.items():
            torch.testing.assert_close(ask(NET, images, zeros, GRADIENT, over=over), worst.float())
        torch.testing.assert_close(ask(NET, images, zeros, GRADIENT), worst_of(expected))
        assert ask(NET, images, zeros, GRADIENT, labels=1, over="others").isnan().all()
        assert ask(NET, images, zeros, GRADIENT, labels=1, over="all").tolist() == [1.0] * 5  # among one label p = r = 1
    assert not torch.equal(complete, sound)
    strict = certificate_completeness(NET, images, zeros, GRADIENT, labels=4, epsilon=0.0, alpha=0.2)
    torch.testing.assert_close(
        strict, completeness_of(made.certificates, made.probabilities, epsilon=0, alpha=0.2).amin(1).float()
    )
    strict = certificate_soundness(NET, images, zeros, GRADIENT, labels=4, beta=0.0)
    torch.testing.assert_close(strict, soundness_of(made.certificates, made.probabilities, beta=0).amin(1).float())


def worst_of(expected):
    return torch.minimum(expected["target"], expected["others"]).float()


def test_each_label_is_asked_for_its_own_map_once(images, zeros, spy):
    asked = []

    def explain(model, inputs, targets):
        asked.append(targets)
        return GRADIENT(NET, inputs, targets)

    model = spy(NET)
    made = certificates(model, images, zeros, explain, labels=3, points=11)
    assert torch.equal(torch.stack(asked, dim=1), made.labels)
    assert sum(model.calls) == 5 + 3 * 5 * 10  # the empty image is never asked
    assert certificates(NET, images, zeros, GRADIENT, labels=9).labels.sort(1).values.tolist() == [[0, 1, 2, 3]] * 5


def test_equal_logits_give_every_label_once(images):
    model = toys.Formula(lambda x: torch.zeros(len(x), 4) * x.flatten(1).sum(1, keepdim=True))
    made = certificates(model, images, torch.tensor([2] * 5), METHODS.bind("edge_detector"), labels=3)
    assert made.labels.tolist() == [[2, 0, 1]] * 5
    torch.testing.assert_close(made.certificates, torch.full((5, 3), 1 / 3, dtype=torch.float64), atol=1e-6, rtol=0)


def test_undefined_where_a_map_of_a_label_ranks_nothing(images, zeros):
    order = NET(images).argsort(dim=1, descending=True)

    def broken(model, inputs, targets):
        made = GRADIENT(model, inputs, targets)
        for i, value in enumerate((0.0, 2.0)):
            if targets[i] != order[i, 0]:
                made[i] = value
        if targets[2] != order[2, 0]:
            made[2, 0, 4, 4] = math.inf
        return made

    predicted = order[:, 0]
    for name in BOTH:
        ask = METRICS.bind(name, labels=2)
        assert ask(NET, images, predicted, broken).isnan().tolist() == [True] * 3 + [False] * 2
        assert ask(NET, images, predicted, broken, over="others").isnan().tolist() == [True] * 3 + [False] * 2
        assert not ask(NET, images, predicted, broken, over="target").isnan().any()


@pytest.mark.parametrize("name", BOTH)
def test_company_order_scale_and_batch_size_change_nothing(name, images, zeros):
    metric = METRICS.bind(name, labels=3, points=9, fill="uniform")
    expected = metric(NET, images, zeros, GRADIENT)
    assert (expected.shape, expected.dtype) == ((5,), images.dtype)
    assert len({round(value, 5) for value in expected.tolist()}) > 2
    order, close = torch.tensor([3, 0, 4, 2, 1]), {"atol": 1e-5, "rtol": 1e-4}
    torch.testing.assert_close(metric(NET, images[order], zeros, GRADIENT), expected[order], **close)
    torch.testing.assert_close(metric(NET, images[1:2], zeros[:1], GRADIENT), expected[1:2], **close)
    torch.testing.assert_close(metric(NET, images, zeros, lambda *a: 1000 * GRADIENT(*a)), expected, **close)
    for size in (1, 7, 32):
        torch.testing.assert_close(metric(NET, images, zeros, GRADIENT, max_batch=size), expected, **close)
    assert not torch.equal(metric(NET, images, zeros, GRADIENT, seed=1), expected)


def test_tables_and_colour_images_are_counted_by_features_and_pixels(images, zeros):
    table = torch.rand(2, 6, generator=torch.Generator().manual_seed(0))
    model = toys.linear(torch.arange(12.0).reshape(2, 6) / 12)
    assert certificates(model, table, zeros[:2], GRADIENT, points=7).certificates.shape == (2, 2)
    with pytest.raises(ConfigError, match="3 to 7 for 6 pixels"):
        certificates(model, table, zeros[:2], GRADIENT, points=8)
    with pytest.raises(ConfigError, match="3 to 101 for 100 pixels"):
        certificates(NET, images, zeros, GRADIENT, points=102)


@pytest.mark.parametrize("name", BOTH)
def test_refusals(name, images, zeros):
    calls = itertools.count()

    def explain(model, inputs, targets):
        next(calls)
        return GRADIENT(model, inputs, targets)

    ask = METRICS.bind(name)
    bad = {"over": "best", "labels": 0, "points": "adaptive", "step": 100, "fill": "grey"}
    for key, value in {**bad, **({"beta": 2.0} if name == BOTH[1] else {"epsilon": 2.0, "alpha": 0.0})}.items():
        with pytest.raises(ConfigError, match=f"{key}=|unknown substrate"):
            ask(NET, images, zeros, explain, **{key: value})
    with pytest.raises(ConfigError, match="labels=True"):
        ask(NET, images, zeros, explain, labels=True)
    with pytest.raises(InputError, match=r"class 4 asked, the model has 4 \(0 to 3\)"):
        ask(NET, images, zeros + 4, explain)
    assert next(calls) == 0
    with pytest.raises(InputError, match="attributions: expected the shape of the inputs"):
        ask(NET, images, zeros, lambda model, inputs, targets: inputs.sum(1, keepdim=True))

"""Quantus: twelve scripts."""

from typing import Any

import numpy as np
import torch
from torch import nn

from xai_lib.compendium.defects import Shown, defect

QUANTUS = "quantus"
X = np.array([[[[1.0, 1.1], [1.2, 1.3]]]], dtype=np.float32)
W = np.array([[[[4.0, 3.0], [2.0, 1.0]]]], dtype=np.float32)


def linear(*weights: float) -> nn.Module:
    """f = w x of a 2 x 2 picture, so that w x is its exact attribution from black."""
    layer = nn.Linear(len(weights), 1, bias=False).requires_grad_(False)
    layer.weight.copy_(torch.tensor([weights]))
    return nn.Sequential(nn.Flatten(), layer).eval()


def metric(name: str, **own: Any) -> Any:
    """A metric of Quantus without its warnings."""
    import quantus

    return getattr(quantus, name)(disable_warnings=True, **own)


@defect("D1", QUANTUS, here="Not used.")
def road() -> Shown:
    """ROAD averages over the first batch alone: with batch_size=2 the other pictures do not count."""
    import quantus

    layer = nn.Linear(16, 2, bias=False).requires_grad_(False)
    layer.weight.copy_(torch.tensor([[1.0], [-1.0]]).expand(2, 16))
    net = nn.Sequential(nn.Flatten(), layer).eval()  # class 0 for every picture
    x = np.random.default_rng(0).random((4, 1, 4, 4), dtype=np.float32)
    labels = np.array([0, 0, 1, 1])  # half of them right
    scores = []
    for size in (4, 2):
        road = quantus.ROAD(disable_warnings=True, percentages=[50], noise=0.0)
        scores.append(float(road(net, x, labels, a_batch=x, batch_size=size)[50]))
    return Shown(right=scores[0], found=scores[1])


@defect("D2", QUANTUS, here="Own localisation metrics.")
def weighted_localisation() -> Shown:
    """AttributionLocalisation(weighted=True) divides by the size of the pictures from the third on, not of one
    picture.
    """
    mask = np.array([[[[1, 1], [0, 0]]]])
    own = metric("AttributionLocalisation", weighted=True, normalise=False, abs=False)
    found = own(linear(4, 3, 2, 1), X, np.array([0]), a_batch=W, s_batch=mask)
    return Shown(right=0.7 * 0.5, found=float(found[0]))  # 7 tenths of the map on half of the area


@defect("D3", QUANTUS, here="Pictures are normalised one by one; normalise=False is passed.")
def company() -> Shown:
    """Maps are normalised by the maximum of the whole batch: a picture's value depends on its company."""

    def squared(model: Any, inputs: Any, targets: Any, **_: Any) -> np.ndarray:
        return np.asarray(inputs) ** 2

    def value_of_first(batch: np.ndarray) -> float:
        own = metric("LocalLipschitzEstimate", nr_samples=2)
        own.perturb_func = lambda arr, indices: arr + 0.01
        targets = np.zeros(len(batch), dtype=int)
        return float(own(linear(1, 1, 1, 1), batch, targets, a_batch=batch**2, explain_func=squared)[0])

    return Shown(right=value_of_first(X), found=value_of_first(np.concatenate([X, 50 * X])))


@defect("D4", QUANTUS, here="`completeness_gap`: the difference itself, with a unit.")
def completeness() -> Shown:
    """Completeness normalises the map first, then compares floats with ==: an exact attribution fails."""
    own = metric("Completeness", perturb_baseline=0.0)
    return Shown(right=[True], found=[bool(v) for v in own(linear(4, 3, 2, 1), X, np.array([0]), a_batch=W * X)])


@defect("D5", QUANTUS, here="NaN, with the reason beside it.")
def empty_mask() -> Shown:
    """PointingGame writes NaN for an empty mask into an array of truth values, where NaN is True: a hit."""
    own = metric("PointingGame", normalise=False)
    found = own(linear(4, 3, 2, 1), X, np.array([0]), a_batch=W, s_batch=np.zeros((1, 1, 2, 2), bool))
    return Shown(right="undefined", found="a hit" if found[0] else "undefined")


@defect("D6", QUANTUS, here="Maps are always made by our own methods and passed in.")
def explain() -> Shown:
    """quantus.explain ignores n_steps and takes the mis-weighted trapezoid of D9."""
    import quantus

    own: dict[str, Any] = {"method": "IntegratedGradients", "n_steps": 50, "reduce_axes": (), "normalise": False}
    found = quantus.explain(linear(4, 3, 2, 1), np.ones_like(X), np.array([0]), **own)
    return Shown(right=[4.0, 3.0, 2.0, 1.0], found=found.ravel().tolist())


@defect("D7", QUANTUS, here="Global generators are never touched.")
def reseeded() -> Shown:
    """Model randomisation seeds PyTorch's global generator: what the caller draws afterwards is no longer his own."""
    from quantus.helpers.model.pytorch_model import PyTorchModel

    before = torch.random.get_rng_state()
    list(PyTorchModel(linear(1, 2)).get_random_layer_generator())
    same = torch.equal(before, torch.random.get_rng_state())
    return Shown(right="untouched", found="untouched" if same else "seeded anew")


@defect("D8", QUANTUS, here="Own curves: both ends, true fractions, so that areas of different steps compare.")
def flipping() -> Shown:
    """PixelFlipping: the unperturbed picture is no point of the curve, and its area counts steps, not shares of the
    pixels.
    """
    own = metric("PixelFlipping", features_in_step=1, perturb_baseline=0.0, normalise=False)
    found = own(linear(4, 3, 2, 1), X, np.array([0]), a_batch=W * X, softmax=False)[0]
    return Shown(right=[11.0, 7.0, 3.7, 1.3, 0.0], found=[round(float(v), 4) for v in found])


@defect("D17", QUANTUS, here="Own metric.")
def monotonicity() -> Shown:
    """Monotonicity starts from the baseline and replaces pixels by the baseline: nothing changes, every model is
    monotone.
    """
    own = metric("Monotonicity", perturb_baseline=0.0, normalise=False)
    falling = linear(-4, -3, -2, -1)  # every pixel that is added lowers the score
    return Shown(right=[False], found=[bool(v) for v in own(falling, X, np.array([0]), a_batch=W * X, softmax=False)])


@defect("D18", QUANTUS, here="Own metric: random subsets, one correlation per size.")
def sensitivity() -> Shown:
    """SensitivityN takes pixels in the order of the map instead of random subsets, and compares step sums with total
    drops.
    """
    weights = np.arange(16.0) - 4.5
    x = np.random.default_rng(0).random((4, 1, 4, 4), dtype=np.float32)
    exact = x * weights.astype(np.float32).reshape(4, 4)  # its sums are the drops, for every subset
    own = metric("SensitivityN", features_in_step=1, n_max_percentage=1.0, perturb_baseline=0.0, normalise=False, abs=False)
    found = own(linear(*weights), x, np.zeros(4, dtype=int), a_batch=exact, softmax=False)
    return Shown(right=1.0, found=float(found[0]))


@defect("D19", QUANTUS, here="Own metric; Quantus with the number 0.0 is its cross-check.")
def black() -> Shown:
    """FaithfulnessEstimate: perturb_baseline="black" is the minimum of the picture, not black."""
    own = metric("FaithfulnessEstimate", perturb_baseline="black", normalise=False)
    return Shown(right=[1.0], found=[float(v) for v in own(linear(4, 3, 2, 1), X, np.array([0]), a_batch=W * X, softmax=False)])


@defect("D20", QUANTUS, here="Own sanity check: each layer draws on its own.")
def twins() -> Shown:
    """The parameter randomisation test seeds every layer alike: layers of equal shape get the same random weights."""
    from quantus.helpers.model.pytorch_model import PyTorchModel

    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)).eval()
    *_, (_, made) = PyTorchModel(net).get_random_layer_generator()
    one, other = made.parameters()
    same = torch.equal(one, other)
    return Shown(right="different weights", found="the same weights" if same else "different weights")

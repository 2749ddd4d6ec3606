"""Where the libraries underneath are silently wrong: each test states the RIGHT behaviour and fails today.

Versions: quantus 0.6.0, captum 0.9.0. `strict=True`: when a release repairs one of them the test passes, this suite turns red,
and the workaround and the page about it can go. The numbering is that of the list of library defects.
"""

import contextlib
import inspect
import io
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from xai_lib import toys


def defect(number, reason):
    return pytest.mark.xfail(strict=True, raises=AssertionError, reason=f"{number}: {reason}")


@pytest.fixture(autouse=True)
def _silence_and_random_state():
    """Quantus and Captum warn, print and draw from global generators."""
    torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()  # noqa: NPY002
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
    torch.random.set_rng_state(torch_state)
    np.random.set_state(numpy_state)  # noqa: NPY002


def quantus_metric(name, **own):
    import quantus

    return getattr(quantus, name)(disable_warnings=True, **own)


def linear(weights):
    net = nn.Sequential(nn.Flatten(), nn.Linear(len(weights), 1, bias=False))
    net[1].weight.data = torch.tensor([weights])
    return net.requires_grad_(False).eval()


def single_relu6():
    """f = min(max(2 a - b, 0), 6) - min(max(b - a, 0), 6), at (2, 1) and (1, 2) one branch each is off."""
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU6(), nn.Linear(2, 1, bias=False))
    net[0].weight.data = torch.tensor([[2.0, -1.0], [-1.0, 1.0]])
    net[2].weight.data = torch.tensor([[1.0, -1.0]])
    return net.requires_grad_(False).eval()


@defect("D3", "Quantus normalises by the maximum of the whole batch, so company changes the value of an image")
def test_quantus_value_of_an_image_does_not_depend_on_its_company():
    x = np.linspace(0.1, 0.9, 16, dtype=np.float32).reshape(1, 1, 4, 4)
    company = np.concatenate([x, 50 * x])

    def explain(model, inputs, targets, **_):
        return np.asarray(inputs) ** 2

    def estimate(batch):
        metric = quantus_metric("LocalLipschitzEstimate", nr_samples=2)
        metric.perturb_func = lambda arr, indices: arr + 0.01
        targets = np.zeros(len(batch), dtype=int)
        return metric(linear([1.0] * 16), batch, targets, a_batch=batch**2, explain_func=explain)[0]

    assert estimate(company) == pytest.approx(estimate(x), rel=1e-3)


@defect("D4", "Quantus Completeness normalises first and compares floats with ==")
def test_quantus_completeness_of_an_exact_attribution():
    x = np.array([[[[1.0, 1.1], [1.2, 1.3]]]], dtype=np.float32)
    w = np.array([[[[4.0, 3.0], [2.0, 1.0]]]], dtype=np.float32)
    metric = quantus_metric("Completeness", perturb_baseline=0.0)
    assert metric(linear([4.0, 3.0, 2.0, 1.0]), x, np.array([0]), a_batch=w * x) == [True]


@defect("D6", "quantus.explain ignores n_steps and uses the mis-weighted trapezoid: 0.9 of the truth on a linear model")
def test_quantus_integrated_gradients_of_a_linear_model():
    import quantus

    x = np.ones((1, 1, 2, 2), dtype=np.float32)
    own = {"method": "IntegratedGradients", "n_steps": 50, "reduce_axes": (), "normalise": False}
    made = quantus.explain(linear([4.0, 3.0, 2.0, 1.0]), x, np.array([0]), **own)
    assert made.ravel().tolist() == pytest.approx([4, 3, 2, 1], rel=1e-3)


@defect("D7", "Quantus's model randomisation reseeds the global generator of the caller")
def test_quantus_leaves_the_global_generator_alone():
    from quantus.helpers.model.pytorch_model import PyTorchModel

    state = torch.random.get_rng_state()
    list(PyTorchModel(linear([1.0, 2.0])).get_random_layer_generator())
    assert torch.equal(state, torch.random.get_rng_state())


@defect("D9", "Captum's riemann_trapezoid weights sum to (n - 1) / n: [5.4, 2.7] for n = 10")
def test_captum_trapezoid_is_exact_on_a_linear_model():
    from captum.attr import IntegratedGradients

    x = torch.tensor([[3.0, 3.0]])
    made = IntegratedGradients(linear([2.0, 1.0])).attribute(x, target=0, n_steps=10, method="riemann_trapezoid")
    assert made[0].tolist() == pytest.approx([6, 3])


@defect("D10", "Captum's GuidedBackprop hooks nn.ReLU only: on ReLU6 it returns the plain gradient")
def test_captum_guided_backprop_on_relu6():
    from captum.attr import GuidedBackprop

    made = GuidedBackprop(single_relu6()).attribute(torch.tensor([[1.0, 2.5]], requires_grad=True), target=0)
    assert made[0].tolist() == [0.0, 0.0]  # the only open branch carries a negative signal


@defect("D11", "Captum's DeepLift does not know ReLU6: it returns gradient times input difference")
def test_captum_deeplift_is_complete_on_relu6():
    from captum.attr import DeepLift

    net, x = single_relu6(), torch.tensor([[5.0, 1.0]])
    made = DeepLift(net).attribute(x, torch.zeros_like(x), target=0)
    assert made.sum().item() == pytest.approx(6)  # f(5, 1) - f(0, 0), clamped at 6


@defect("D12", "Captum explains the last class when asked for class -1")
def test_captum_refuses_a_negative_target():
    from captum.attr import Saliency

    try:
        Saliency(toys.linear([[1.0, 2.0], [3.0, 4.0]])).attribute(torch.ones(1, 2), target=-1)
    except Exception:
        return
    raise AssertionError("target=-1 was explained")


@defect("D17", "Quantus Monotonicity fills the baseline with the baseline: every model is monotone")
def test_quantus_monotonicity_of_a_falling_score():
    x = np.array([[[[1.0, 1.1], [1.2, 1.3]]]], dtype=np.float32)
    metric = quantus_metric("Monotonicity", perturb_baseline=0.0, normalise=False)
    falling = linear([-4.0, -3.0, -2.0, -1.0])
    assert metric(falling, x, np.array([0]), a_batch=np.array([[[[4.0, 3.3], [2.4, 1.3]]]]), softmax=False) == [False]


@defect("D19", "Quantus's 'black' is the minimum of the image: -0.676 where exact attributions must give 1")
def test_quantus_faithfulness_estimate_with_black():
    x = np.array([[[[1.0, 1.1], [1.2, 1.3]]]], dtype=np.float32)
    w = np.array([[[[4.0, 3.0], [2.0, 1.0]]]], dtype=np.float32)
    metric = quantus_metric("FaithfulnessEstimate", perturb_baseline="black", normalise=False)
    found = metric(linear([4.0, 3.0, 2.0, 1.0]), x, np.array([0]), a_batch=w * x, softmax=False)
    assert found == pytest.approx([1.0])


def test_d19_is_right_with_the_value_zero():
    """The way round that the library of this project is checked against."""
    x = np.array([[[[1.0, 1.1], [1.2, 1.3]]]], dtype=np.float32)
    w = np.array([[[[4.0, 3.0], [2.0, 1.0]]]], dtype=np.float32)
    metric = quantus_metric("FaithfulnessEstimate", perturb_baseline=0.0, normalise=False)
    assert metric(linear([4.0, 3.0, 2.0, 1.0]), x, np.array([0]), a_batch=w * x, softmax=False) == pytest.approx([1.0])


@defect("D19", "Quantus's text promises Spearman, its code is Pearson")
def test_quantus_faithfulness_estimate_does_what_its_text_says():
    import quantus

    assert "default=correlation_spearman" in (inspect.getdoc(quantus.FaithfulnessEstimate.__init__) or "")
    assert quantus_metric("FaithfulnessEstimate").similarity_func is quantus.similarity_func.correlation_spearman


@defect("D20", "Quantus MPRT seeds every layer alike: layers of equal shape get identical random weights")
def test_quantus_randomises_each_layer_on_its_own():
    from quantus.helpers.model.pytorch_model import PyTorchModel

    twins = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)).eval()
    *_, (_, net) = PyTorchModel(twins).get_random_layer_generator()
    assert not torch.equal(net[0].weight, net[1].weight)

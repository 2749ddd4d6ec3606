"""Faults of what a method or metric is asked (RELIABILITY F6 F18-F23): refused before the model runs, with reason, or right."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from xai_lib import METHODS, METRICS, compute, maps, models, toys
from xai_lib.errors import ConfigError, InputError, ModelError, UnsupportedModelError, XaiError
from xai_lib.models import cifar_nets, nets
from xai_lib.registry import SCORES

SMALL = {"steps": 2, "n_samples": 2, "n_baselines": 2, "stages": 1, "features_in_step": 8, "layer": "features"}
SMALL |= {"region": 2, "n_regions": 2, "n_draws": 2, "labels": 2}
SMALL |= {"n_masks": 2, "iterations": 2}
SMALL |= {"segments": {"grid": {"rows": 1, "columns": 2}}, "draws": 20, "max_rows": 40}
GRADIENT = [name for name in METHODS if METHODS[name].traits.get("gradient")]
LAYER = [name for name in METHODS if METHODS[name].traits.get("layer")]
RECTIFIER = [name for name in METHODS if METHODS[name].traits.get("rectifier")]
CONTROLS = [name for name in METHODS if METHODS[name].traits.get("control")]
ASKING = [(METHODS, name) for name in METHODS] + [(METRICS, name) for name in METRICS if "model" in METRICS[name].words]
asking = pytest.mark.parametrize(("registry", "name"), ASKING, ids=[name for _, name in ASKING])
X = torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(0))
T = torch.tensor([0, 1])


def bound(name, registry=METHODS, **own):
    given = {**SMALL, **own}
    return registry.bind(name, **{k: v for k, v in given.items() if k in registry[name].parameters})


def net_for(name):
    """TinyNet, or a net of ReLU and global average pooling for methods that ask for rectifiers or a layer."""
    if name in LAYER or name in RECTIFIER:
        return cifar_nets.vgg(widths=(6, "pool", 8), classes=4).eval().requires_grad_(False)
    return toys.TinyNet()


def ask(registry, name, model, inputs, targets):
    """The maps of a method, or the values of a metric for maps that fit the inputs."""
    if registry is METHODS:
        return bound(name)(model, inputs, targets)
    fitting = torch.rand_like(inputs) if isinstance(inputs, torch.Tensor) and inputs.is_floating_point() else torch.rand_like(X)
    words = {"model": model, "inputs": inputs, "targets": targets, "attributions": fitting, "method": bound("gradient")}
    return METRICS.ask(bound(name, METRICS), words)


def watched(spy, model=None):
    model = spy(model or toys.TinyNet())
    model.input_shape = (3, 8, 8)
    return model


def at_one_pixel(value):
    inputs = X.clone()
    inputs[1, 2, 3, 4] = value
    return inputs


# --- F18 shape, type, place ---------------------------------------------------------------------------------------------------

ODD = {
    "CHW": (X[0], r"rows of shape \(3, 8, 8\), got \(8, 8\)"),
    "NHWC": (X.permute(0, 2, 3, 1), r"rows of shape \(3, 8, 8\), got \(8, 8, 3\)"),
    "4 channels": (torch.zeros(2, 4, 8, 8), r"rows of shape \(3, 8, 8\), got \(4, 8, 8\)"),
    "vector": (torch.zeros(3), r"at least one row \(n, \.\.\.\), got shape \(3,\)"),
    "empty batch": (X[:0], r"at least one row \(n, \.\.\.\), got shape \(0, 3, 8, 8\)"),
    "uint8": ((255 * X).byte(), r"float pixels in \[0, 1\], got torch\.uint8"),
    "int64": (X.long(), r"float pixels in \[0, 1\], got torch\.int64"),
    "float64": (X.double(), r"torch\.float32 on cpu, got torch\.float64 on cpu"),
    "float16": (X.half(), r"torch\.float32 on cpu, got torch\.float16 on cpu"),
    "another device": (X.to("meta"), r"torch\.float32 on cpu, got torch\.float32 on meta"),
    "numpy": (X.numpy(), "float tensor .*, got ndarray"),
    "list": (X.tolist(), "float tensor .*, got list"),
}


@asking
def test_f18_odd_inputs_are_refused_before_the_forward_with_expected_and_got(registry, name, spy):
    model = watched(spy)
    for inputs, message in ODD.values():
        with pytest.raises(InputError, match=message):
            ask(registry, name, model, inputs, T)
    assert model.calls == []


GOOD = {
    "permuted": lambda x: x.permute(3, 0, 2, 1).contiguous().permute(1, 3, 2, 0),
    "every second pixel": lambda x: x.repeat_interleave(2, dim=-1)[..., ::2],
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "no strides": lambda x: x[:1].expand(2, -1, -1, -1),
    "leaf": lambda x: x.clone().requires_grad_(True),
    "part of a graph": lambda x: x.clone().requires_grad_(True) * 1,
}


@pytest.mark.parametrize("form", GOOD)
@pytest.mark.parametrize("name", METHODS)
def test_f18_every_layout_gives_the_same_map_and_stays_as_it_was(name, form):
    given = GOOD[form](X)
    plain = given.detach().clone(memory_format=torch.contiguous_format)
    before = given.stride(), given.requires_grad, given._version
    made = bound(name)(net_for(name), given, T)
    assert torch.equal(made, bound(name)(net_for(name), plain, T))
    assert torch.equal(given, plain)
    assert (given.stride(), given.requires_grad, given._version) == before
    assert not given.is_leaf or given.grad is None


@pytest.mark.parametrize("name", list(METHODS))
def test_f18_a_map_of_inputs_with_a_graph_has_none(name):
    assert not bound(name)(net_for(name), GOOD["leaf"](X), T).requires_grad


READ_ONLY = """
import hashlib, json, os, sys, warnings
import numpy as np
import torch
from xai_lib import METHODS, toys
from xai_lib.models import cifar_nets
torch.set_num_threads(1)
rectified = cifar_nets.vgg(widths=(6, "pool", 8), classes=4).eval().requires_grad_(False)
values = np.memmap(sys.argv[1], dtype=np.float32, mode="r", shape=(2, 3, 8, 8))
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that the memory is read-only is the point
    x = torch.from_numpy(values)
made = {}
for name in METHODS:
    own = {k: v for k, v in json.loads(sys.argv[2]).items() if k in METHODS[name].parameters}
    net = rectified if {"layer", "rectifier"} & set(METHODS[name].traits) else toys.TinyNet()
    made[name] = METHODS.bind(name, **own)(net, x, torch.tensor([0, 1]))
child = os.fork()
if not child:
    x.add_(1)
    os._exit(0)
assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), "writing to these inputs did not kill the process"
print(json.dumps({name: hashlib.sha256(m.numpy().tobytes()).hexdigest() for name, m in made.items()}))
"""


@pytest.mark.slow
def test_f18_a_read_only_memory_map_is_never_written_to(tmp_path):
    X.numpy().tofile(tmp_path / "pixels")
    command = [sys.executable, "-c", READ_ONLY, str(tmp_path / "pixels"), json.dumps(SMALL)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert {"gradient", "vargrad", "multi_baseline_integrated_gradients"} <= set(found)
    own = {name: bound(name)(net_for(name), X, T) for name in found}
    assert found == {name: hashlib.sha256(made.numpy().tobytes()).hexdigest() for name, made in own.items()}


# --- F19 NaN and infinity -----------------------------------------------------------------------------------------------------


@asking
def test_f19_one_pixel_that_is_not_finite_is_refused_before_the_forward(registry, name, spy):
    model = watched(spy)
    for value in (torch.nan, torch.inf, -torch.inf):
        with pytest.raises(InputError, match=r"NaN or infinity in rows \[1\]"):
            ask(registry, name, model, at_one_pixel(value), T)
    assert model.calls == []


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_f19_weights_that_are_not_finite_are_refused(value, spy):
    net = toys.TinyNet()
    net.head.weight.data[0, 0] = value
    model = watched(spy, net)
    with pytest.raises(ModelError, match="NaN or infinity"):
        bound("gradient")(model, X, T)
    assert model.calls == []


def test_f19_an_infinite_gradient_is_flagged_and_its_neighbours_are_right():
    """f = sqrt(w x): the gradient is w / (2 f), infinite at 0 and w at f = 1/2."""
    weights = torch.tensor([1.0, 2.0, 3.0, 2.0]) / 8
    root = toys.Formula(lambda x: (x.flatten(1) @ weights).sqrt())
    inputs, targets = torch.tensor([[[[0.0] * 4]], [[[0.25] * 4]]]), torch.tensor([0, 0])
    made = bound("gradient")(root, inputs, targets)
    assert maps.flags(made) == ["nonfinite", ""]
    assert made[1].flatten().tolist() == weights.tolist()
    through_zero = {"adversarial_gradient_integration", "guided_integrated_gradients"}  # they ask for the gradient there
    for name in set(RECTIFIER) & set(GRADIENT):
        with pytest.raises(UnsupportedModelError, match="no backward rule for Sqrt"):
            bound(name)(root, inputs, targets)
    for name in set(GRADIENT) - through_zero - set(RECTIFIER):
        assert maps.flags(bound(name)(root, inputs, targets))[1] != "nonfinite", name
    for name in METRICS:
        if METRICS[name].words == ("attributions",):
            values = METRICS.ask(name, {"attributions": made.expand(-1, 3, 4, -1)})
            assert values.isnan().tolist() == [True, False], name


# --- F20 targets --------------------------------------------------------------------------------------------------------------

ASKED_CLASSES = {
    "negative": torch.tensor([0, -1]),
    "one too many": torch.tensor([0, 0, 0]),
    "one too few": torch.tensor([0]),
    "a column": torch.tensor([[0], [1]]),
    "float": torch.tensor([0.0, 1.5]),
    "bool": torch.tensor([True, False]),
    "int32": torch.tensor([0, 1], dtype=torch.int32),
    "another device": torch.zeros(2, dtype=torch.int64, device="meta"),
    "list": [0, 1],
    "numpy": np.array([0, 1]),
    "number": 1,
}


@asking
def test_f20_targets_that_are_no_classes_are_refused_before_the_forward(registry, name, spy):
    model = watched(spy)
    for targets in ASKED_CLASSES.values():
        with pytest.raises(InputError, match="targets: "):
            ask(registry, name, model, X, targets)
    assert model.calls == []


@asking
def test_f20_a_class_the_model_lacks_is_refused_before_it_is_looked_up(registry, name, monkeypatch):
    if name in CONTROLS:
        assert ask(registry, name, toys.TinyNet(), X, torch.tensor([0, 4])).shape == X.shape  # they ask for no class
        return
    logit = SCORES["logit"]
    monkeypatch.setitem(SCORES._entries, "logit", replace(logit, function=lambda *_: pytest.fail("the class was looked up")))
    with pytest.raises(InputError, match=r"class 4 asked, the model has 4 \(0 to 3\)"):
        ask(registry, name, net_for(name), X, torch.tensor([0, 4]))


# --- F21 models without a gradient --------------------------------------------------------------------------------------------


@torch.no_grad()
def without_graph(x):
    return x.flatten(1).mean(1)


HIDDEN = {
    "no_grad": without_graph,
    "detached": lambda x: x.detach().flatten(1).mean(1),
    "integer input": lambda x: (255 * x).long().float().flatten(1).mean(1) / 255,
    "argmax": lambda x: nn.functional.one_hot(x.flatten(1).argmax(1), x[0].numel()).to(x),
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_f21_a_hidden_gradient_is_refused_by_every_gradient_method_and_no_other(kind):
    model = toys.Formula(HIDDEN[kind])
    for name in METHODS:
        if name in GRADIENT:
            with pytest.raises(ModelError, match="not differentiable: the output changes"):
                bound(name)(model, X, T)
        elif name in LAYER:
            with pytest.raises(ModelError, match="no layer 'features'"):
                bound(name)(model, X, T)
        else:
            assert torch.isfinite(bound(name)(model, X, T)).all()


@pytest.mark.parametrize("name", ["faithfulness_estimate", "monotonicity", "completeness_gap", "region_perturbation"])
def test_f21_what_only_perturbs_judges_a_hidden_model_as_its_open_twin(name):
    twins = [toys.Formula(lambda x: x.flatten(1).mean(1)), *(toys.Formula(HIDDEN[kind]) for kind in ("no_grad", "detached"))]
    generator = torch.Generator().manual_seed(1)
    words = {"inputs": X, "targets": T - T, "attributions": X + 0.3 * torch.rand(X.shape, generator=generator)}
    open_twin, *hidden = (METRICS.ask(bound(name, METRICS), {**words, "model": model}) for model in twins)
    assert torch.isfinite(open_twin).all()
    assert all(torch.equal(open_twin, values) for values in hidden)


class Numbers(toys.TinyNet):
    """Gives class numbers instead of logits."""

    def forward(self, inputs):
        return nn.functional.one_hot(super().forward(inputs).argmax(1), 4)


def test_f21_class_numbers_instead_of_logits_are_refused():
    model = Numbers()
    for registry, name in ASKING:
        if registry is METRICS or name in GRADIENT:
            with pytest.raises(ModelError, match=r"not differentiable: the model returns torch\.int64"):
                ask(registry, name, model, X, T)


def test_f21_a_constant_model_gives_zeros_that_are_flagged_and_undefined():
    for name in GRADIENT:
        made = bound(name)(toys.constant(), X, T)
        assert not made.any()
        assert maps.flags(made) == ["zero", "zero"]
    words = {"model": toys.constant(), "inputs": X, "targets": T, "attributions": made}
    for metric in ("faithfulness_estimate", "monotonicity", "contour_patch_area"):
        assert METRICS.ask(bound(metric, METRICS), words).isnan().all()


# --- F22 one function, many spellings -----------------------------------------------------------------------------------------


class Twin(nn.Module):
    """3 a(2 x1 - x2) - 2 a(x2 - x1 - 1), with the activation a spelled in some way."""

    def __init__(self, activation):
        super().__init__()
        self.first, self.last = nn.Linear(2, 2), nn.Linear(2, 1, bias=False)
        self.first.weight.data = torch.tensor([[2.0, -1.0], [-1.0, 1.0]])
        self.first.bias.data = torch.tensor([0.0, -1.0])
        self.last.weight.data = torch.tensor([[3.0, -2.0]])
        self.act = activation
        self.requires_grad_(False).eval()

    def forward(self, x):
        return self.last(self.act(self.first(x.flatten(1))))


class Reused(nn.Module):
    """One module called for each unit in turn."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return torch.cat([self.module(x[:, :1]), self.module(x[:, 1:])], dim=1)


RELU = {
    "module": nn.ReLU(),
    "in place": nn.ReLU(inplace=True),
    "functional": nn.functional.relu,
    "reused": Reused(nn.ReLU()),
    "method": torch.Tensor.relu_,
    "made in forward": lambda x: nn.ReLU(inplace=True)(x),
}
RELU6 = {
    "module": nn.ReLU6(),
    "in place": nn.ReLU6(inplace=True),
    "functional": nn.functional.relu6,
    "reused": Reused(nn.ReLU6()),
    "method": lambda x: x.clamp_(0, 6),
    "made in forward": lambda x: nn.Hardtanh(0, 6, inplace=True)(x),
}
SILU = {
    "module": nn.SiLU(),
    "in place": nn.SiLU(inplace=True),
    "functional": nn.functional.silu,
    "reused": Reused(nn.SiLU()),
    "method": lambda x: x * x.sigmoid(),
    "made in forward": lambda x: nn.SiLU()(x),
}


def silu_slope(z):
    s = 1 / (1 + np.exp(-z))
    return s * (1 + z * (1 - s))


POINTS = {
    (1.0, 1.0): ((6, -3), (6, -3)),  # only the first unit is on
    (0.0, 3.0): ((2, -2), (2, -2)),  # only the second
    (5.0, 1.0): ((6, -3), (0, 0)),  # the first is at 9, above 6
}
SPELLINGS = [(kind, spelling) for kind in ("ReLU", "ReLU6", "SiLU") for spelling in RELU]


class WithAnother(nn.Module):
    """A model of one class with a second one, always 0: some methods need a class to go to."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, inputs):
        out = self.model(inputs)
        return torch.cat([out, 0 * out], dim=1)


@pytest.mark.parametrize(("kind", "spelling"), SPELLINGS)
def test_f22_every_spelling_of_an_activation_has_the_gradient_computed_by_hand(kind, spelling):
    spellings = {"ReLU": RELU, "ReLU6": RELU6, "SiLU": SILU}[kind]
    model, clean = Twin(spellings[spelling]), Twin(spellings["module"])
    inputs, targets = torch.tensor(list(POINTS)).reshape(-1, 1, 1, 2), torch.zeros(len(POINTS), dtype=torch.int64)
    made = bound("gradient")(model, inputs, targets)
    if kind == "SiLU":
        (one, two), point = [(2, -1), (-1, 1)], np.array(list(POINTS))
        on = 3 * silu_slope(point @ one), -2 * silu_slope(point @ two - 1)
        expected = on[0][:, None] * one + on[1][:, None] * two
    else:
        expected = np.array([slopes[kind == "ReLU6"] for slopes in POINTS.values()])
    np.testing.assert_allclose(made.reshape(-1, 2), expected, rtol=1e-5)
    model, clean = WithAnother(model), WithAnother(clean)
    for name in set(METHODS) - set(LAYER) - set(RECTIFIER):
        torch.testing.assert_close(bound(name)(model, inputs, targets), bound(name)(clean, inputs, targets))


def test_f22_integrated_gradients_of_every_spelling_are_those_by_hand():
    """On the segment from (0, 0) to (2, 2) only the first unit is on: Integrated Gradients are w x = (12, -6)."""
    inputs = torch.full((1, 1, 1, 2), 2.0)
    for activation in RELU.values():
        made = bound("integrated_gradients")(Twin(activation), inputs, T[:1])
        assert made.flatten().tolist() == pytest.approx([12, -6])


def test_f22_a_model_that_starts_in_place_is_explained_or_refused():
    model = toys.Formula(lambda x: x.relu_().flatten(1).sum(1))
    before = X.clone()
    assert compute.scores(model, X, T - T).tolist() == pytest.approx(X.flatten(1).sum(1).tolist())
    assert torch.equal(X, before)
    try:
        made = bound("gradient")(model, X, T - T)
    except XaiError:
        return
    assert torch.equal(made, torch.ones_like(X))


RULES = {  # method: rows of ReLU and ReLU6 at each of POINTS; all differ from the gradient at the second point
    "guided_backprop": (((6, -3), (6, -3)), ((0, 0), (0, 0)), ((6, -3), (0, 0))),
    "deconvnet": (((6, -3), (6, -3)), ((6, -3), (6, -3)), ((6, -3), (6, -3))),
    "lrp": (((6, -3), (6, -3)), ((0, -6), (0, -6)), ((30, -3), (20, -2))),
    "deep_taylor": (((3, 0), (3, 0)), ((0, 0), (0, 0)), ((27, 0), (18, 0))),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(("kind", "spelling"), SPELLINGS)
def test_f22_every_spelling_has_the_backward_rule_computed_by_hand_or_is_refused_by_name(kind, spelling, name):
    model = Twin({"ReLU": RELU, "ReLU6": RELU6, "SiLU": SILU}[kind][spelling])
    inputs, targets = torch.tensor(list(POINTS)).reshape(-1, 1, 1, 2), torch.zeros(len(POINTS), dtype=torch.int64)
    if kind == "SiLU":
        with pytest.raises(UnsupportedModelError, match=rf"{name} has no backward rule for .*(Silu|Sigmoid)"):
            bound(name)(model, inputs, targets)
        return
    made = bound(name)(model, inputs, targets).reshape(-1, 2)
    assert made.tolist() == [list(rows[kind == "ReLU6"]) for rows in RULES[name]]
    assert not torch.equal(made, bound("gradient")(model, inputs, targets).reshape(-1, 2))


class Mapped(nn.Module):
    """What `Twin` computes at every pixel of a picture, averaged: a net that has maps."""

    def __init__(self, activation):
        super().__init__()
        twin = Twin(activation)
        self.first, self.act, self.last = nn.Conv2d(2, 2, 1), activation, nn.Linear(2, 1, bias=False)
        self.first.weight.data, self.first.bias.data = twin.first.weight.data[..., None, None], twin.first.bias.data
        self.last.weight.data = twin.last.weight.data
        self.requires_grad_(False).eval()

    def forward(self, x):
        return self.last(self.act(self.first(x)).mean(dim=(2, 3)))


@pytest.mark.parametrize(("kind", "spelling"), [(k, s) for k, s in SPELLINGS if s != "reused"])
def test_f22_every_spelling_has_the_guided_map_computed_by_hand_or_is_refused_by_name(kind, spelling):
    """At the layer before the activation a_k A_k = 3 on_1 z_1 - 2 on_2 z_2; guided back-propagation is that of `RULES`."""
    model = Mapped({"ReLU": RELU, "ReLU6": RELU6, "SiLU": SILU}[kind][spelling])
    inputs, targets = torch.tensor([[1.0, 1.0], [5.0, 1.0]]).reshape(2, 2, 1, 1), torch.zeros(2, dtype=torch.int64)
    if kind == "SiLU":
        with pytest.raises(UnsupportedModelError, match=r"guided_backprop has no backward rule for .*(Silu|Sigmoid)"):
            METHODS["guided_grad_cam"].function(model, inputs, targets, layer="first")
        return
    made = METHODS["guided_grad_cam"].function(model, inputs, targets, layer="first")
    high = [27 * 6, 27 * -3] if kind == "ReLU" else [0, 0]
    assert made.reshape(2, 2).tolist() == [[3 * 6, 3 * -3], high]


def test_f22_methods_that_replace_activations_must_prove_themselves_here():
    """Guided backpropagation, DeepLIFT and LRP go wrong silently on a spelling they do not know: add them to `RULES`."""
    replacing = ("guided_back", "guided_grad", "deconv", "lift", "lrp", "relevance")
    found = {name for name in METHODS if any(word in name for word in replacing)} | set(RECTIFIER)
    assert found == {*RULES, "guided_grad_cam", "deeplift"}


@pytest.mark.parametrize(("kind", "spelling"), SPELLINGS)
def test_f22_every_spelling_has_the_quotient_of_differences_computed_by_hand(kind, spelling):
    """From 0 unit 1 goes from a(0) to a(z1) over z1, unit 2 from a(-1) to a(z2) over z2 + 1."""
    model = Twin({"ReLU": RELU, "ReLU6": RELU6, "SiLU": SILU}[kind][spelling])
    a = {"ReLU": lambda z: z.clip(0), "ReLU6": lambda z: z.clip(0, 6), "SiLU": lambda z: z / (1 + np.exp(-z))}[kind]
    x = np.array(list(POINTS))
    z1, z2 = x @ (2.0, -1.0), x @ (-1.0, 1.0) - 1
    m1 = np.where(z1 == 0, 0, (a(z1) - a(0 * z1)) / np.where(z1 == 0, 1, z1))
    at_once = silu_slope(-1) if kind == "SiLU" else 0  # the derivative, where nothing differs
    m2 = np.where(z2 == -1, at_once, (a(z2) - a(0 * z2 - 1)) / np.where(z2 == -1, 1, z2 + 1))
    expected = (3 * m1[:, None] * (2, -1) - 2 * m2[:, None] * (-1, 1)) * x
    inputs, targets = torch.tensor(list(POINTS)).reshape(-1, 1, 1, 2), torch.zeros(len(POINTS), dtype=torch.int64)
    made = bound("deeplift")(model, inputs, targets).reshape(-1, 2)
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-6)


def test_f22_a_layer_that_nobody_named_is_asked_for():
    for name in LAYER:
        with pytest.raises(ConfigError, match=r"names no cam_layer; pass layer=.*conv1, conv2"):
            METHODS[name].function(toys.TinyNet(), X, T)


# --- F23 training mode --------------------------------------------------------------------------------------------------------


def with_dropout():
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.Dropout(0.5), nn.BatchNorm1d(6), nn.Linear(6, 4))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for module in (net[1], net[4]):
            module.reset_parameters()
    net[3].running_mean.uniform_(0.1, 0.2, generator=torch.Generator().manual_seed(0))
    return net.requires_grad_(False).eval()


@asking
def test_f23_training_mode_of_any_layer_is_refused_before_the_forward(registry, name, spy):
    for layer in ("0", "2", "3", ""):
        net = with_dropout()
        mean = net[3].running_mean.clone()
        model = watched(spy, net)
        net.get_submodule(layer).train()
        with pytest.raises(ModelError, match=r"training mode.* call model\.eval\(\)"):
            ask(registry, name, model, X, T)
        assert model.calls == []
        assert torch.equal(net[3].running_mean, mean)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in LAYER])
def test_f23_dropout_and_batch_norm_at_rest_give_the_same_map_twice_and_alone(name):
    model = with_dropout()
    made = bound(name)(model, X, T)
    assert torch.equal(made, bound(name)(model, X, T))
    torch.testing.assert_close(made[1:], bound(name)(model, X[1:], T[1:]))
    if name == "gradient":
        scale = model[3].weight / (model[3].running_var + model[3].eps).sqrt()
        expected = (model[4].weight * scale) @ model[1].weight
        torch.testing.assert_close(made.flatten(1), expected[T])


# --- F6 weights in the format that holds pickles ------------------------------------------------------------------------------


def saved(path):
    torch.save(nets.lenet().state_dict(), path)
    return path.read_bytes()


def test_f6_a_pth_is_held_against_its_sha256_before_it_is_opened(tmp_path, monkeypatch):
    content = saved(tmp_path / "net.pth")
    digits = hashlib.sha256(content).hexdigest()
    path = tmp_path / f"net-{digits[:8]}.pth"
    path.write_bytes(content)
    assert models.load("mnist_cnn", weights=path).weights_sha256 == digits
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the file was opened"))
    for place in (0, len(content) // 2, len(content) - 1):
        path.write_bytes(bytes([*content[:place], content[place] ^ 1, *content[place + 1 :]]))
        with pytest.raises(ModelError, match=f"expected sha256 {digits[:8]}, got [0-9a-f]{{64}}") as caught:
            models.load("mnist_cnn", weights=path)
        assert caught.value.exit_code == 4


def test_f6_a_pth_cut_anywhere_is_refused_before_any_forward(tmp_path, monkeypatch):
    content = saved(tmp_path / "whole.pth")
    monkeypatch.setattr(nn.Module, "__call__", lambda *_: pytest.fail("a forward pass ran"))
    cuts = [0, 1, 30, 1000, len(content) // 2, len(content) - 1]
    assert all(a < b for a, b in pairwise(cuts))
    for cut in cuts:
        path = tmp_path / "cut.pth"
        path.write_bytes(content[:cut])
        with pytest.raises(ModelError, match=r"cut\.pth: expected plain tensors"):
            models.load("mnist_cnn", weights=path)

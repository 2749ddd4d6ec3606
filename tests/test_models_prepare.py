"""Rectifiers found in the autograd graph whatever their spelling, all else refused by name; the canonical tree of modules."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from xai_lib import models
from xai_lib.errors import ModelError, UnsupportedModelError
from xai_lib.hooks import global_seed, probe
from xai_lib.models import PixelModel, cifar_nets
from xai_lib.models.canonical import Add, canonical
from xai_lib.models.prepare import activations, with_rule

RELU = {
    "module": nn.ReLU(),
    "module in place": nn.ReLU(inplace=True),
    "functional": F.relu,
    "functional in place": lambda z: F.relu_(z),
    "torch": torch.relu,
    "method in place": torch.Tensor.relu_,
    "clamp": lambda z: z.clamp(min=0),
    "clamp in place": lambda z: z.clamp_(min=0),
    "clamp_min": lambda z: torch.clamp_min(z, 0.0),
    "maximum": lambda z: torch.maximum(z, torch.zeros(())),
    "maximum, other way round": lambda z: torch.maximum(torch.zeros(1), z),
    "max": lambda z: torch.max(z, torch.zeros_like(z)),
}
RELU6 = {
    "module": nn.ReLU6(),
    "module in place": nn.ReLU6(inplace=True),
    "functional": F.relu6,
    "hardtanh": lambda z: F.hardtanh(z, 0, 6),
    "hardtanh in place": lambda z: F.hardtanh_(z, 0, 6),
    "clamp": lambda z: z.clamp(0, 6),
    "clamp in place": lambda z: z.clamp_(0, 6),
    "clip": lambda z: torch.clip(z, 0, 6),
}
ALL = [("ReLU", f) for f in RELU] + [("ReLU6", f) for f in RELU6]
Z = torch.tensor([[-1.0, 0.0, 0.5, 5.5, 6.0, 7.0]])
ON = {"ReLU": [0, 0, 1, 1, 1, 1], "ReLU6": [0, 0, 1, 1, 0, 0]}


def spelt(kind, spelling):
    activation = {"ReLU": RELU, "ReLU6": RELU6}[kind][spelling]
    return lambda x: activation(1 * x)


def pulled(model, rule, signal=None):
    """What a signal above the model becomes below it."""
    x = Z.clone().requires_grad_(True)
    out = with_rule(model, rule, method="test")(x)
    return torch.autograd.grad(out, x, torch.full_like(out, -3.0) if signal is None else signal)[0][0].tolist()


@pytest.mark.parametrize(("kind", "spelling"), ALL)
def test_a_rule_gets_what_arrives_and_what_the_model_would_pass(kind, spelling):
    model = spelt(kind, spelling)
    assert pulled(model, lambda received, passed: passed) == [-3.0 * on for on in ON[kind]]
    assert pulled(model, lambda received, passed: received) == [-3.0] * 6
    assert pulled(model, lambda received, passed: 10 * received + passed) == [-30.0 - 3 * on for on in ON[kind]]
    assert torch.equal(with_rule(model, None, method="test")(Z), model(Z))


def test_each_call_of_a_shared_module_is_a_place_of_its_own():
    relu = nn.ReLU()
    model = lambda x: relu(2 - relu(x) - relu(x - 5))  # noqa: E731
    seen = []
    made = pulled(model, lambda received, passed: (seen.append(received.tolist()), passed)[1], torch.full((1, 6), 2.0))
    assert len(seen) == 3
    assert made == [0, 0, -2, 0, 0, 0]


@pytest.mark.parametrize("value", [0.5, 7.0])
def test_a_branch_that_depends_on_the_values_is_followed(value):
    model = lambda x: torch.relu(x) if x.max() < 1 else 2 * F.relu6(x)  # noqa: E731
    x = torch.full((1, 1), value, requires_grad=True)
    out = with_rule(model, lambda received, passed: received, method="test")(x)
    assert torch.autograd.grad(out, x, torch.ones(1, 1))[0].item() == (1 if value < 1 else 2)


def test_nothing_stays_on_the_model_and_weights_are_not_touched():
    net = nn.Sequential(nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 1)).eval()
    x = Z.clone().requires_grad_(True)
    plain = torch.autograd.grad(net(x).sum(), x)[0]
    out = with_rule(net, lambda received, passed: 0 * passed, method="test")(x)
    assert not torch.autograd.grad(out.sum(), x)[0].any()
    assert torch.equal(torch.autograd.grad(net(x).sum(), x)[0], plain)
    assert all(p.grad is None for p in net.parameters())
    assert not any(m._forward_hooks or m._backward_hooks or m._forward_pre_hooks for m in net.modules())


def test_what_is_done_to_weights_alone_is_left_alone():
    weight = torch.linspace(-1, 1, 6).requires_grad_(True)
    model = lambda x: x @ F.gelu(torch.relu(weight))[:, None]  # noqa: E731
    assert pulled(model, lambda received, passed: 0 * passed) != [0] * 6
    x = Z.clone().requires_grad_(True)
    assert activations(model(x), x) == ([], {})


def test_logits_without_a_gradient_are_passed_through():
    guarded = with_rule(lambda x: F.gelu(x), None, method="test")
    assert torch.equal(guarded(Z), F.gelu(Z))
    constant = with_rule(lambda x: torch.ones(1, 2, requires_grad=True) * 2, None, method="test")
    assert constant(Z.clone().requires_grad_(True)).tolist() == [[2, 2]]


def test_three_thousand_layers():
    def deep(x):
        for _ in range(3000):
            x = torch.relu(x)
        return x

    assert pulled(deep, lambda received, passed: passed) == [0, 0, -3, -3, -3, -3]


class Own(torch.autograd.Function):
    """A ReLU with a backward pass of its own."""

    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z.clamp_min(0)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * (ctx.saved_tensors[0] > 0)


class Add0(Own):
    """One that is called like an operation of PyTorch."""


def part_in_place(x):
    z = 1 * x
    z[:, :3].relu_()
    return z


REFUSED = {
    "SiLU": (nn.SiLU(), "Silu"),
    "SiLU by hand": (lambda x: x * x.sigmoid(), "Sigmoid"),
    "GELU": (nn.GELU(), "Gelu"),
    "sigmoid": (torch.sigmoid, "Sigmoid"),
    "tanh": (torch.tanh, "Tanh"),
    "ELU": (nn.ELU(), "Elu"),
    "SELU": (nn.SELU(), "Elu"),
    "leaky ReLU": (nn.LeakyReLU(), "LeakyRelu"),
    "PReLU": (nn.PReLU(), "Prelu"),
    "softplus": (nn.Softplus(), "Softplus"),
    "hard swish": (nn.Hardswish(), "Hardswish"),
    "mish": (nn.Mish(), "Mish"),
    "softmax": (nn.Softmax(1), "Softmax"),
    "hard tanh": (nn.Hardtanh(-1, 1), r"Hardtanh\(-1, 1\)"),
    "clamp above 0": (lambda x: x.clamp(min=1), "Clamp"),
    "clamp from above": (lambda x: x.clamp(max=6), "Clamp"),
    "clamp_min above 0": (lambda x: x.clamp_min(0.5), "ClampMin"),
    "clamp to tensors": (lambda x: x.clamp(torch.zeros(()), None), "Clamp"),
    "clamp to 0": (lambda x: x.clamp(0, 0), "Clamp"),
    "maximum with 1": (lambda x: torch.maximum(x, torch.ones(())), "Maximum"),
    "maximum of two": (lambda x: torch.maximum(x, 0.1 * x), "Maximum"),
    "threshold": (nn.Threshold(0, 20), "Threshold"),
    "abs": (lambda x: (x + x.abs()) / 2, "Abs"),
    "where": (lambda x: torch.where(x > 0, x, 0), "Where"),
    "filled": (lambda x: x.masked_fill(x < 0, 0), "MaskedFill"),
    "masked": (lambda x: x * (x > 0), "Mul of an activation with another or with a mask"),
    "masked from the left": (lambda x: (x > 0) * x, "Mul of an activation with another or with a mask"),
    "masked by floats": (lambda x: x * (x > 0).float(), "Mul of an activation with another or with a mask"),
    "square": (lambda x: x**2, "Pow"),
    "product": (lambda x: x * x, "Mul of an activation with another"),
    "quotient": (lambda x: 1 / (x + 20), "Reciprocal"),
    "quotient of two": (lambda x: torch.ones(1, 6) / (x + 20), "Div of an activation"),
    "attention": (lambda x: x.mT @ x, "Mm of an activation with another"),
    "own function": (Own.apply, "OwnBackward"),
    "own function with a known name": (Add0.apply, "Add0Backward"),
    "part in place": (part_in_place, "an in-place change of a part of a tensor"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_has_no_rule_is_refused_by_name(kind):
    model, name = REFUSED[kind]
    guarded = with_rule(lambda x: torch.relu(model(torch.relu(x) - 1)), None, method="some_method")
    with pytest.raises(UnsupportedModelError, match=f"some_method has no backward rule for .*{name}"):
        guarded(Z.clone().requires_grad_(True))


LINEAR = {
    "scaled": lambda x: 2 * x / 3 - 1,
    "channel mask": lambda x: x * torch.tensor([1.0, 0, 1, 1, 0, 1]),
    "weights from the left": lambda x: torch.ones(2, 1) @ x,
    "batch norm": nn.BatchNorm1d(6).eval(),
    "layer norm": nn.LayerNorm(6),
    "dropout": nn.Dropout().eval(),
    "max pooling": lambda x: F.max_pool2d(x[None], 2, padding=1),
    "average": lambda x: F.adaptive_avg_pool2d(x[None], 1),
    "padding and crop": lambda x: F.pad(x, (1, 1))[:, 2:],
    "concatenation": lambda x: torch.cat([x[:, :2], x.flip(1)], 1).unbind(0)[0],
    "upsampling": lambda x: F.interpolate(x[None, None], scale_factor=2, mode="bilinear"),
    "sum": lambda x: x.reshape(2, 3).T.sum(1),
    "convolution": nn.Conv1d(1, 2, 3).requires_grad_(True),
    "linear": lambda x: nn.Linear(6, 2)(x),
    "in place": lambda x: (1 * x).add_(3).mul_(2),
}


@pytest.mark.parametrize("kind", LINEAR)
def test_what_is_linear_or_routes_is_differentiated_as_usual(kind):
    layer = LINEAR[kind]
    with global_seed(0):
        x = Z.clone().requires_grad_(True)
        shaped = (lambda x: layer(x[:, None])) if kind == "convolution" else layer
        expected = torch.autograd.grad(shaped(x).sum(), x)[0][0].tolist()
    with global_seed(0):
        ruled = with_rule(shaped, lambda received, passed: 0 * passed, method="test")
        assert torch.autograd.grad(ruled(x).sum(), x)[0][0].tolist() == expected


# --- the canonical tree -------------------------------------------------------------------------------------------------------


class Shared(nn.Module):
    """One ReLU6 and one convolution called twice, a functional ReLU, sums, a ReLU made on the way."""

    def __init__(self):
        super().__init__()
        self.conv, self.act, self.fc = nn.Conv2d(2, 2, 3, padding=1), nn.ReLU6(inplace=True), nn.Linear(2, 3)

    def forward(self, x):
        hidden = self.act(self.conv(x))
        hidden = self.act(self.conv(hidden)) + hidden
        hidden += 0.5 * F.relu(0.5 - hidden, inplace=True)
        hidden = nn.ReLU()(F.max_pool2d(hidden, 2) - 0.1).clamp(0, 6)
        return self.fc(F.adaptive_avg_pool2d(hidden, 1).flatten(1))


def shared():
    with global_seed(0):
        net = Shared().eval().requires_grad_(False)
    net.fc.weight.abs_()
    net.conv.bias.fill_(0.3)
    return net


IMAGES = torch.rand((3, 2, 8, 8), generator=torch.Generator().manual_seed(0))


def kinds(net):
    return sorted(type(module).__name__ for module in net.modules() if not list(module.children()))


def test_every_call_of_an_activation_gets_its_own_module():
    net = shared()
    made = canonical(net, IMAGES)
    assert torch.equal(made(IMAGES), net(IMAGES))
    expected = ["AdaptiveAvgPool2d", "Add", "Add", "Conv2d", "Conv2d", "Linear", "MaxPool2d", *["ReLU"] * 2, *["ReLU6"] * 3]
    assert kinds(made) == expected
    layers = [name for name, module in made.named_modules() if name and not list(module.children())]
    with probe(made, layers) as seen:
        made(IMAGES)
    assert set(seen.calls.values()) == {1}
    assert not any(getattr(module, "inplace", False) for module in made.modules())


def test_the_copy_shares_weights_between_its_places_and_none_with_the_original():
    net = shared()
    made = canonical(net, IMAGES)
    assert made.conv.weight is made.call_conv_2.weight
    assert made.conv.weight is not net.conv.weight
    assert net.act.inplace
    assert [name for name, _ in net.named_modules()] == ["", "conv", "act", "fc"]


@pytest.mark.parametrize("name", ["mnist_cnn", "cifar_resnet", "cifar_densenet", "cifar_vgg"])
def test_our_nets_keep_their_logits_and_stay_pixel_models(name):
    net = models.load(name)
    x = torch.rand((2, *net.input_shape), generator=torch.Generator().manual_seed(0))
    made = canonical(net, x)
    assert isinstance(made, PixelModel)
    torch.testing.assert_close(made(x), net(x), rtol=0, atol=1e-5)
    assert "ReLU" in kinds(made)


def test_guided_backpropagation_by_hooks_on_the_copy_is_that_of_the_graph():
    made = canonical(shared(), IMAGES)
    for kind in ("guided", "deconvnet"):
        handles = []
        for module in made.modules():
            if isinstance(module, nn.ReLU | nn.ReLU6):
                hook = lambda module, below, above, kind=kind: ((below if kind == "guided" else above)[0].clamp_min(0),)  # noqa: E731
                handles.append(module.register_full_backward_hook(hook))
        x = IMAGES.clone().requires_grad_(True)
        expected = torch.autograd.grad(made(x)[:, 1].sum(), x)[0]
        for handle in handles:
            handle.remove()
        rule = (lambda r, p: p.clamp_min(0)) if kind == "guided" else (lambda r, p: r.clamp_min(0))
        x = IMAGES.clone().requires_grad_(True)
        found = torch.autograd.grad(with_rule(shared(), rule, method=kind)(x)[:, 1].sum(), x)[0]
        torch.testing.assert_close(found, expected)
        assert expected.abs().max() > 1e-3


class Odd(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.fc = nn.Linear(2, 2)
        self.odd = forward
        self.eval()

    def forward(self, x):
        return self.fc(self.odd(1 * x))


def read_after_change(z):
    torch.relu_(z)
    return z - 1


UNFIT = {
    "a decision": (lambda z: z if z.sum() > 0 else -z, "cannot be traced"),
    "a change that is read elsewhere": (read_after_change, "logits of the rewritten model differ"),
    "where": (lambda z: torch.where(z > 0, z, 0), r"a pass computes Where \(1x\), but calls 0 modules"),
    "power": (lambda z: F.relu(z**2), r"a pass computes Pow \(1x\), Relu \(1x\), but calls 1 modules"),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_what_cannot_be_rewritten_is_refused_with_the_reason(kind):
    forward, message = UNFIT[kind]
    with pytest.raises(UnsupportedModelError, match=message):
        canonical(Odd(forward), torch.tensor([[-1.0, 2.0]]))


FUNCTIONS = {
    "ReLU": [torch.relu, F.relu, lambda z: z.relu(), lambda z: z.relu_(), lambda z: z.clamp(min=0), lambda z: z.clamp_min(0.0)],
    "ReLU6": [F.relu6, lambda z: F.hardtanh(z, 0, 6), lambda z: torch.clamp(z, 0.0, 6.0), lambda z: z.clip(max=6, min=0)],
    "Hardtanh": [F.hardtanh, lambda z: z.clamp(-1, 1), lambda z: z.clamp(0, 2)],
    "SiLU": [F.silu, lambda z: F.silu(z, inplace=True)],
    "GELU": [F.gelu, lambda z: F.gelu(z, approximate="tanh")],
    "LeakyReLU": [F.leaky_relu, lambda z: F.leaky_relu(z, 0.3)],
    "ELU": [lambda z: F.elu(z, 2.0)],
    "Softplus": [F.softplus],
    "Sigmoid": [torch.sigmoid, lambda z: z.sigmoid()],
    "Tanh": [torch.tanh],
    "Softmax": [lambda z: F.softmax(z, dim=1), lambda z: z.softmax(1)],
    "Add": [lambda z: z + 2 * z, lambda z: z.add(z), lambda z: torch.add(z, z)],
}


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_functions_become_modules_with_their_arguments(kind):
    x = torch.tensor([[-1.5, 2.5], [0.5, 7.0]])
    for function in FUNCTIONS[kind]:
        net = Odd(function)
        made = canonical(net, x)
        assert kinds(made) == sorted([kind, "Linear"])
        assert torch.equal(made(x), net(x))
    assert isinstance(made.get_submodule("call_add"), Add) if kind == "Add" else True


def test_canonical_inside_no_grad_is_the_same_tree():
    """EfficientNet-Lite takes another path without gradients, which cannot be traced."""
    net = models.load("efficientnet_lite0", size=32)
    x = torch.rand((1, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made = canonical(net, x)
    assert kinds(made) == kinds(canonical(net, x))
    assert kinds(made).count("ReLU6") == 33


class Alike(nn.Module):
    """Two layers called twice, `a.b` and `a_b`, and one that has the name that a function would get."""

    def __init__(self):
        super().__init__()
        self.a = nn.ModuleDict({"b": nn.Linear(3, 3)})
        self.a_b, self.call_relu = nn.Linear(3, 3), nn.Tanh()
        self.eval()

    def forward(self, x):
        return self.a["b"](self.a["b"](self.a_b(F.relu(self.a_b(self.call_relu(x))))))


def test_names_that_look_alike_do_not_replace_each_other():
    with global_seed(0):
        net, x = Alike(), torch.randn(4, 3)
    made = canonical(net, x)
    torch.testing.assert_close(made(x), net(x))
    assert kinds(made) == [*["Linear"] * 4, "ReLU", "Tanh"]


def test_canonical_asks_for_a_module_in_eval_mode():
    with pytest.raises(ModelError, match="eval mode"):
        canonical(cifar_nets.vgg(widths=(2,)), torch.zeros(1, 3, 8, 8))
    with pytest.raises(ModelError, match="expected a torch"):
        canonical(torch.relu, Z)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rectifiers"), [("densenet121", 121), ("inception_v3", 94)])
def test_functional_activations_of_torchvision_nets_become_modules(name, rectifiers):
    import torchvision

    own = {"init_weights": False} if name == "inception_v3" else {}
    with global_seed(0):
        net = torchvision.models.get_model(name, weights=None, **own).eval().requires_grad_(False)
    x = torch.rand((1, 3, 96, 96), generator=torch.Generator().manual_seed(0))
    made = canonical(net, x)
    assert kinds(made).count("ReLU") == rectifiers
    torch.testing.assert_close(made(x), net(x))

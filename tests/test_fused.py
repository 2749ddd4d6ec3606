"""Convolutions and ReLU6 in one call: the bits of the layers one by one, and the layers one by one wherever anybody looks."""

import pytest
import torch
from torch import nn

from xai_lib import compute, fused, models
from xai_lib.fused import Crop, Layers, gradient_forward

needs_onednn = pytest.mark.skipif(
    not fused._may_fuse(torch.zeros(1)), reason="this build of PyTorch lacks oneDNN's convolution with ReLU6"
)


def layers(*, end: bool) -> Layers:
    """Convolutions of every kind that EfficientNet-Lite has; `end`: whether the last one has a ReLU6."""
    draw = torch.Generator().manual_seed(0)
    made: list[nn.Module] = [
        nn.Conv2d(3, 8, 3, stride=2, padding=2), Crop(), nn.ReLU6(),
        nn.Conv2d(8, 16, 1), nn.ReLU6(),
        nn.Conv2d(16, 16, 5, padding=2, groups=16), nn.ReLU6(),
        nn.Conv2d(16, 4, 1, bias=False), nn.Conv2d(4, 8, 1),
    ]  # fmt: skip
    net = Layers(*made, *([nn.ReLU6()] if end else [])).eval().requires_grad_(False)
    for p in net.parameters():
        p.copy_(torch.randn(p.shape, generator=draw) * (4 / p[0].numel() if p.ndim > 1 else 1) ** 0.5)
    return net.to(memory_format=torch.channels_last)


def pictures(n: int = 3, size: int = 16) -> torch.Tensor:
    drawn = torch.randn((n, 3, size, size), generator=torch.Generator().manual_seed(1))
    return drawn.contiguous(memory_format=torch.channels_last)


def one_by_one(net: Layers, x: torch.Tensor) -> torch.Tensor:
    for layer in net:
        x = layer(x)
    return x


def gradient(forward, x: torch.Tensor, signal: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x = x.clone().requires_grad_(True)
    out = forward(x)
    return out.detach(), torch.autograd.grad(out, x, signal)[0]


@needs_onednn
@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize("size", [16, 17])
def test_values_and_gradients_are_those_of_the_layers(end, size):
    net, x = layers(end=end), pictures(size=size)
    out = one_by_one(net, x)
    assert end == bool(out.min() == 0)
    signal = torch.randn(out.shape, generator=torch.Generator().manual_seed(2))
    given = signal.clone()
    expected, got = gradient(lambda v: one_by_one(net, v), x, signal), gradient(net.gradient_forward, x, signal)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * float(b.abs().max()))
    assert torch.equal(signal, given), "the signal is the caller's"
    assert expected[1].abs().max() > 1e-3


@needs_onednn
def test_the_bounds_themselves_carry_no_gradient():
    net = Layers(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU6()).requires_grad_(False)
    net[0].weight.fill_(1)
    x = torch.tensor([-1.0, 0.0, 1.0, 6.0, 7.0]).view(1, 1, 1, 5)
    out, slope = gradient(net.gradient_forward, x, torch.ones(1, 1, 1, 5))
    assert out.flatten().tolist() == [0, 0, 1, 6, 6]
    assert slope.flatten().tolist() == [0, 0, 1, 0, 0]


@needs_onednn
def test_a_chain_is_one_step_of_the_graph_and_ends_where_another_layer_stands(monkeypatch):
    net, seen = Layers(*layers(end=True), nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 2, 1)).requires_grad_(False), []
    own = fused._Chain.apply
    monkeypatch.setattr(fused._Chain, "apply", lambda x, stages: seen.append(len(stages)) or own(x, stages))
    x = pictures().requires_grad_(True)
    out = net.gradient_forward(x)
    assert seen == [5, 1]
    assert type(out.grad_fn).__name__ == "_ChainBackward"
    torch.testing.assert_close(out, one_by_one(net, x), rtol=1e-4, atol=1e-5)


@needs_onednn
def test_what_is_asked_with_the_layers_hooked_is_seen_by_the_hooks():
    """A hook on any layer, of any kind, sees what it would see otherwise; the other layers stay fused."""
    net, x = layers(end=True), pictures()
    signal = torch.ones_like(one_by_one(net, x))
    expected = gradient(lambda v: one_by_one(net, v), x, signal)
    for at, layer in enumerate(net):
        for kind in ("register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"):
            seen: list[int] = []
            hook = getattr(layer, kind)(lambda *_, at=at, seen=seen: seen.append(at))
            got = gradient(net.gradient_forward, x, signal)
            hook.remove()
            assert seen == [at]
            for a, b in zip(got, expected, strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * float(b.abs().max()))


def test_hooks_on_the_whole_and_a_forward_of_its_own_are_honoured():
    net, x = layers(end=True), pictures()
    seen: list[int] = []
    hook = net.register_forward_hook(lambda *_: seen.append(1))
    gradient_forward(net, x)
    hook.remove()
    gradient_forward(net, x)
    assert seen == [1]
    net.forward = lambda given: given
    assert gradient_forward(net, x) is x
    assert gradient_forward(lambda given: 2 * given, torch.ones(1)).item() == 2


@pytest.mark.parametrize("case", ["a trained weight", "float64", "autocast", "no gradient"])
def test_elsewhere_the_layers_are_called_as_usual(case, monkeypatch):
    monkeypatch.setattr(fused._Chain, "apply", lambda *_: pytest.fail("fused"))
    net, x = layers(end=True), pictures()
    if case == "a trained weight":
        net[3].weight.requires_grad_(True)
        net.gradient_forward(x).sum().backward()
        assert net[3].weight.grad.abs().max() > 0
    elif case == "float64":
        torch.testing.assert_close(net.double().gradient_forward(x.double()), one_by_one(net, x.double()))
    elif case == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            assert net.gradient_forward(x).dtype == torch.bfloat16
    else:
        with torch.no_grad():
            torch.testing.assert_close(net.gradient_forward(x), one_by_one(net, x), rtol=1e-4, atol=1e-5)


@needs_onednn
def test_a_second_derivative_is_refused_there_and_had_from_the_plain_forward():
    net, x = layers(end=True), pictures().requires_grad_(True)
    (first,) = torch.autograd.grad(net.gradient_forward(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
    (first,) = torch.autograd.grad(net(x).square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert second.abs().max() > 0


def test_odd_convolutions_are_left_alone():
    reflecting = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
    net = Layers(nn.Conv2d(3, 4, 3, padding="same"), nn.ReLU6(), reflecting, nn.ReLU6()).requires_grad_(False)
    x = pictures()
    for forward in (net.gradient_forward, torch.no_grad()(net)):
        torch.testing.assert_close(forward(x), one_by_one(net, x), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def lite0():
    return models.load("efficientnet_lite0", size=96)


@needs_onednn
def test_gradients_of_efficientnet_take_the_chains(lite0, monkeypatch):
    """Stem, 16 blocks and head; the model with a hook, and any function around it, have the same gradients."""
    seen, own = [], fused._Chain.apply
    monkeypatch.setattr(fused._Chain, "apply", lambda x, stages: seen.append(len(stages)) or own(x, stages))
    x = torch.rand((2, 3, 96, 96), generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([3, 920])
    quick = compute.input_gradient(lite0, x, targets)
    assert seen == [1, 2, *[3] * 15, 1]
    seen.clear()
    plain = compute.input_gradient(lambda given: lite0(given), x, targets)
    hook = lite0.register_forward_hook(lambda *_: None)
    hooked = compute.input_gradient(lite0, x, targets)
    hook.remove()
    assert seen == []
    torch.testing.assert_close(hooked, plain, rtol=0, atol=0)
    torch.testing.assert_close(quick, plain, rtol=0, atol=1e-4 * float(plain.abs().max()))
    hook = lite0.network.block3.register_forward_hook(lambda *_: None)
    torch.testing.assert_close(compute.input_gradient(lite0, x, targets), plain, rtol=0, atol=1e-4 * float(plain.abs().max()))
    hook.remove()
    assert len(seen) == 17

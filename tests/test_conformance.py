"""What every registered method must do, and broken twins that each check must catch."""

import functools

import pytest
import torch

from xai_lib import METHODS, compute, toys
from xai_lib.errors import InputError, ModelError
from xai_lib.models import cifar_nets

QUICK = {
    "anchors_image": {"segments": {"grid": {"rows": 2, "columns": 2}}, "draws": 20, "max_rows": 100},
    "integrated_gradients": {"steps": 4},
    "multi_baseline_integrated_gradients": {"steps": 2, "n_baselines": 3},
    "adversarial_gradient_integration": {"n_classes": 2, "max_iter": 3},
    "blur_integrated_gradients": {"steps": 4},
    "cam": {"layer": "features"},
    "credible_path_attribution": {"n_baselines": 2, "steps": 6, "max_iterations": 2},
    "deep_shap": {"n_baselines": 2},
    "expected_gradients": {"steps": 5},
    "gradient_shap": {"n_samples": 4, "sigma": 0.1},
    "grad_cam": {"layer": "features"},
    "guided_grad_cam": {"layer": "features"},
    "guided_integrated_gradients": {"steps": 6},
    "kernel_shap": {"segments": {"grid": {"rows": 2, "columns": 3}}, "n_samples": 20},
    "lime_image": {"segments": {"grid": {"rows": 2, "columns": 3}}, "n_samples": 20},
    "lime_tabular": {"n_samples": 20},
    "meaningful_perturbation": {"iterations": 4},
    "rise": {"n_masks": 8},
    "smoothgrad": {"n_samples": 3},
    "smoothgrad_squared": {"n_samples": 3},
    "superpixel_mean": {"base": {"integrated_gradients": {"steps": 4}}},
    "vargrad": {"n_samples": 3},
}
NET = toys.TinyNet()
RECTIFIED = cifar_nets.vgg(widths=(6, "pool", 8), classes=4).eval().requires_grad_(False)


def bound(name):
    return METHODS.bind(name, **QUICK.get(name, {}))


def net_for(method):
    """TinyNet, or a net of ReLU and global average pooling for methods that ask for rectifiers or a layer."""
    name = getattr(getattr(method, "func", method), "__name__", "")
    traits = METHODS[name].traits if name in METHODS else {}
    return RECTIFIED if traits.get("rectifier") or traits.get("layer") else NET


def same_shape(method, x, t):
    made = method(net_for(method), x, t)
    assert (made.shape, made.dtype, made.device) == (x.shape, x.dtype, x.device)
    assert not made.requires_grad
    assert torch.isfinite(made).all()


def batch_is_loop(method, x, t):
    net = net_for(method)
    alone = torch.cat([method(net, x[i : i + 1], t[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(method(net, x, t), alone, atol=1e-5, rtol=1e-4)


def order_free(method, x, t):
    order = torch.tensor([3, 0, 4, 2, 1])
    net = net_for(method)
    torch.testing.assert_close(method(net, x, t)[order], method(net, x[order], t[order]), atol=1e-5, rtol=1e-4)


def repeatable(method, x, t):
    net = net_for(method)
    assert torch.equal(method(net, x, t), method(net, x, t))


def leaves_no_trace(method, x, t):
    net = net_for(method)
    before, state, weights = x.clone(), torch.random.get_rng_state(), [p.clone() for p in net.parameters()]
    hooks = sum(len(m._forward_hooks) + len(m._backward_hooks) for m in net.modules())
    method(net, x, t)
    assert torch.equal(before, x)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(weights, net.parameters(), strict=True))
    assert hooks == sum(len(m._forward_hooks) + len(m._backward_hooks) for m in net.modules())
    assert not any(m.training for m in net.modules())


def depends_on_target(method, x, t):
    net = net_for(method)
    assert not torch.allclose(method(net, x, t), method(net, x, t + 1))


CHECKS = [same_shape, batch_is_loop, order_free, repeatable, leaves_no_trace]


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", METHODS)
def test_conformance(name, check, images, zeros):
    check(bound(name), images, zeros)


@pytest.mark.parametrize("name", [n for n in METHODS if METHODS[n].traits.get("gradient")])
def test_gradient_methods(name, images, zeros):
    depends_on_target(bound(name), images, zeros)
    assert not bound(name)(toys.constant(), images, zeros).any()
    with pytest.raises(ModelError, match="not differentiable"):
        bound(name)(toys.Formula(lambda x: x.detach().flatten(1).sum(1)), images, zeros)
    with pytest.raises(InputError):
        bound(name)(net_for(bound(name)), images, zeros + 4)


@pytest.mark.parametrize("name", [n for n in METHODS if "max_batch" in METHODS[n].parameters])
def test_max_batch_changes_nothing(name, images, zeros):
    net = net_for(bound(name))
    one, many = (METHODS.bind(name, **QUICK.get(name, {}), max_batch=k)(net, images, zeros) for k in (1, 32))
    torch.testing.assert_close(one, many, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_bad_input_and_training_mode_are_refused(name, images, zeros):
    with pytest.raises(InputError, match="NaN"):
        bound(name)(NET, images.where(images < 0.9, torch.nan), zeros)
    with pytest.raises(InputError, match="targets"):
        bound(name)(NET, images, zeros[:2])
    with pytest.raises(ModelError, match="training mode"):
        bound(name)(toys.TinyNet().train(), images, zeros)


@pytest.mark.parametrize("name", [n for n in METHODS if METHODS[n].traits.get("linear")])
def test_linear_in_the_output(name, images, zeros):
    """Attributions of f + 2 g are those of f plus twice those of g."""
    f, g = toys.TinyNet(seed=1), toys.TinyNet(seed=2)
    both = toys.Formula(lambda x: f(x) + 2 * g(x))
    expected = bound(name)(f, images, zeros) + 2 * bound(name)(g, images, zeros)
    torch.testing.assert_close(bound(name)(both, images, zeros), expected, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", [n for n in METHODS if METHODS[n].traits.get("complete")])
def test_complete_where_claimed(name, images, zeros):
    x = images.double()
    model = toys.TinyNet().double()
    made = METHODS.bind(name, steps=40)(model, x, zeros)
    difference = compute.scores(model, x, zeros) - compute.scores(model, torch.zeros_like(x), zeros)
    torch.testing.assert_close(made.flatten(1).sum(1), difference, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("name", [n for n in METHODS if METHODS[n].traits.get("positive")])
def test_positive_where_claimed(name, images, zeros):
    assert bound(name)(net_for(bound(name)), images, zeros).min() >= 0


@pytest.mark.parametrize("name", METHODS)
def test_documented(name):
    entry = METHODS[name]
    assert entry.label
    assert entry.cite
    assert len(entry.summary) > 20


def broken(change):
    def method(model, inputs, targets):
        return change(METHODS.bind("gradient")(model, inputs, targets), inputs)

    return functools.wraps(change)(method)


def in_place(gradient, inputs):
    inputs.add_(1).sub_(1.0).mul_(0.999)
    return gradient


BROKEN = [
    (same_shape, broken(lambda g, x: g.sum(1))),
    (same_shape, broken(lambda g, x: g.double())),
    (batch_is_loop, broken(lambda g, x: g / g.abs().max())),
    (order_free, broken(lambda g, x: g * torch.arange(len(g)).reshape(-1, 1, 1, 1))),
    (repeatable, broken(lambda g, x: g + torch.rand_like(g))),
    (leaves_no_trace, broken(in_place)),
    (leaves_no_trace, broken(lambda g, x: g + 0 * torch.rand_like(g))),
    (depends_on_target, METHODS.bind("random_attribution")),
]


@pytest.mark.parametrize(("check", "method"), BROKEN, ids=[f"{c.__name__}-{i}" for i, (c, _) in enumerate(BROKEN)])
def test_each_check_catches_a_broken_twin(check, method, images, zeros):
    state = torch.random.get_rng_state()
    with pytest.raises(AssertionError):
        check(method, images.clone(), zeros)
    torch.random.set_rng_state(state)

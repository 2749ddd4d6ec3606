"""DeepLIFT, DeepSHAP, GradientSHAP, LRP, deep Taylor: FIDELITY 3.8-3.10, 6.6, TV-3, TV-6, TV-7, TV-27, C5, D11, D13, D23."""

import copy
import functools
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from xai_lib import METHODS, compute, data, models, toys
from xai_lib.errors import ConfigError, InputError, UnsupportedModelError
from xai_lib.hooks import global_seed
from xai_lib.metrics.completeness import completeness_gap
from xai_lib.models.canonical import canonical

LRP_RULES = ("epsilon", "z_plus", "alpha2beta1", "composite")
ALL = [
    ("deeplift", {}), ("deep_shap", {"n_baselines": 3}), ("gradient_shap", {"n_samples": 3, "sigma": 0.2}),
    *(("lrp", {"rule": rule}) for rule in LRP_RULES), *(("deep_taylor", {"input_rule": rule}) for rule in ("zB", "w2")),
]  # fmt: skip
every = pytest.mark.parametrize(("name", "own"), ALL, ids=["-".join((n, *map(str, o.values()))) for n, o in ALL])


def run(name, model, x, target=0, **own):
    x = torch.as_tensor(x)
    return METHODS.bind(name, **own)(model, x, torch.full((len(x),), target))


def same(made, expected, atol=1e-9):
    """Equal up to rounding of the largest value."""
    assert expected.abs().max() > 0
    torch.testing.assert_close(made / expected.abs().max(), expected / expected.abs().max(), rtol=0, atol=atol)


def seeded(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def sequential(*layers, seed=0):
    with global_seed(seed):
        net = nn.Sequential(*layers).eval().requires_grad_(False).double()
        for module in net.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    return net


# --- known answers ------------------------------------------------------------------------------------------------------------

TV_3 = {  # point: deeplift, IG, lrp epsilon, GradientSHAP in expectation is IG
    (1.0, 1.0): ((6, -3), (6, -3), (6, -3)),
    (0.0, 3.0): ((0, -4), (0, -4), (0, -6)),
}


@pytest.mark.parametrize("x", TV_3)
def test_the_rows_of_tv_3(x):
    lifted, integrated, relevance = TV_3[x]
    assert run("deeplift", toys.two_relu(), [x])[0].tolist() == pytest.approx(lifted)
    assert run("integrated_gradients", toys.two_relu(), [x], steps=300, rule="middle")[0].tolist() == pytest.approx(
        integrated, abs=0.02
    )
    assert run("lrp", toys.two_relu(), [x])[0].tolist() == pytest.approx(relevance)
    shap = run("gradient_shap", toys.two_relu(), [x], n_samples=4000, baseline="black")
    assert shap[0].tolist() == pytest.approx(integrated, abs=0.1)


def test_tv_6():
    late = toys.Formula(lambda x: torch.relu(x.sum(1) - 1))
    assert run("deeplift", late, [[1.0, 1.0]]).tolist() == [[0.5, 0.5]]
    minimum = toys.Formula(lambda x: x[:, 0] - torch.relu(x[:, 0] - x[:, 1]))
    assert run("deeplift", minimum, [[3.0, 2.0]]).tolist() == [[0, 2]]


def tv_7():
    net = sequential(nn.Linear(2, 1, bias=False), nn.ReLU())
    net[0].weight.data = torch.tensor([[1.0, -2.0]]).double()
    return net


@pytest.mark.parametrize(
    ("name", "own", "expected"),
    [
        ("lrp", {"rule": "epsilon"}, (0.8, -0.2)),
        ("lrp", {"rule": "z_plus"}, (0.6, 0)),
        ("lrp", {"rule": "alpha2beta1"}, (1.2, -0.6)),
        ("deep_taylor", {"input_rule": "z_plus"}, (0.6, 0)),
        ("deep_taylor", {"input_rule": "w2"}, (0.12, 0.48)),
    ],
)
def test_tv_7(name, own, expected):
    x = torch.tensor([[0.8, 0.1]], dtype=torch.float64)
    assert run(name, tv_7(), x, **own)[0].tolist() == pytest.approx(expected, abs=1e-8)


def test_zb_by_hand():
    """w = (1, -2), x = (0.8, 0.1): x w - l w+ - h w- = (0.8, 1.8) of pixels in [0, 1], of y = 0.6 that is (0.1846, 0.4154)."""
    net = nn.Sequential(nn.Flatten(1), *tv_7()).eval()
    x = torch.tensor([0.8, 0.1], dtype=torch.float64).reshape(1, 1, 1, 2)
    expected = [0.6 * 0.8 / 2.6, 0.6 * 1.8 / 2.6]
    assert run("deep_taylor", net, x).flatten().tolist() == pytest.approx(expected, abs=1e-8)
    assert run("lrp", net, x, rule="composite").flatten().tolist() == pytest.approx(expected, abs=1e-8)


def test_tv_27_products_have_their_shapley_values_and_deep_shap_is_a_mean():
    f = toys.Formula(lambda x: x[:, 0] * x[:, 1] + x[:, 2])
    assert run("deeplift", f, [[2.0, 3.0, 4.0]]).tolist() == [[3, 3, 4]]
    late = toys.Formula(lambda x: torch.relu(x.sum(1) - 1))
    waiting = [0.0, 1.0]
    assert run("deep_shap", late, [[1.0, 1.0]], baseline=lambda x: x * 0 + waiting.pop(0), n_baselines=2).tolist() == [
        [0.25, 0.25]
    ]
    assert waiting == []


@pytest.mark.parametrize(
    "act", [F.relu6, F.gelu, F.silu, F.softplus, torch.tanh, torch.sigmoid, lambda z: z * z.sigmoid(), lambda z: z**2]
)
def test_one_activation_has_the_quotient_of_differences(act):
    """f = a(3 x) - a(x - 1): each term contributes its own difference."""
    f = toys.Formula(lambda x: (act(3 * x) - act(x - 1)).flatten(1).sum(1))
    x = torch.tensor([[-2.0, -0.1, 0.0, 0.3, 1.9, 2.5, 9.0]]).double()
    zero = torch.zeros_like(x)
    expected = act(3 * x) - act(zero) - act(x - 1) + act(zero - 1)
    torch.testing.assert_close(run("deeplift", f, x), expected, rtol=1e-10, atol=1e-10)


def test_where_nothing_differs_the_multiplier_is_the_derivative():
    """h = relu(x1 - x2) with x1 - x2 = 1 for input and baseline: each moved by 2, the contributions cancel."""
    f = toys.Formula(lambda x: torch.relu(x[:, 0] - x[:, 1]))
    made = run("deeplift", f, [[3.0, 2.0]], baseline=lambda x: torch.tensor([[1.0, 0.0]]))
    assert made.tolist() == [[2, -2]]


def test_a_pool_gives_what_it_gained_and_what_it_lost_to_two_places():
    """From (4, 1) to (2, 7): the maximum moved from 4 to 7, three at the second place; and back it lost three at the first."""
    f = toys.Formula(lambda x: F.max_pool2d(x, (1, 2)).flatten(1).sum(1))
    a, b = (torch.tensor(v).reshape(1, 1, 1, 2) for v in ((2.0, 7.0), (4.0, 1.0)))
    assert run("deeplift", f, a, baseline=lambda x: b).flatten().tolist() == [0, 3]
    assert run("deeplift", f, b, baseline=lambda x: a).flatten().tolist() == [0, -3]


def test_what_a_pool_lost_from_a_level_window_goes_to_the_maximum_that_is_left():
    f = toys.Formula(lambda x: F.max_pool2d(x, (1, 2)).flatten(1).sum(1))
    made = run("deeplift", f, torch.tensor([-5.0, -1.0]).reshape(1, 1, 1, 2))
    assert made.flatten().tolist() == [0, -1]


def test_epsilon_keeps_its_part_on_either_side_of_zero():
    """w = (1, -3), x = (1, 1): z = -2 hands on -2 / -2.5 of R; for -w it is the same with another sign."""
    for sign in (1.0, -1.0):
        net = sequential(nn.Linear(2, 1, bias=False))
        net[0].weight.data = torch.tensor([[sign, -3 * sign]]).double()
        made = run("lrp", net, torch.ones(1, 2).double(), epsilon=0.5)
        assert made[0].tolist() == pytest.approx([0.8 * sign, -2.4 * sign])


def test_overlapping_windows_add_up():
    f = toys.Formula(lambda x: F.max_pool2d(x, 3, 1).flatten(1).sum(1))
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 1, 1] = 1.0
    assert torch.equal(run("deeplift", f, x), 4 * x)


# --- slow twins ---------------------------------------------------------------------------------------------------------------


def dense_shares(x, weight, bias, relevance, rule):
    """The formulas of `lrp`, number by number."""
    out = [0.0] * len(x)
    for j, row in enumerate(weight):
        z = [xi * wi for xi, wi in zip(x, row, strict=True)]
        for i, zi in enumerate(z):
            if rule == "epsilon":
                out[i] += relevance[j] * zi / (sum(z) + bias[j])
                continue
            high = sum(max(v, 0) for v in z) + max(bias[j], 0)
            low = sum(min(v, 0) for v in z) + min(bias[j], 0)
            alpha = 2 if rule == "alpha2beta1" else 1
            out[i] += alpha * relevance[j] * max(zi, 0) / high if high else 0
            out[i] -= (alpha - 1) * relevance[j] * min(zi, 0) / low if low else 0
    return out


@pytest.mark.parametrize("rule", ["epsilon", "z_plus", "alpha2beta1"])
def test_dense_layers_equal_loops_also_for_negative_inputs(rule):
    net = sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU6(), nn.Linear(4, 3))
    x = 4 * seeded(1, 5).double() - 2
    hidden = [x[0], *(net[: k + 1](x)[0] for k in (1, 3))]
    relevance = [0.0, float(net(x)[0, 1]), 0.0]
    for layer, values in ((4, hidden[2]), (2, hidden[1]), (0, hidden[0])):
        relevance = dense_shares(values.tolist(), net[layer].weight.tolist(), net[layer].bias.tolist(), relevance, rule)
    same(run("lrp", net, x, 1, rule=rule, epsilon=1e-14)[0], torch.tensor(relevance, dtype=torch.float64))


def test_a_convolution_is_the_dense_layer_of_its_matrix():
    conv = nn.Conv2d(2, 3, 3, padding=1, stride=2)
    net = sequential(conv, nn.ReLU(), nn.Flatten(1), nn.Linear(27, 2))
    x = seeded(2, 2, 6, 6).double()
    dense = copy.deepcopy(net)
    eye = torch.eye(72).double().reshape(72, 2, 6, 6)
    layer = nn.Linear(72, 27).double()
    bias = conv(torch.zeros(1, 2, 6, 6).double())
    layer.weight.data, layer.bias.data = (conv(eye) - bias).flatten(1).T, bias.flatten()
    dense = nn.Sequential(nn.Flatten(1), layer, nn.ReLU(), net[3]).eval().requires_grad_(False)
    for rule in ("epsilon", "z_plus", "alpha2beta1"):
        same(run("lrp", net, x, 1, rule=rule), run("lrp", dense, x, 1, rule=rule))
    for rule in ("zB", "w2"):
        same(run("deep_taylor", net, x, 1, input_rule=rule), run("deep_taylor", dense, x, 1, input_rule=rule))


def lifted_by_hand(net, x, start):
    """Multipliers of a net of linear layers and activations, from its matrices."""
    now, then, kept = x, start, []
    for layer in net:
        kept.append((layer, now, then))
        now, then = layer(now), layer(then)
    multiplier = torch.ones(1, 1).double()
    for layer, a, b in reversed(kept):
        multiplier = multiplier @ layer.weight if isinstance(layer, nn.Linear) else multiplier * (layer(a) - layer(b)) / (a - b)
    return multiplier * (x - start)


def test_deeplift_equals_the_product_of_matrices():
    net = sequential(nn.Linear(5, 6), nn.ReLU6(), nn.Linear(6, 4), nn.GELU(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1))
    x, start = 60 * seeded(1, 5).double() - 15, seeded(1, 5, seed=1).double()
    assert float(net[0](x).max()) > 6
    same(run("deeplift", net, x, baseline=lambda x: start), lifted_by_hand(net, x, start))


# --- equalities ---------------------------------------------------------------------------------------------------------------

RELU_NETS = ("mnist_cnn", "cifar_resnet", "cifar_densenet", "cifar_vgg")


@functools.cache
def loaded(name):
    net = models.load(name, precision="float64")
    return net, seeded(2, *net.input_shape).double()


@pytest.mark.parametrize("name", RELU_NETS)
def test_epsilon_relevance_is_gradient_x_input_on_relu_nets_with_biases(name):
    net, x = loaded(name)
    same(run("lrp", net, x, 1, epsilon=1e-14), run("input_x_gradient", net, x, 1), atol=1e-6)


@pytest.mark.parametrize("name", RELU_NETS)
@pytest.mark.parametrize("baseline", ["black", "uniform"])
def test_deeplift_is_complete_on_residual_dense_and_pooling_nets(name, baseline):
    net, x = loaded(name)
    t = net(x).argmax(1)
    made = METHODS.bind("deeplift", baseline=baseline, seed=3)(net, x, t)
    assert completeness_gap(net, x, t, made, baseline=baseline, seed=3, relative=True).max() < 1e-9
    assert completeness_gap(net, x, t, 1.01 * made, baseline=baseline, seed=3, relative=True).min() > 0.005


class Copy(nn.Module):
    """A tensor of its own: Captum's hooks of two activations fall into each other's way on a tensor that they share."""

    def forward(self, z):
        return 1 * z


def with_copies(net, kind=nn.MaxPool2d):
    net = copy.deepcopy(net)
    for name, module in list(net.named_modules()):
        if isinstance(module, kind):
            parent, _, own = name.rpartition(".")
            setattr(net.get_submodule(parent), own, nn.Sequential(Copy(), module).eval())
    return net


@pytest.mark.parametrize("name", RELU_NETS)
def test_captum_s_deeplift_agrees_on_relu_modules_apart_from_pools_whose_windows_do_not_overlap(name):
    net, x = loaded(name)
    start = seeded(*x.shape, seed=1).double()
    same(run("deeplift", net, x, 1, baseline=lambda _: start), captum_deeplift(with_copies(net), x, 1, start))


def test_deep_shap_is_complete_for_the_mean_of_its_baselines_and_equals_deeplift_for_one():
    net, x = loaded("mnist_cnn")
    t = net(x).argmax(1)
    made = METHODS.bind("deep_shap", n_baselines=4, seed=5)(net, x, t)
    assert completeness_gap(net, x, t, made, n_baselines=4, baseline="uniform", seed=5, relative=True).max() < 1e-9
    assert completeness_gap(net, x, t, made, n_baselines=3, baseline="uniform", seed=5, relative=True).min() > 1e-4
    one = METHODS.bind("deep_shap", n_baselines=1, seed=5)(net, x, t)
    assert torch.equal(one, METHODS.bind("deeplift", baseline="uniform", seed=5)(net, x, t))
    assert torch.equal(run("deep_shap", net, x, n_baselines=1, baseline="black"), run("deeplift", net, x))


class Residual(nn.Module):
    """ReLU6 shared by three calls, one sum, one overlapping pool; or distinct modules in their place."""

    def __init__(self, shared):
        super().__init__()
        acts = [nn.ReLU6(inplace=True)] * 3 if shared else [nn.ReLU6() for _ in range(3)]
        self.first, self.second, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.act0, self.act1, self.act2 = acts
        self.pool, self.fc = nn.MaxPool2d(3, 2, 1), nn.Linear(6, 3)

    def forward(self, x):
        hidden = self.act0(self.first(x))
        hidden = self.pool(self.act1(self.norm(self.second(hidden)) + hidden))
        return self.fc(self.act2(2 * hidden - 1).mean(dim=(2, 3)))


@functools.cache
def residual(shared):
    with global_seed(1):
        net = Residual(shared).double().eval().requires_grad_(False)
        net.norm.running_mean.uniform_(-1, 1)
        net.norm.running_var.uniform_(0.5, 2)
        net.norm.bias.uniform_(-1, 1)
        net.first.weight.mul_(25)
        net.fc.bias.abs_()
        net.fc.weight[0].abs_()
    return net


@every
def test_shared_modules_in_place_and_the_unrolled_twin_have_the_same_maps(name, own):
    x = seeded(2, 3, 8, 8).double()
    whole, unrolled = residual(True), residual(False)
    assert (whole.act0(whole.first(x)) == 6).any()
    made = run(name, whole, x, **own)
    same(made, run(name, unrolled, x, **own))
    same(made, run(name, canonical(whole, x), x, **own))
    if "lift" in name:
        gap = completeness_gap(whole, x, torch.zeros(2, dtype=torch.int64), made, relative=True)
        assert gap.max() < 1e-9


def in_place(net, x):
    hidden = net[0](x).mul_(-2)
    hidden = 1 * torch.relu_(net[1](hidden))
    hidden += net[2](x)
    hidden.sub_(net[3](hidden.clone())).div_(3)
    return net[4](torch.zeros_like(hidden).add_(hidden))


def out_of_place(net, x):
    hidden = net[0](x) * -2
    hidden = torch.relu(net[1](hidden))
    hidden = hidden + net[2](x)
    hidden = (hidden - net[3](hidden)) / 3
    return net[4](torch.zeros_like(hidden) + hidden)


@pytest.mark.parametrize(("name", "own"), [("deeplift", {}), *(("lrp", {"rule": rule}) for rule in LRP_RULES[:3])])
def test_sums_and_products_in_place_have_the_maps_of_their_twins(name, own):
    net = sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 2))
    net[1].running_mean.fill_(0.3)
    net[1].bias.fill_(0.2)
    x = seeded(3, 4).double()
    expected = run(name, toys.Formula(lambda x: out_of_place(net, x)), x, **own)
    same(run(name, toys.Formula(lambda x: in_place(net, x)), x, **own), expected)


def folded(net):
    """The residual net with BatchNorm folded into its convolution by hand."""
    net = copy.deepcopy(net)
    scale = net.norm.weight / (net.norm.running_var + net.norm.eps).sqrt()
    net.second.bias.data = (net.second.bias - net.norm.running_mean) * scale + net.norm.bias
    net.second.weight.data = net.second.weight * scale.reshape(-1, 1, 1, 1)
    net.norm = nn.Identity()
    return net.eval()


@pytest.mark.parametrize(("name", "own"), [(n, o) for n, o in ALL if n in ("lrp", "deep_taylor")])
def test_batch_norm_belongs_to_the_layer_before_it(name, own):
    x = seeded(2, 3, 8, 8).double()
    same(run(name, residual(False), x, **own), run(name, folded(residual(False)), x, **own), atol=1e-7)


def test_the_normalisation_of_pixels_changes_nothing_that_folding_it_would_not():
    """zB and w2 of (x - m) / s before a convolution are those of the convolution with weights w / s on pixels."""
    net = sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(1), nn.Linear(48, 2))
    x = seeded(2, 1, 6, 6).double()
    normal = models.Normalise([0.5], [0.25]).double()
    wrapped = nn.Sequential(normal, net).eval()
    inside = copy.deepcopy(net)
    inside[0].weight.data = net[0].weight / 0.25
    inside[0].bias.data = net[0].bias - (net[0].weight * 0.5 / 0.25).sum(dim=(1, 2, 3))
    for own in ({"input_rule": "zB"}, {"input_rule": "w2"}):
        same(run("deep_taylor", wrapped, x, 1, **own), run("deep_taylor", inside, x, 1, **own))


def test_relevance_is_kept_where_no_bias_takes_any():
    with global_seed(2):
        net = nn.Sequential(
            nn.Conv2d(3, 5, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 6, 2, bias=False), nn.ReLU(),
            nn.AvgPool2d(2), nn.Flatten(1), nn.Linear(6, 3, bias=False),
        )  # fmt: skip
        net.double().eval().requires_grad_(False)
        net[7].weight[1].abs_()
    x = seeded(3, 3, 8, 8).double()
    f = net(x)[:, 1]
    assert f.min() > 0.01
    for name, own in ALL[3:]:
        made = run(name, net, x, 1, **own)
        if own.get("rule") != "alpha2beta1":  # without negative parts in some layer it keeps more than it got
            torch.testing.assert_close(made.flatten(1).sum(1), f, rtol=1e-5, atol=0)
        assert (name == "lrp" and own["rule"] in ("epsilon", "alpha2beta1")) == bool(made.min() < -1e-9)
    assert not run("deep_taylor", toys.Formula(lambda x: net(x) * 0 - net(x)), x, 1).any()


def test_sums_are_shared_by_the_terms_that_have_their_sign():
    f = toys.Formula(lambda x: x[:, 0] + x[:, 1] - x[:, 2])
    x = [[3.0, 1.0, -4.0], [3.0, -1.0, 1.0], [-3.0, -1.0, 4.0]]
    made = run("lrp", f, x, rule="z_plus")
    assert torch.allclose(made, torch.tensor([[3.0, 1.0, 4.0], [1.0, 0.0, 0.0], [-3.0, -1.0, -4.0]]))
    assert torch.allclose(run("lrp", f, x), torch.tensor([[3.0, 1.0, 4.0], [3.0, -1.0, -1.0], [-3.0, -1.0, -4.0]]))


# --- GradientSHAP -------------------------------------------------------------------------------------------------------------


def test_gradient_shap_without_noise_is_expected_gradients(images, zeros):
    given = (toys.TinyNet(), images, zeros)
    made = METHODS.bind("gradient_shap", n_samples=7, seed=2)(*given)
    assert torch.equal(made, METHODS.bind("expected_gradients", steps=7, seed=2)(*given))
    noisy = METHODS.bind("gradient_shap", n_samples=7, seed=2, sigma=0.1)(*given)
    assert 1e-3 < ((noisy - made).abs().max() / made.abs().max()) < 1
    assert torch.equal(noisy, METHODS.bind("gradient_shap", n_samples=7, seed=2, sigma=0.1)(*given))


def test_gradient_shap_is_complete_in_expectation():
    """f = x^2, x = 1, baseline 0: E (1 + e)^2 = 1 + sigma^2; a fraction of the range 2 of the row (1, -1)."""
    made = run("gradient_shap", toys.square(), [[1.0, -1.0]], baseline="black", n_samples=6000, noise_fraction=0.25)
    assert made[0].tolist() == pytest.approx([1.25, 1.25], abs=0.06)
    still = run("gradient_shap", toys.square(), [[1.0, -1.0]], baseline="black", n_samples=6000)
    assert still[0].tolist() == pytest.approx([1, 1], abs=0.03)


# --- rows, company, refusals --------------------------------------------------------------------------------------------------


@every
def test_no_pass_has_more_than_max_batch_rows(name, own, spy):
    x = seeded(5, 3, 8, 8).double()
    model = spy(residual(True))
    METHODS.bind(name, max_batch=2, **own)(model, x, torch.zeros(5, dtype=torch.int64))
    rows = {"deeplift": 10, "deep_shap": 30, "gradient_shap": 15}.get(name, 5)
    extra = [1, 1] if own.get("rule") == "composite" or name == "deep_taylor" else []  # the darkest and the brightest image
    assert max(model.calls) <= 2
    assert sum(model.calls) == rows + sum(extra)


@every
def test_an_image_has_the_same_map_in_any_company(name, own):
    x = seeded(5, 3, 8, 8).double()
    whole = run(name, residual(True), x, **own)
    for i in (0, 4):
        same(run(name, residual(True), x[i : i + 1], **own), whole[i : i + 1])


class Odd(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.odd, self.fc = forward, nn.Linear(4, 2)
        self.eval()

    def forward(self, x):
        return self.fc(self.odd(x.flatten(1)))


REFUSED = {
    "sigmoid": (torch.sigmoid, (), r"lrp has no backward rule for Sigmoid \(1x\).*use integrated_gradients"),
    "leaky": (F.leaky_relu, (), r"LeakyRelu \(1x\)"),
    "softmax": (lambda z: z.softmax(1), r"deeplift has no backward rule for Softmax \(1x\)", r"Softmax \(1x\)"),
    "layer norm": (lambda z: F.layer_norm(z, (4,)), r"NativeLayerNorm \(1x\)", r"NativeLayerNorm \(1x\)"),
    "where": (lambda z: torch.where(z > 0, z, 0), r"Where \(1x\)", r"Where \(1x\)"),
    "largest value": (lambda z: z / z.max(), "Max", "Max"),
    "largest of two": (lambda z: torch.maximum(z, 1 - z), r"Maximum \(1x\)", r"Maximum \(1x\)"),
    "attention": (lambda z: (z[:, :, None] @ z[:, None, :])[:, 0], r"Bmm of two activations", r"Bmm of two activations"),
    "product": (lambda z: z * (1 - z), (), r"Mul of two activations"),
    "quotient": (lambda z: z / (2 + z), r"Div of two activations", r"Div of two activations"),
    "inverse": (lambda z: 1 / (2 + z), (), "Reciprocal"),
    "hidden layer": (lambda z: torch.einsum("nd,kd->nk", z, torch.ones(4, 4)), (), "Bmm|Mm"),
    "mask": (lambda z: z * (z > 0.5).to(z), "factor or bound of mul changes with the input", ()),
    "decision": (lambda z: F.relu(z) if float(z.detach().sum()) > 0 else F.relu(F.relu(z)), "makes other calls", ()),
    "normalised by the batch": (
        lambda z: F.batch_norm(z, None, None, training=True),
        "NativeBatchNorm",
        "batch_norm with the statistics of the batch",
    ),
    "group norm": (lambda z: F.group_norm(z, 2), "NativeGroupNorm", "NativeGroupNorm"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_has_no_rule_is_refused_by_name(kind):
    forward, lifted, relevance = REFUSED[kind]
    x = seeded(2, 1, 2, 2)
    for name, message in (("deeplift", lifted), ("lrp", relevance), ("deep_taylor", relevance)):
        if message:
            with pytest.raises(UnsupportedModelError, match=message.replace("lrp", name)):
                run(name, Odd(forward), x)
        else:
            assert torch.isfinite(run(name, Odd(forward), x)).all()


def test_an_input_that_changes_after_a_layer_used_it_is_refused():
    layer = nn.Linear(4, 4)

    def forward(z):
        z = F.relu(z)
        out = layer(z)
        z.add_(1)
        return out

    with pytest.raises(UnsupportedModelError, match="changes the input of linear in place"):
        run("lrp", Odd(forward), seeded(2, 1, 2, 2))


@pytest.mark.parametrize(
    ("name", "own", "error", "message"),
    [
        ("lrp", {"rule": "epsilom"}, ConfigError, "did you mean 'epsilon'"),
        ("lrp", {"epsilon": 0}, ConfigError, "expected a number above 0"),
        ("deep_taylor", {"input_rule": "w3"}, ConfigError, "did you mean 'w2'"),
        ("deep_taylor", {}, InputError, r"zB is for pixels.*input_rule='w2'"),
        ("lrp", {"rule": "composite"}, InputError, "zB is for pixels"),
        ("deep_shap", {"baseline": "black"}, ConfigError, "same image every time"),
        ("deep_shap", {"n_baselines": 0}, ConfigError, "n_baselines=0"),
        ("gradient_shap", {"n_samples": 1.5}, ConfigError, r"n_samples=1\.5"),
        ("gradient_shap", {"sigma": -1.0}, ConfigError, r"sigma=-1\.0"),
    ],
)
def test_bad_parameters_are_refused(name, own, error, message):
    with pytest.raises(error, match=message):
        run(name, tv_7(), torch.ones(1, 2).double(), **own)


# --- EfficientNet-Lite and Captum ---------------------------------------------------------------------------------------------


def captum_deeplift(net, x, target, start=None):
    from captum.attr import DeepLift

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it sets hooks
        return DeepLift(copy.deepcopy(net)).attribute(x.clone(), x * 0 if start is None else start, target=target).detach()


def captum_gap(net, x, target=0):
    """|sum - (f(x) - f(0))| / |f(x) - f(0)| of Captum's DeepLift."""
    t = torch.full((len(x),), target)
    return completeness_gap(net, x, t, captum_deeplift(net, x, target), relative=True).max()


@functools.cache
def lite(size=48):
    photo = F.interpolate(data.load("photos", n=1).inputs, size=(size, size), mode="area")
    return models.load("efficientnet_lite0", size=size), photo


@pytest.mark.slow
@pytest.mark.parametrize("baseline", ["black", "uniform", "blur"])
def test_deeplift_is_complete_on_efficientnet_lite_in_float32(baseline):
    net, x = lite()
    t = compute.logits(net, x).argmax(1)
    made = METHODS.bind("deeplift", baseline=baseline)(net, x, t)
    assert completeness_gap(net, x, t, made, baseline=baseline, relative=True).max() < 1e-3


class TwoRelu(nn.Module):
    """min(max(z, 0), 6) of two ReLU modules, which Captum knows."""

    def __init__(self):
        super().__init__()
        self.low, self.high = nn.ReLU(), nn.ReLU()

    def forward(self, z):
        return self.low(1 * z) - self.high(z - 6)


@pytest.mark.slow
def test_captum_agrees_on_efficientnet_lite_once_every_relu6_is_two_relu():
    net, x = lite()
    net, x = copy.deepcopy(net).double(), x.double()
    twin = canonical(net, x)
    for name, module in list(twin.named_modules()):
        if isinstance(module, nn.ReLU6):
            parent, _, own = name.rpartition(".")
            setattr(twin.get_submodule(parent), own, TwoRelu())
    target = int(net(x).argmax())
    same(run("deeplift", net, x, target), captum_deeplift(twin, x, target), atol=1e-7)


@pytest.mark.slow
def test_relevance_of_efficientnet_lite_is_finite_and_differs_between_rules():
    net, x = lite()
    t = compute.logits(net, x).argmax(1)
    made = [METHODS.bind(name, **own)(net, x, t) for name, own in ALL if name in ("lrp", "deep_taylor")]
    for i, one in enumerate(made):
        assert torch.isfinite(one).all()
        assert one.abs().max() > 0
        for other in made[:i]:
            assert torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1] < 0.999


class Silent(nn.Module):
    def __init__(self, forward, *layers):
        super().__init__()
        with global_seed(0):
            self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 2)
        self.layers, self.way = nn.ModuleList(layers), forward
        self.first.weight.data *= 8
        self.requires_grad_(False).eval()

    def forward(self, x):
        return self.last(self.way(self, self.first(x)))


X6 = seeded(3, 6)


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="D11: Captum's DeepLift takes the plain gradient at ReLU6")
def test_captum_deeplift_is_complete_for_relu6():
    assert captum_gap(Silent(lambda net, z: net.layers[0](z), nn.ReLU6()), X6) < 1e-3


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="D11: Captum's DeepLift does not see functional ReLU")
def test_captum_deeplift_is_complete_for_a_functional_relu():
    assert captum_gap(Silent(lambda net, z: F.relu(z)), X6) < 1e-3


@pytest.mark.xfail(strict=True, raises=(AssertionError, RuntimeError), reason="C5: Captum's DeepLift and a module called twice")
def test_captum_deeplift_is_complete_for_a_shared_relu():
    assert (
        captum_gap(Silent(lambda net, z: net.layers[0](net.layers[1](net.layers[0](z)) - 1), nn.ReLU(), nn.Linear(8, 8)), X6)
        < 1e-3
    )


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="Captum's DeepLift keeps one of the windows that share a maximum")
def test_captum_deeplift_is_complete_for_overlapping_windows():
    net = sequential(nn.MaxPool2d(3, 1), nn.Flatten(1), nn.Linear(4, 1, bias=False))
    net[2].weight.data.fill_(1)
    x = torch.zeros(1, 1, 4, 4).double()
    x[0, 0, 1, 1] = 1.0
    assert captum_gap(net, x) < 1e-3


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="Captum's DeepLift drops the rule of a pool right after a ReLU")
def test_captum_deeplift_is_complete_for_a_vgg():
    net, x = loaded("cifar_vgg")
    assert captum_gap(net, x[:1]) < 1e-3


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="Captum's DeepLift drops what else reads the input of a ReLU")
def test_captum_deeplift_is_complete_where_two_layers_read_one_tensor():
    assert captum_gap(Silent(lambda net, z: net.layers[0](z) - net.layers[1](z), nn.ReLU(), nn.Linear(8, 8)), X6) < 1e-3


def test_both_are_complete_with_a_tensor_for_each():
    way = lambda net, z: net.layers[0](1 * z) - net.layers[1](z)  # noqa: E731
    assert captum_gap(Silent(way, nn.ReLU(), nn.Linear(8, 8)), X6) < 1e-3
    assert captum_gap(with_copies(loaded("cifar_vgg")[0]), loaded("cifar_vgg")[1]) < 1e-3


def captum_lrp(net, x, target=0):
    from captum.attr import LRP

    return LRP(copy.deepcopy(net)).attribute(x.clone().requires_grad_(True), target=target).detach()


@pytest.mark.xfail(strict=True, raises=TypeError, reason="D23: Captum's LRP has no rule for ZeroPad2d")
def test_captum_lrp_takes_zero_pad_2d():
    captum_lrp(sequential(nn.ZeroPad2d(1), nn.Conv2d(1, 2, 6)), seeded(1, 1, 4, 4).double())


class Sum(nn.Module):
    def __init__(self):
        super().__init__()
        with global_seed(0):
            self.fc, self.act, self.last = nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2, bias=False)
        self.requires_grad_(False).eval()

    def forward(self, x):
        return self.last(self.act(self.fc(x)) + x)


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="Captum's LRP counts both terms of a functional sum in full")
def test_captum_lrp_of_a_functional_sum_is_gradient_x_input():
    torch.testing.assert_close(captum_lrp(Sum(), X6), run("input_x_gradient", Sum(), X6), rtol=1e-4, atol=1e-5)


def test_lrp_of_the_same_sum_is():
    torch.testing.assert_close(run("lrp", Sum(), X6), run("input_x_gradient", Sum(), X6), rtol=1e-4, atol=1e-5)


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        with global_seed(0):
            self.conv, self.act, self.pool, self.fc = nn.Conv2d(1, 3, 3), nn.ReLU(), nn.AvgPool2d(4), nn.Linear(3, 2)
        self.double().eval().requires_grad_(False)
        self.fc.weight[1].abs_()

    def forward(self, x):
        return self.fc(self.pool(self.act(self.conv(x))).flatten(1))


@pytest.mark.parametrize("rule", ["epsilon", "z_plus"])
def test_captum_s_lrp_agrees_on_convolutions_relu_and_linear_layers(rule):
    """Pixels of at least 0; under alpha 1, beta 0 biases too, of which it keeps the negative ones in the denominator."""
    from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule

    x, net = seeded(2, 1, 6, 6).double(), Plain()
    if rule == "z_plus":
        net.conv.bias.abs_(), net.fc.bias.abs_()
    ours = run("lrp", net, x, 1, rule=rule)
    kind = {"epsilon": EpsilonRule, "z_plus": Alpha1_Beta0_Rule}[rule]
    net.conv.rule, net.fc.rule = kind(), kind()
    same(ours, captum_lrp(net, x, 1), atol=1e-6)


def test_captum_s_deep_taylor_agrees_with_z_plus_at_the_pixels():
    from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule

    x, net = seeded(2, 1, 6, 6).double(), Plain()
    assert net(x)[:, 1].min() > 0
    ours = run("deep_taylor", net, x, 1, input_rule="z_plus")
    net.conv.rule, net.fc.rule = Alpha1_Beta0_Rule(set_bias_to_zero=True), Alpha1_Beta0_Rule(set_bias_to_zero=True)
    same(ours, captum_lrp(net, x, 1), atol=1e-6)

"""CAM, Grad-CAM, Guided Grad-CAM: FIDELITY 3.5 to 3.7, TV-4, TV-5."""

import warnings

import pytest
import torch
from torch import nn

from xai_lib import METHODS, data, maps, models, toys
from xai_lib.errors import ConfigError, InputError, ModelError, UnsupportedModelError
from xai_lib.hooks import global_seed
from xai_lib.methods.cam import cam_maps, grad_cam_maps
from xai_lib.models import cifar_nets

NAMES = ("cam", "grad_cam", "guided_grad_cam")
X = torch.tensor([[[[1.0, 2.0], [3.0, -4.0]]]])


def run(name, model, x, target=0, **own):
    return METHODS.bind(name, **own)(model, x, torch.full((len(x),), target))


def net(classes=4, seed=0):
    return cifar_nets.vgg(widths=(6, "pool", 8), classes=classes, seed=seed).eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("target", "cam", "signed", "positive"),
    [
        (0, [[1, 2], [3, -4]], [[0.25, 0.5], [0.75, -1]], [[0.25, 0.5], [0.75, 0]]),
        (1, [[-3, -6], [-9, 12]], [[-0.75, -1.5], [-2.25, 3]], [[0, 0], [0, 3]]),
    ],
)
def test_tv_4(target, cam, signed, positive):
    model = toys.GapNet()
    assert run("cam", model, X, target, layer="conv")[0, 0].tolist() == cam
    assert run("grad_cam", model, X, target, layer="conv", relu=False)[0, 0].tolist() == signed
    assert run("grad_cam", model, X, target, layer="conv")[0, 0].tolist() == positive


def test_tv_5_the_product_of_guided_backpropagation_and_the_map():
    """GapNet has no rectifier: its guided gradient is that of the logit, 1/4 for class 0 and -3/4 for class 1."""
    model = toys.GapNet()
    assert run("guided_grad_cam", model, X, layer="conv")[0, 0].tolist() == [[0.0625, 0.125], [0.1875, 0]]
    assert run("guided_grad_cam", model, X, 1, layer="conv")[0, 0].tolist() == [[0, 0], [0, -2.25]]


def test_guided_grad_cam_is_zero_where_the_map_is_and_elsewhere_the_product(images):
    model = net()
    made = run("guided_grad_cam", model, images, 2, layer="features")
    guided, weight = run("guided_backprop", model, images, 2), run("grad_cam", model, images, 2, layer="features").sum(1)
    torch.testing.assert_close(made, guided * weight[:, None])
    assert not made[(weight == 0)[:, None].expand_as(made)].any()
    assert made.abs().max() > 1e-6


def test_upsampling_is_bilinear_between_the_centres_of_squares():
    """Maps of 2 pixels on 4: (a, 3a/4 + b/4, a/4 + 3b/4, b)."""
    model = nn.Sequential(nn.AvgPool2d(2), toys.GapNet())
    model.eval()
    x = X.repeat_interleave(2, 2).repeat_interleave(2, 3)
    made = run("cam", model, x, layer="1.conv")[0, 0]
    assert made[0].tolist() == [1, 1.25, 1.75, 2]
    assert made[:, 0].tolist() == [1, 1.5, 2.5, 3]
    cut = run("grad_cam", model, x, layer="1.conv")[0, 0]  # ReLU first: (.75, 0), then upsampled
    assert cut[3].tolist() == [0.75, 0.5625, 0.1875, 0]


@pytest.mark.parametrize("name", ["cam", "grad_cam"])
def test_the_channels_sum_to_the_map(name, images):
    made = run(name, net(), images, layer="features")
    assert made.shape == images.shape
    assert torch.equal(made[:, 0], made[:, 2])
    coarse = {"cam": cam_maps, "grad_cam": grad_cam_maps}[name](net(), images, torch.zeros(5).long(), layer="features")
    assert coarse.shape == (5, 5, 5)
    whole = nn.functional.interpolate(coarse[:, None], size=(10, 10), mode="bilinear")[:, 0]
    torch.testing.assert_close(maps.reduce(made, "sum"), whole)
    assert whole.abs().max() > 1e-3


def photo(size):
    return nn.functional.interpolate(data.load("photos", n=1).inputs, size=(size, size), mode="area").double()


@pytest.mark.parametrize("name", ["efficientnet_lite0", "cifar_resnet", "cifar_densenet", "cifar_vgg"])
def test_grad_cam_is_relu_of_cam_over_z_on_nets_that_average(name):
    size = {"size": 96} if name == "efficientnet_lite0" else {}
    model = models.load(name, precision="float64", **size)
    x = photo(model.input_shape[1])
    target = model(x).argmax(1)
    cam = cam_maps(model, x, target)
    cells = cam[0].numel()
    assert cells == (9 if size else 16)
    torch.testing.assert_close(grad_cam_maps(model, x, target), cam.clamp_min(0) / cells)
    torch.testing.assert_close(grad_cam_maps(model, x, target, relu=False), cam / cells)
    bias = model.get_submodule(model.head_layer).bias[target]
    torch.testing.assert_close(cam.mean(dim=(1, 2)) + bias, model(x)[0, target])
    assert run("grad_cam", model, x, int(target)).shape == x.shape


def test_grad_cam_equals_a_loop(images):
    """sum_k A_k mean(df/dA_k), with the derivative of the head by hand: f = W mean(A) + b."""
    model, target = net(), 1
    activations = model.features(model.normalise(images))
    for i, one in enumerate(activations):
        slow = torch.zeros(5, 5)
        for k, plane in enumerate(one):
            slow += model.fc.weight[target, k] / plane.numel() * plane
        made = grad_cam_maps(model, images[i : i + 1], torch.tensor([target]), layer="features", relu=False)
        torch.testing.assert_close(made[0], slow)


@pytest.mark.parametrize("layer", ["network.act1", "network.conv2", "network.act2"])
def test_captum_agrees_when_told_to_interpolate(layer):
    from captum.attr import LayerAttribution, LayerGradCam

    model = models.load("mnist_cnn", precision="float64")
    x = torch.rand((3, 1, 28, 28), generator=torch.Generator().manual_seed(0)).double()
    for relu in (True, False):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = LayerGradCam(model, model.get_submodule(layer)).attribute(x, target=2, relu_attributions=relu)
            expected = LayerAttribution.interpolate(made, (28, 28), "bilinear")
        torch.testing.assert_close(run("grad_cam", model, x, 2, layer=layer, relu=relu), expected.detach())
    assert expected.abs().max() > 1e-3


def test_the_default_layer_is_the_model_s_cam_layer(images):
    model = models.load("cifar_vgg")
    x = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    for name in NAMES:
        assert torch.equal(run(name, model, x), run(name, model, x, layer=model.cam_layer))
    assert not torch.equal(run("grad_cam", model, x), run("grad_cam", model, x, layer="network.features.0"))


def test_grad_cam_of_a_probability_weights_by_its_derivative():
    """df/dA of p_0 is p_0 p_1 (w_0 - w_1) / Z for two classes: w_0 - w_1 = (2, -2)."""
    model = toys.GapNet()
    p = torch.softmax(model(X), 1)[0]
    made = run("grad_cam", model, X, layer="conv", score="prob", relu=False)[0, 0]
    torch.testing.assert_close(made, p[0] * p[1] * (2 * X[0, 0] + 2 * X[0, 0]) / 4)


def test_a_layer_that_is_changed_in_place_afterwards_is_read_as_it_was(images):
    with global_seed(0):
        layers = [nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)]
        model = nn.Sequential(*layers).eval()
    made = grad_cam_maps(model, images, torch.ones(5).long(), layer="0", relu=False)
    z = model[0](images).detach()
    weights = model[4].weight[1].detach()[None] * (z > 0).double().mean(dim=(2, 3)).float() / z[0, 0].numel()
    torch.testing.assert_close(made, torch.einsum("nk,nkhw->nhw", weights, z))
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_rows_run_in_chunks_of_max_batch(name, images, spy):
    model = spy(net())
    made = run(name, model, images, layer="model.features", max_batch=2)
    assert model.calls == ([2, 2, 1] if name != "guided_grad_cam" else [2, 2, 1] * 2)
    torch.testing.assert_close(made, run(name, model, images, layer="model.features"))
    with pytest.raises(InputError, match="max_batch=0"):
        run(name, model, images, layer="model.features", max_batch=0)


@pytest.mark.parametrize("name", ["cam", "grad_cam"])
def test_out_of_memory_halves_the_batch(name, images):
    class Full(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.sizes = net(), []
            self.eval()

        def forward(self, x):
            self.sizes.append(len(x))
            if len(x) > 2:
                raise torch.OutOfMemoryError("out of memory")
            return self.net(x)

    model = Full()
    made = run(name, model, images, layer="net.features", max_batch=8)
    torch.testing.assert_close(made, run(name, net(), images, layer="features"))
    assert model.sizes == [5, 4, 2, 2, 1]


def test_half_precision_inside_gives_maps_near_those_in_float32():
    made = {}
    x = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    for precision in ("float32", "bfloat16"):
        model = models.load("cifar_vgg", precision=precision)
        made[precision] = torch.stack([run("cam", model, x), run("grad_cam", model, x)])
    assert made["bfloat16"].dtype == torch.float32
    assert (made["bfloat16"] - made["float32"]).abs().max() < 0.05 * made["float32"].abs().max()


# --- refused ------------------------------------------------------------------------------------------------------------------


def test_without_a_layer_the_last_convolutions_are_named(images):
    for name in NAMES:
        with pytest.raises(
            ConfigError, match=f"{name if name == 'cam' else 'grad_cam'}: TinyNet names no cam_layer; pass layer="
        ):
            run(name, toys.TinyNet(), images)
    with pytest.raises(ConfigError, match="its last convolutions: conv1, conv2"):
        run("grad_cam", toys.TinyNet(), images)
    with pytest.raises(ConfigError, match="it has no convolution by name"):
        run("grad_cam", toys.mean_pixel(), images)


@pytest.mark.parametrize("name", NAMES)
def test_what_has_no_such_layer_is_refused(name, images):
    with pytest.raises(ModelError, match=r"no layer 'feature'; closest: features"):
        run(name, net(), images, layer="feature")
    with pytest.raises(ModelError, match=r"needs a torch\.nn\.Module, got function"):
        run(name, lambda x: x.flatten(1), images, layer="features")
    with pytest.raises(InputError, match=r"expected images \(n, c, h, w\), got shape \(2, 3\)"):
        run(name, models.nets.mlp(features=3, classes=2).eval(), torch.rand(2, 3), layer="0")
    with pytest.raises(InputError, match="class 9 asked, the model has 4"):
        run(name, net(), images, 9, layer="features")


def test_a_layer_without_maps_or_called_twice_is_refused(images):
    for function in ("cam", "grad_cam"):
        with pytest.raises(ModelError, match=r"layer 'flatten' returns \(5, 8\), expected maps \(5, k, h, w\)"):
            run(function, net(), images, layer="flatten")
    twice = net()
    twice.features = nn.Sequential(nn.Conv2d(3, 8, 1), relu := nn.ReLU(), nn.Conv2d(8, 8, 1), relu).eval()
    with pytest.raises(ModelError, match=r"layer 'features\.1' is called 2 times in a pass"):
        run("grad_cam", twice, images, layer="features.1")


def test_a_layer_that_the_score_does_not_depend_on_is_refused(images):
    class Aside(nn.Module):
        def __init__(self):
            super().__init__()
            self.aside, self.main = nn.Conv2d(3, 2, 1), net()
            self.eval()

        def forward(self, x):
            self.aside(x)
            return self.main(x)

    for frozen in (True, False):
        with pytest.raises(ModelError, match="score does not depend on layer 'aside'"):
            run("grad_cam", Aside().requires_grad_(not frozen), images, layer="aside")


class Twisted(cifar_nets.CifarNet):
    """A net that does not end in average and linear layer."""

    def __init__(self, twist):
        super().__init__(net().features, 8, 4)
        self.twist = twist
        self.eval().requires_grad_(False)

    def forward(self, x):
        return self.twist(self, self.features(self.normalise(x)))


TWISTS = {
    "maximum": lambda net, a: net.fc(a.amax(dim=(2, 3))),
    "sum": lambda net, a: net.fc(a.sum(dim=(2, 3))),
    "activation between": lambda net, a: net.fc((a.mean(dim=(2, 3)) - 0.1).relu()),
    "scaled": lambda net, a: 1.01 * net.fc(a.mean(dim=(2, 3))),
    "no bias": lambda net, a: net.fc(a.mean(dim=(2, 3))) - net.fc.bias,
    "two layers": lambda net, a: net.fc(a.mean(dim=(2, 3))) @ torch.ones(4, 4),
}


@pytest.mark.parametrize("twist", TWISTS)
def test_cam_refuses_a_net_that_does_not_end_in_average_and_linear_layer(twist, images):
    model = Twisted(TWISTS[twist])
    with pytest.raises(UnsupportedModelError, match=r"cam needs global average pooling and one linear layer.*use grad_cam"):
        run("cam", model, images, layer="features")
    assert run("grad_cam", model, images, layer="features").shape == images.shape


def test_cam_refuses_other_layers_and_heads(images):
    with pytest.raises(
        UnsupportedModelError, match=r"the linear layer \(4, 8\) of the average of 'features\.0', \(6, 10, 10\)"
    ):
        run("cam", net(), images, layer="features.0")
    with pytest.raises(UnsupportedModelError, match="'pool' is AdaptiveAvgPool2d"):
        run("cam", net(), images, layer="features", head="pool")
    with pytest.raises(UnsupportedModelError, match="the model has none"):
        run("cam", nn.Sequential(nn.Conv2d(3, 2, 10), nn.Flatten()).eval(), images, layer="0")
    with pytest.raises(UnsupportedModelError, match="cam needs global average"):
        run("cam", models.load("mnist_cnn"), torch.rand(1, 1, 28, 28))
    model = net()
    model.spare = nn.Linear(3, 3).eval()
    assert torch.equal(run("cam", model, images, layer="features", head="fc"), run("cam", net(), images, layer="features"))
    model.head_layer = "fc"
    assert torch.equal(run("cam", model, images, layer="features"), run("cam", net(), images, layer="features"))


def test_guided_grad_cam_refuses_other_activations(images):
    with pytest.raises(UnsupportedModelError, match="guided_backprop has no backward rule for Gelu"):
        run("guided_grad_cam", toys.TinyNet(), images, layer="conv2")
    assert run("grad_cam", toys.TinyNet(), images, layer="conv2").any()

"""The small ResNet: counted by hand, written out, ready for Grad-CAM, and trained by the training loop."""

from itertools import product

import pytest
import torch
from torch import nn
from torch.nn import functional

from xai_lib import METHODS
from xai_lib.errors import ConfigError
from xai_lib.models import PixelModel
from xai_lib.models.small_resnet import FOOD_MEAN, FOOD_STD, small_resnet
from xai_lib.models.training import accuracy, train
from xai_lib.models.wrapper import state_sha256


def pixels(n: int = 2, side: int = 64, channels: int = 3) -> torch.Tensor:
    return torch.rand((n, channels, side, side), generator=torch.Generator().manual_seed(0))


def counted(widths, blocks, classes, channels) -> int:
    """Weights of convolutions (inputs x outputs x kernel), two per BatchNorm channel, and the linear layer."""
    total = channels * widths[0] * 25 + 2 * widths[0]
    before = widths[0]
    for width in widths:
        for _ in range(blocks):
            total += before * width * 9 + width * width * 9 + 4 * width
            total += before * width + 2 * width if before != width else 0
            before = width
    return total + before * classes + classes


@pytest.mark.parametrize(
    ("widths", "blocks", "classes", "channels"), [((32, 64, 128), 1, 10, 3), ((8, 12), 2, 7, 1), ((4, 8, 16, 24), 1, 101, 3)]
)
@pytest.mark.parametrize("pool", [True, False])
def test_parameters_and_sides_as_counted_by_hand(widths, blocks, classes, channels, pool):
    net = small_resnet(
        widths=widths, blocks=blocks, classes=classes, pool=pool, mean=FOOD_MEAN[:channels], std=FOOD_STD[:channels]
    ).eval()
    assert sum(p.numel() for p in net.parameters()) == counted(widths, blocks, classes, channels)
    for side in (64, 96, 128):
        x = pixels(1, side, channels)
        features = net.features(net.normalise(x))
        expected = side // 2 ** (len(widths) + pool)
        assert tuple(features.shape[1:]) == (widths[-1], expected, expected)
        assert net(x).shape == (1, classes)


def test_defaults_give_the_documented_net():
    net = small_resnet()
    kinds = [type(layer).__name__ for layer in net.features]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d", "ResidualBlock", "ResidualBlock", "ResidualBlock"]
    assert [block.conv1.stride[0] for block in net.features[4:]] == [1, 2, 2]
    assert next(net.named_children())[0] == "normalise"


def test_head_and_stem_written_out():
    net = small_resnet(widths=(4, 8)).eval()
    x = pixels()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (FOOD_MEAN, FOOD_STD))
    stem, norm = net.features[0], net.features[1]
    hidden = functional.conv2d((x - mean) / std, stem.weight, stride=2, padding=2) / (1 + norm.eps) ** 0.5
    expected = functional.max_pool2d(hidden.clamp(min=0), 2)
    torch.testing.assert_close(net.features[:4](net.normalise(x)), expected)
    features = net.features(net.normalise(x))
    torch.testing.assert_close(net(x), features.mean((2, 3)) @ net.fc.weight.T + net.fc.bias)


def test_every_activation_is_a_module_of_its_own_and_nothing_is_in_place():
    net = small_resnet(widths=(4, 8)).eval()
    calls: dict[int, int] = {}
    acts = [module for module in net.modules() if isinstance(module, nn.ReLU | nn.MaxPool2d | nn.BatchNorm2d | nn.Conv2d)]
    for module in acts:
        module.register_forward_hook(lambda m, *_: calls.__setitem__(id(m), calls.get(id(m), 0) + 1))
    x = pixels()
    before = x.clone()
    net(x)
    assert set(calls.values()) == {1}
    assert len(calls) == len(acts)
    assert not any(getattr(module, "inplace", False) for module in net.modules())
    assert torch.equal(x, before)


def test_layer_names_are_those_that_grad_cam_needs():
    net = small_resnet(widths=(4, 8), classes=3)
    model = PixelModel(
        net,
        name="small",
        input_shape=(3, 64, 64),
        class_names=("a", "b", "c"),
        cam_layer=net.cam_layer,
        head_layer=net.head_layer,
    )
    seen = []
    model.get_submodule(model.cam_layer).register_forward_hook(lambda m, i, out: seen.append(out))
    x, head = pixels(), model.get_submodule(model.head_layer)
    torch.testing.assert_close(model(x), head(seen[0].mean((2, 3))), msg="the cam layer is not what the average pools")
    targets = torch.tensor([0, 2])
    own, named = (METHODS.bind("grad_cam", **given)(model, x, targets) for given in ({}, {"layer": model.cam_layer}))
    assert torch.equal(own, named)
    with torch.no_grad():
        maps = torch.einsum("nk,nkhw->nhw", head.weight[targets], seen[0]).clamp(min=0) / seen[0][0, 0].numel()
    expected = functional.interpolate(maps[:, None], size=(64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(own.sum(1, keepdim=True), expected, atol=1e-6, rtol=1e-4)


def test_weights_come_from_the_seed():
    state = torch.get_rng_state()
    assert state_sha256(small_resnet(seed=3)) == state_sha256(small_resnet(seed=3)) != state_sha256(small_resnet(seed=4))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"widths": ()}, "no widths"),
        ({"widths": (8, 0)}, "0 among classes, blocks and widths"),
        ({"widths": (8, 2.5)}, "2.5 among"),
        ({"blocks": 0}, "0 among"),
        ({"blocks": True}, "True among"),
        ({"classes": 0}, "0 among"),
        ({"mean": (0.5,)}, "one mean and one positive std per channel"),
        ({"std": (0.5, 0.5, 0.0)}, "one mean and one positive std per channel"),
    ],
)
def test_impossible_nets_are_refused(own, words):
    with pytest.raises(ConfigError, match=words):
        small_resnet(**own)


def test_it_learns_where_a_patch_is_bright():
    """Two classes of 32-pixel noise: a bright patch in the left or the right half."""
    draw = torch.Generator().manual_seed(0)
    x, y = 0.3 * torch.rand((64, 3, 32, 32), generator=draw), torch.arange(64) % 2
    for at, label in enumerate(y.tolist()):
        row, column = torch.randint(0, 8, (2,), generator=draw).tolist()
        x[at, :, 3 * row : 3 * row + 8, 16 * label + column : 16 * label + column + 8] += 0.6
    net = small_resnet(widths=(8, 16), classes=2)
    given = {"epochs": 12, "batch": 16, "learning_rate": 0.05, "seed": 0, "schedule": "step", "drops": (9,)}
    record = train(net, x, y, **given, optimiser="sgd", label_smoothing=0.1)
    assert accuracy(net, x, y) > 0.9
    assert record.losses[-1] < record.losses[0]


def test_every_side_up_to_the_documented_ones_works():
    net = small_resnet(widths=(4, 8, 8)).eval()
    for height, width in product((64, 100, 128), (64, 77)):
        assert net(torch.zeros(1, 3, height, width)).shape == (1, 10)

"""ResNet-50 from the document's initial weights."""

import pytest
import torch
from torch import nn

from xai_lib.errors import ConfigError
from xai_lib.models.document_resnet import MEAN, STD, resnet50

X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def net():
    return resnet50(classes=5).eval()


def test_weights_are_small_and_normal_and_biases_zero(net):
    """25,557,032 parameters with 1,000 classes; each class less is 2,049 fewer."""
    assert sum(p.numel() for p in net.parameters()) == 25_557_032 - 995 * 2049
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    drawn = torch.cat([layer.weight.detach().flatten() for layer in layers])
    assert drawn.mean().abs() < 1e-5
    assert drawn.std() == pytest.approx(0.01, rel=1e-3)
    assert not net.net.fc.bias.any()


def test_pixels_are_normalised_first(net):
    x = (X - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(net(X), net.net(x))
    assert dict(net.named_modules())[net.cam_layer](torch.zeros(1, 1024, 2, 2)).shape == (1, 2048, 1, 1)


def test_the_seed_is_the_net_and_global_generators_stay():
    before = torch.random.get_rng_state()
    one, same, other = (resnet50(classes=2, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    weights = [net.net.layer4[2].conv3.weight for net in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("given", [{"classes": 0}, {"initial_std": 0.0}])
def test_impossible_numbers_are_refused(given):
    with pytest.raises(ConfigError, match="resnet50: classes="):
        resnet50(**given)

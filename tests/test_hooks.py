"""Hooks that undo themselves; layers randomised each with its own seed and restored to the byte."""

import pytest
import torch
from torch import nn

from xai_lib import models, toys
from xai_lib.errors import ConfigError, ModelError
from xai_lib.hooks import find_layer, global_seed, layer_groups, probe, randomised
from xai_lib.models.wrapper import state_sha256


def net() -> nn.Sequential:
    with global_seed(0):
        layers = [
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.Conv2d(4, 4, 3),
            nn.Conv2d(4, 4, 3),
            nn.Flatten(),
        ]
        made = nn.Sequential(*layers, nn.Linear(16, 2))
    made[1].running_mean.fill_(0.3)
    made[1].weight.data.fill_(1.7)
    return made.eval().requires_grad_(False)


def hooks_of(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


X = torch.rand((2, 1, 8, 8), generator=torch.Generator().manual_seed(0))


def test_probe_captures_the_layers_own_output_despite_in_place_layers():
    model = net()
    model[2].inplace = True
    expected = model[1](model[0](X))
    assert (expected < 0).any()
    with probe(model, ["1", "2"]) as seen:
        out = model(X)
    torch.testing.assert_close(seen["1"], expected)
    torch.testing.assert_close(seen["2"], expected.relu())
    torch.testing.assert_close(out, model(X))
    assert hooks_of(model) == 0
    assert seen.calls == {"1": 1, "2": 1}


def test_probe_gradient_closed_form():
    """GapNet: d logit_0 / d A_k = w_k / 4 (FIDELITY TV-4)."""
    model = toys.GapNet()
    x = torch.tensor([[[[1.0, 2.0], [3.0, -4.0]]]])
    with probe(model, "conv", gradients=True) as seen:
        model(x)[0, 0].backward()
    torch.testing.assert_close(seen["conv"][0, 1], -x[0, 0])
    torch.testing.assert_close(seen.gradients["conv"][0], torch.tensor([0.5, 0.25]).view(2, 1, 1).expand(2, 2, 2))


def test_probe_gradients_of_two_layers_and_of_the_input_agree_with_autograd():
    model = net()
    x = X.clone().requires_grad_(True)
    with probe(model, ["0", "3"], gradients=True) as seen:
        value = model(x)[:, 1].sum()
        expected = torch.autograd.grad(value, [x, seen["0"], seen["3"]], retain_graph=True)
        value.backward()
    torch.testing.assert_close([x.grad, seen.gradients["0"], seen.gradients["3"]], list(expected))
    with probe(model, ["0", "3"], gradients=True) as detached:
        model(X)[:, 1].sum().backward()
    torch.testing.assert_close(detached.gradients, seen.gradients)


def test_probe_is_removed_after_an_exception():
    model = net()
    with pytest.raises(ZeroDivisionError), probe(model, ["0", "3"]):
        raise ZeroDivisionError
    assert hooks_of(model) == 0
    with pytest.raises(ModelError, match="closest"), probe(model, ["0", "nowhere"]):
        pass
    assert hooks_of(model) == 0


def test_probe_works_in_inference_mode():
    with torch.inference_mode(), probe(net(), "3", gradients=True) as seen:
        pass
    with pytest.raises(ModelError, match="was not called yet"):
        seen["3"]
    with pytest.raises(ModelError, match="is not watched; watched: 3"):
        seen["0"]


@pytest.mark.parametrize("name", ["network.haed", "", "__import__('os').system('true')"])
def test_unknown_layers_name_the_closest(name):
    with pytest.raises(ModelError, match="closest: "):
        find_layer(models.load("mnist_cnn"), name)
    with pytest.raises(ModelError, match=r"closest: network\.conv2, network\.conv1"):
        find_layer(models.load("mnist_cnn"), "network.conv")


def test_randomised_restores_every_byte_also_after_an_exception():
    model = net()
    before = state_sha256(model)
    ids = [id(tensor) for tensor in model.state_dict(keep_vars=True).values()]
    with randomised(model, ["0", "1", "6"], seed=0) as same:
        assert same is model
        assert state_sha256(model) != before
    assert state_sha256(model) == before
    with pytest.raises(ZeroDivisionError), randomised(model, ["0", "1", "6"], seed=0):
        raise ZeroDivisionError
    assert state_sha256(model) == before
    assert [id(tensor) for tensor in model.state_dict(keep_vars=True).values()] == ids
    assert not any(p.requires_grad for p in model.parameters())


def test_layers_of_equal_shape_get_different_weights():
    """LIBRARY_DEFECTS D20: Quantus gives them the same."""
    model = net()
    with randomised(model, ["3", "4"], seed=0):
        assert not torch.equal(model[3].weight, model[4].weight)


def test_a_layers_weights_depend_on_seed_and_name_only():
    model = net()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    with randomised(model, ["3"], seed=0):
        alone = model[3].weight.clone()
    torch.manual_seed(6)
    with randomised(model.to(memory_format=torch.channels_last), ["6", "4", "3"], seed=0):
        assert torch.equal(model[3].weight, alone)
    with randomised(model, ["3"], seed=1):
        assert not torch.equal(model[3].weight, alone)
    torch.manual_seed(5)
    assert torch.equal(torch.get_rng_state(), state)
    with randomised(model, ["3"], seed=0):
        pass
    assert torch.equal(torch.get_rng_state(), state)


def test_batch_norm_forgets_its_running_statistics():
    model = net()
    with randomised(model, ["1"], seed=0):
        assert model[1].running_mean.abs().max() == 0
        assert torch.equal(model[1].weight, torch.ones(4))
    assert model[1].running_mean[0] == pytest.approx(0.3)


def test_a_block_means_all_layers_in_it_and_float64_stays():
    model = nn.ModuleDict({"block": net().double()})
    with randomised(model, ["block"], seed=0):
        inside = model["block"][3].weight.clone()
    with randomised(model, ["block.3"], seed=0):
        assert torch.equal(model["block"][3].weight, inside)
    assert inside.dtype == torch.float64


def test_what_cannot_be_randomised_is_refused():
    model = net()
    before = state_sha256(model)
    with pytest.raises(ModelError, match="no parameters"), randomised(model, ["3", "2"], seed=0):
        pass
    model.add_module("own", nn.ParameterList([nn.Parameter(torch.ones(1), requires_grad=False)]))
    with pytest.raises(ModelError, match="no reset_parameters"), randomised(model, ["own"], seed=0):
        pass
    del model.own
    assert state_sha256(model) == before


def test_layer_groups_run_from_output_to_input_and_cover_every_layer():
    model = models.load("efficientnet_lite0", size=64)
    groups = layer_groups(model, 5)
    flat = [name for group in groups for name in group]
    assert len(groups) == 5
    assert max(map(len, groups)) - min(map(len, groups)) <= 1
    assert (flat[0], flat[1], flat[-1]) == ("network.fc", "network.head", "network.stem")
    assert len(flat) == len(set(flat)) == 50
    covered = sum(p.numel() for name in flat for p in find_layer(model, name).parameters(recurse=False))
    assert covered == sum(p.numel() for p in model.parameters())
    with pytest.raises(ConfigError, match="k=51: expected 1 to 50"):
        layer_groups(model, 51)


def test_layer_groups_follow_execution_not_registration():
    class Backwards(nn.Module):
        input_shape = (2,)

        def __init__(self) -> None:
            super().__init__()
            self.second, self.first, self.unused = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            return self.second(self.first(x))

    model = Backwards()
    assert layer_groups(model, 2) == [["second"], ["first"]]
    assert hooks_of(model) == 0


def test_cascading_randomisation_moves_the_logits():
    model = models.load("mnist_cnn")
    x = torch.rand((4, 1, 28, 28), generator=torch.Generator().manual_seed(0))
    groups = layer_groups(model, 5)
    assert groups[0] == ["network.fc3"]
    before, seen = model(x), []
    for stage in range(1, 6):
        with randomised(model, [name for group in groups[:stage] for name in group], seed=0):
            seen.append(model(x))
    assert all(not torch.allclose(out, before) for out in seen)
    assert torch.equal(model(x), before)

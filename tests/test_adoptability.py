"""Which methods take which models: verdicts of known cases, and nothing left behind."""

import pytest
import torch
from torch import nn

from xai_lib import METHODS, toys
from xai_lib.adoptability import COUNTERPARTS, adoptability
from xai_lib.errors import ConfigError, InputError
from xai_lib.hooks import global_seed

X = torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(0))
ASKED = ["gradient", "guided_backprop", "deconvnet", "deeplift", "lrp"]


class Net(nn.Module):
    def __init__(self, act, pad=None):
        super().__init__()
        with global_seed(0):
            self.pad, self.conv = pad or nn.Identity(), nn.Conv2d(3, 5, 3)
            self.act, self.flatten, self.fc = act, nn.Flatten(), nn.LazyLinear(3)
            self.eval()(X)

    def forward(self, x):
        return self.fc(self.flatten(self.act(self.conv(self.pad(x)))))


def sequential(*activations):
    with global_seed(0):
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 6), *activations, nn.Linear(6, 3)).eval()


def verdicts(model, methods=ASKED, **own):
    rows = adoptability(model, X, methods, **own)
    assert [row["method"] for row in rows] == [METHODS.split(spec)[0] for spec in methods]
    return {row["method"]: (row["verdict"], row["reason"]) for row in rows}


def test_a_net_of_relu_modules_is_accepted_by_all():
    """Captum's LRP has no rule for Flatten, so its part is asked of a net without."""
    net = Net(nn.ReLU())
    assert {k: v for k, (v, _) in verdicts(net, ASKED[:4]).items()} == dict.fromkeys(ASKED[:4], "accepted")
    assert verdicts(net)["lrp"][0] == "repaired"
    assert "Captum raises TypeError" in verdicts(net)["lrp"][1]


def test_relu6_is_repaired_where_captum_returns_the_plain_gradient():
    found = verdicts(sequential(nn.Softplus(), nn.Linear(6, 6), nn.ReLU6()), ["gradient", "deeplift"])
    assert found["gradient"] == ("accepted", "")
    net = Net(nn.ReLU6())
    net.conv.weight.data *= 8  # some units reach 6
    found = verdicts(net)
    assert {k: v for k, (v, _) in found.items() if v != "repaired"} == {"gradient": "accepted"}
    assert "differs by" in found["deeplift"][1]
    assert verdicts(net, compare=False)["deeplift"] == ("accepted", "")


def test_padding_layers_and_shared_modules_are_repaired():
    padded = verdicts(Net(nn.ReLU(), nn.ZeroPad2d(1)))
    assert padded["deeplift"] == ("accepted", "")
    assert "ZeroPad2d" in padded["lrp"][1]


def test_a_sigmoid_is_refused_by_rules_for_rectifiers_alone():
    found = verdicts(sequential(nn.Sigmoid()))
    assert {k: v for k, (v, _) in found.items()} == {
        "gradient": "accepted", "guided_backprop": "refused", "deconvnet": "refused", "deeplift": "accepted", "lrp": "refused",
    }  # fmt: skip
    assert "lrp has no backward rule for Sigmoid (1x)" in found["lrp"][1]


def test_functions_and_what_breaks():
    found = verdicts(lambda x: torch.relu(x.flatten(1)[:, :3] - 0.2), ["deeplift", "lrp", {"lrp": {"rule": "z_plus"}}])
    assert found["deeplift"] == ("repaired", "Captum takes modules only")

    def breaking(x):
        if x.requires_grad:
            raise ZeroDivisionError("no\ngradient")
        return x.flatten(1)[:, :3]

    assert verdicts(breaking, ["gradient"])["gradient"] == ("failed", "ZeroDivisionError: no")
    assert verdicts(toys.constant(), ["gradient"])["gradient"] == ("accepted", "the map is zero")
    infinite = toys.Formula(lambda x: (x - x).sqrt().flatten(1).sum(1))
    assert verdicts(infinite, ["gradient"])["gradient"] == ("failed", "the map holds NaN or infinity")


def test_the_model_stays_as_it_was():
    net = sequential(nn.ReLU())
    before, state = [p.clone() for p in net.parameters()], torch.random.get_rng_state()
    adoptability(net, X, ASKED)
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, net.parameters(), strict=True))
    assert not any(m._forward_hooks or m._backward_hooks or m._forward_pre_hooks or hasattr(m, "rule") for m in net.modules())
    assert torch.equal(state, torch.random.get_rng_state())


def test_bad_requests_are_refused():
    with pytest.raises(InputError, match="at least one row"):
        adoptability(toys.TinyNet(), X[:0], ["gradient"])
    with pytest.raises(ConfigError, match="did you mean 'deeplift'"):
        adoptability(toys.TinyNet(), X, ["deep_lift"])
    assert set(COUNTERPARTS) <= set(METHODS)

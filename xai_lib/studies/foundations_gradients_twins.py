"""Lesson `foundations_gradients`, part 2: one function computed by two nets, and what methods make of that."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from xai_lib import METHODS, compute, toys
from xai_lib.studies.case import Case, explainer, rows
from xai_lib.studies.foundations_gradients import agreement_rows


def late(x: Tensor, weight: float = 1.0) -> Tensor:
    """relu(relu(x1) - 1 - w relu(x2))."""
    return torch.relu(torch.relu(x[:, 0]) - 1 - weight * torch.relu(x[:, 1]))


def early(x: Tensor, weight: float = 1.0) -> Tensor:
    """relu(relu(x1 - 1) - w relu(x2)): the same function for every weight w >= 0, in another order of operations."""
    return torch.relu(torch.relu(x[:, 0] - 1) - weight * torch.relu(x[:, 1]))


TWINS: dict[str, tuple[toys.Formula, toys.Formula]] = {
    "late and early bias": (toys.Formula(late), toys.Formula(early)),
    "mirrored rectifier": (
        toys.Formula(lambda x: -torch.relu(x[:, 0]) - x[:, 1]),
        toys.Formula(lambda x: -x[:, 0] - torch.relu(-x[:, 0]) - x[:, 1]),
    ),
}
"""Pairs of nets that compute the same function."""

CANCELLING = toys.Formula(lambda x: x[:, 0] + late(x.flip(1)) - early(x.flip(1)))
"""f = x1: the two other branches are one function, and cancel."""
EVEN = toys.Formula(lambda x: late(x, 0.25) + early(x.flip(1), 0.25))
"""Symmetric in its two features as a function, not as a net."""

SPELLED: dict[str, Any] = {
    "gradient": "gradient",
    "gradient x input": "input_x_gradient",
    "Integrated Gradients": "integrated_gradients",
    "LRP (z+)": {"lrp": {"rule": "z_plus"}},
    "DeepLIFT": "deeplift",
    "Guided Backpropagation": "guided_backprop",
}


def twin_maps(at: tuple[float, float] = (3.0, 1.0)) -> dict[str, dict[str, tuple[Tensor, Tensor]]]:
    """For each pair of `TWINS` and each method the maps (2,) of both nets at one point."""
    x, t = torch.tensor([at], dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
    ask: dict[str, Any] = {"integrated_gradients": {"steps": 300, "rule": "middle"}}
    specs = {k: ask if v == "integrated_gradients" else v for k, v in SPELLED.items()}
    return {
        pair: {k: (METHODS.bind(v)(nets[0], x, t)[0], METHODS.bind(v)(nets[1], x, t)[0]) for k, v in specs.items()}
        for pair, nets in TWINS.items()
    }


class Rewired(nn.Module):
    """A LeNet in another spelling: max pooling comes before the rectifier, and relu(z) is written z + relu(-z)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.net: Any = model.network
        self.eval()

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (n, classes), those of the net up to rounding."""
        net = self.net
        hidden = _mirrored(net.pool1(net.conv1(net.normalise(inputs))))
        hidden = net.flatten(_mirrored(net.pool2(net.conv2(hidden))))
        return net.fc3(_mirrored(net.fc2(_mirrored(net.fc1(hidden)))))


def _mirrored(z: Tensor) -> Tensor:
    return z + torch.relu(-z)


def spelled_maps(case: Case, steps: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Maps of a net and of its `Rewired` twin by each method of `SPELLED`."""
    twin, made = Rewired(case.model), {}  # type: ignore[arg-type]
    for name, spec in SPELLED.items():
        own = {"steps": steps} if spec == "integrated_gradients" else {}
        explain = explainer(case, spec, **own)
        made[name] = tuple(explain(net, case.inputs, case.targets) for net in (case.model, twin))
    return made  # type: ignore[return-value]


def spelled_rows(case: Case, pairs: Mapping[str, tuple[Tensor, Tensor]]) -> pd.DataFrame:
    """Rank correlation between the maps of the two spellings, and how far their logits are apart."""
    frames = [agreement_rows(case, dict(zip((name, f"{name} of the twin"), pair, strict=True))) for name, pair in pairs.items()]
    one, two = (compute.logits(net, case.inputs) for net in (case.model, Rewired(case.model)))  # type: ignore[arg-type]
    return pd.concat([*frames, rows(case, "twin", "largest difference of the logits", (one - two).abs().amax(1))])

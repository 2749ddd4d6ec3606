"""Lesson `foundations_evaluation`: models whose right attribution is known, and evaluations that prefer another map.

Each toy is a few numbers wide, its scores come from the registered metrics, and each has a closed form that a test checks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from xai_lib import METHODS, METRICS, toys
from xai_lib.randomness import key
from xai_lib.types import Model

Pair = tuple[float, float]
"""The score of the right map, and of the wrong one."""


@dataclass(frozen=True)
class Toy:
    """One evaluation, and a model on which it can be held against the truth.

    evaluation  name of the score
    asks        what it asks of a map
    story       the model, and what is wrong with the wrong map
    larger      whether larger scores are better
    image, right, wrong  (h, w): the picture, its right map and its wrong one
    scores      of the right and of the wrong map
    control     what reveals it, a second measurement
    revealed    that measurement of the right and of the wrong map
    also        further scores of both
    """

    evaluation: str
    asks: str
    story: str
    larger: bool
    image: Tensor
    right: Tensor
    wrong: Tensor
    scores: Pair
    control: str
    revealed: Pair
    also: Mapping[str, Pair] = field(default_factory=dict)

    @property
    def winner(self) -> str:
        """Which of the two maps the evaluation prefers: right, wrong or neither.

        Differences below 1e-6 are rounding.
        """
        gain = (self.scores[0] - self.scores[1]) * (1 if self.larger else -1)
        return "neither" if abs(gain) < 1e-6 else "right" if gain > 0 else "wrong"


def asked(metric: str, words: Mapping[str, Any], pair: Mapping[str, Any] | tuple[Any, Any], **own: Any) -> Pair:
    """A registered metric of two maps, or of two methods with `{"method": (right, wrong), "attributions": (right, wrong)}`."""
    bound = METRICS.bind(metric, **own)
    each = pair if isinstance(pair, Mapping) else {"attributions": pair}
    right, wrong = ({**words, **{word: both[side] for word, both in each.items()}} for side in (0, 1))
    return float(METRICS.ask(bound, right)[0]), float(METRICS.ask(bound, wrong)[0])


def case(model: Model, values: Any) -> dict[str, Any]:
    """Words of a metric for one picture (h, w), class 0."""
    inputs = torch.as_tensor(values, dtype=torch.float64)[None, None]
    return {"model": model, "inputs": inputs, "targets": torch.zeros(1, dtype=torch.int64)}


def explained(name: str, words: Mapping[str, Any], **own: Any) -> Tensor:
    """The map of a registered method, (1, 1, h, w)."""
    made: Tensor = METHODS.bind(name, **own)(words["model"], words["inputs"], words["targets"])
    return made


def subsets(pixels: int, sizes: range) -> dict[str, Any]:
    """Parameters of Sensitivity-n for subsets of these numbers of pixels."""
    return {"fractions": [size / pixels for size in sizes], "n_subsets": 60}


HOLE = 4.0
"""How many units of score the model of `sky` loses for each unit by which a sky pixel is darker than 1/2."""


def sky_model() -> toys.Formula:
    """f = x_5 - 4 sum_sky relu(1/2 - x_i)."""

    def formula(x: Tensor) -> Tensor:
        dark = torch.relu(0.5 - x.flatten(1))
        return x[:, 0, 1, 1] - HOLE * (dark.sum(1) - dark[:, 4])

    return toys.Formula(formula)


def sky() -> Toy:
    """On pictures with a bright sky `sky_model` reads the centre alone; removal to black makes holes."""
    image = torch.full((3, 3), 0.75)
    image[1, 1] = 1.0
    words = case(sky_model(), image)
    right, wrong = explained("gradient", words), explained("integrated_gradients", words, rule="middle", steps=3)
    own: dict[str, Any] = {"region": 1, "n_regions": 3, "score": "logit"}
    return Toy(
        "region perturbation", "does the score fall when the map's first pixels are removed?",
        "One pixel is read, and a bright sky is checked for holes. The wrong map is that of Integrated Gradients from black, "
        "which sees the holes that removal to black makes.",
        True, image, right[0, 0], wrong[0, 0],
        asked("region_perturbation", words, (right, wrong), fill="black", **own),
        "the same, removed to a grey that pictures have", asked("region_perturbation", words, (right, wrong), fill=0.5, **own),
    )  # fmt: skip


WEIGHTS, VALUES = ((4.0, -3.0), (2.0, -1.0)), ((0.5, 0.75), (0.25, 0.5))
"""Of the linear model of `own_baseline`."""


def own_baseline() -> Toy:
    """A linear model; the maps compare with black and with white, and so do the removals."""
    words = case(toys.linear(torch.tensor(WEIGHTS, dtype=torch.float64).reshape(1, -1)), VALUES)
    right, wrong = (explained("integrated_gradients", words, baseline=b, steps=1) for b in ("black", "white"))
    own: dict[str, Any] = {"step": 1, "score": "logit"}
    return Toy(
        "deletion", "is the area under the falling score small?",
        "A linear model, asked what its pixels add to black: $w_i x_i$. The wrong map compares with white, and so does the "
        "removal.",
        False, words["inputs"][0, 0], right[0, 0], wrong[0, 0],
        asked("deletion", words, (right, wrong), substrate="white", **own),
        "the same, removed to black", asked("deletion", words, (right, wrong), substrate="black", **own),
    )  # fmt: skip


LONELY = 1 / 16
"""Weight of the pixel without copies in `copies`."""


def copies() -> Toy:
    """f = max of eight pixels + x_5 / 16: eight copies of one piece of evidence, and a small one of its own in the centre."""

    def formula(x: Tensor) -> Tensor:
        flat = x.flatten(1)
        around = torch.cat([flat[:, :4], flat[:, 5:]], dim=1)
        return around.amax(dim=1) + LONELY * flat[:, 4]

    words = case(toys.Formula(formula), torch.ones(3, 3))
    right, wrong = torch.full((1, 1, 3, 3), 1 / 8, dtype=torch.float64), torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    right[..., 1, 1] = wrong[..., 1, 1] = LONELY
    gaps = asked("completeness_gap", words, (right, wrong))
    most = asked("sensitivity_n", words, (right, wrong), **subsets(9, range(8, 9)))
    return Toy(
        "Sensitivity-n, copies", "does a subset's attribution follow the drop without it?",
        "Eight pixels are copies of one piece of evidence worth 1, the centre has its own, worth 1/16. The wrong map says that "
        "the eight are worth nothing.",
        True, words["inputs"][0, 0], right[0, 0], wrong[0, 0],
        asked("sensitivity_n", words, (right, wrong), **subsets(9, range(1, 8))),
        "completeness gap", gaps, {"Sensitivity-n, copies, n = 8": most},
    )  # fmt: skip


SHIFT = 4.0
"""What is added to every pixel of the wrong map of `shifted`."""


def shifted() -> Toy:
    """A linear model: beta d + c has Sensitivity-n 1 for every beta > 0 and c, d the drops of single pixels."""
    words = case(toys.linear(torch.tensor([[1.0, -3.0, -1.0, 2.0]], dtype=torch.float64)), torch.ones(2, 2))
    right = explained("input_x_gradient", words)
    wrong = 0.1 * right + SHIFT
    return Toy(
        "Sensitivity-n, linear", "does a subset's attribution follow the drop without it?",
        "A linear model. The wrong map is a tenth of the right one plus 4: nearly flat, and its sign is wrong at two of four "
        "pixels.",
        True, words["inputs"][0, 0], right[0, 0], wrong[0, 0],
        asked("sensitivity_n", words, (right, wrong), **subsets(4, range(1, 4))),
        "completeness gap", asked("completeness_gap", words, (right, wrong)),
    )  # fmt: skip


def certificate() -> Toy:
    """Logits (8 x_1, 4 x_2): evidence for both, more for the first. The wrong map is that of class 0 whatever is asked."""
    words = case(toys.Formula(lambda x: torch.stack([8 * x[:, 0, 0, 0], 4 * x[:, 0, 0, 1]], dim=1)), torch.ones(1, 2))
    methods = {"method": (METHODS.bind("input_x_gradient"), label_blind)}
    own: dict[str, Any] = {"fill": 0.0, "step": 1}
    second = {**words, "targets": torch.ones(1, dtype=torch.int64)}
    right, wrong = (method(second["model"], second["inputs"], second["targets"]) for method in methods["method"])
    return Toy(
        "soundness", "does no map make the model believe what it does not?",
        "The picture holds evidence for both classes, and more for class 0. Shown are maps for class 1: the right one points "
        "at its evidence; the wrong one is that of class 0 again.",
        True, words["inputs"][0, 0], right[0, 0], wrong[0, 0],
        asked("certificate_soundness", words, methods, **own),
        "completeness gap for class 1", asked("completeness_gap", second, (right, wrong)),
        {"certificate completeness": asked("certificate_completeness", words, methods, **own)},
    )  # fmt: skip


def label_blind(model: Model, inputs: Tensor, targets: Tensor, *, base: Any = "input_x_gradient") -> Tensor:
    """The map of the predicted class, whatever class is asked for."""
    with torch.no_grad():
        predicted = model(inputs).argmax(dim=1)
    made: Tensor = METHODS.bind(base)(model, inputs, predicted)
    return made


def bookkeeping() -> Toy:
    """f = sum x_i^3, Integrated Gradients by 4 right Riemann steps; the wrong map is its reverse plus a constant."""
    words = case(toys.Formula(lambda x: (x**3).flatten(1).sum(1)), ((1.0, 0.75), (0.5, 0.25)))
    right = explained("integrated_gradients", words, rule="right", steps=4)
    wrong = completed(-right, (words["inputs"] ** 3).flatten(1).sum(1))
    return Toy(
        "completeness gap", "do the attributions add up to the change of the score?",
        "A sum of cubes. The right map comes from a coarse sum of four steps; the wrong one is its reverse, plus a constant.",
        False, words["inputs"][0, 0], right[0, 0], wrong[0, 0],
        asked("completeness_gap", words, (right, wrong)),
        "Sensitivity-n", asked("sensitivity_n", words, (right, wrong), **subsets(4, range(1, 4))),
    )  # fmt: skip


def completed(attributions: Tensor, change: Tensor) -> Tensor:
    """A + (change - sum A) / P: any attributions made complete by the same number at every pixel.

    Args:
        attributions: (n, ...).
        change: (n,), f(x) - f(x').
    """
    missing = (change - attributions.flatten(1).sum(1)) / attributions[0].numel()
    return attributions + missing.reshape(-1, *[1] * (attributions.ndim - 1))


class Template(nn.Module):
    """The sum of a picture times a fixed template, which has nothing to learn."""

    template: Tensor

    def __init__(self, side: int) -> None:
        super().__init__()
        self.register_buffer("template", torch.linspace(-1, 1, side * side, dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, 1)."""
        return (inputs.flatten(1) * self.template).sum(dim=1, keepdim=True)


def one_number(side: int = 16) -> nn.Module:
    """A fixed template and a linear layer of one input: all that is learned is one number for each class."""
    head = nn.Linear(1, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        head.bias.zero_()
    return nn.Sequential(Template(side), head).double().requires_grad_(False).eval()


def randomised() -> Toy:
    """A model with one learned number: new weights cannot change the order of its gradient."""
    words = case(one_number(), torch.ones(16, 16))
    methods = (METHODS.bind("gradient"), noise_of_weights)
    right, wrong = (method(words["model"], words["inputs"], words["targets"]) for method in methods)
    pair = {"method": methods, "attributions": (right, wrong)}
    return Toy(
        "randomisation", "is the map another one when the weights are random?",
        "A fixed template and one learned number. The right map is the template; the wrong one is noise whose seed is the "
        "weights.",
        False, words["inputs"][0, 0], right[0, 0], wrong[0, 0],
        asked("model_parameter_randomisation", words, pair, stages=1, absolute=True),
        "Sensitivity-n", asked("sensitivity_n", words, (right, wrong), **subsets(256, range(32, 160, 32))),
    )  # fmt: skip


def noise_of_weights(model: Model, inputs: Tensor, targets: Tensor) -> Tensor:
    """Noise that depends on nothing but the weights: one draw of N(0, 1), seeded by their bytes, for all pictures."""
    parts = (
        [p.detach().cpu().double().numpy().tobytes().hex() for p in model.parameters()] if isinstance(model, nn.Module) else []
    )
    generator = torch.Generator().manual_seed(key("noise of weights", *parts))
    drawn = torch.randn(inputs.shape[1:], generator=generator, dtype=torch.float64)
    return drawn.to(inputs).expand_as(inputs).clone()

"""What can be measured of every registered method and metric on small nets: rows, axioms, families of nets.

Measured whenever the book is built, so that no page holds what the code no longer does. Axioms are checked on functions of
two features, f(x) = toy(m1, m2), where m1 and m2 are the mean of the left and of the right half of a picture of 8 x 8 pixels;
the attribution of a feature is the sum over its half.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from xai_lib import METHODS, METRICS, baselines, compute, toys
from xai_lib.adoptability import adoptability
from xai_lib.errors import InputError, XaiError
from xai_lib.models.fit import one_thread
from xai_lib.registry import Entry
from xai_lib.studies import wsol_families
from xai_lib.studies.costs import counted
from xai_lib.studies.foundations_gradients_twins import CANCELLING, EVEN, TWINS
from xai_lib.types import Model

SIDE, SMALL, POINTS = 96, 8, 3
FEATURES = 4
SCALE = 4.0
EXACT = 1e-6
MORE = 8
DRAWS = {"steps": 16, "n_samples": 128, "n_masks": 128}
FEW = {
    "steps": 6, "n_samples": 20, "n_masks": 2, "n_baselines": 2, "n_classes": 2, "iterations": 1, "max_iter": 2,
    "max_iterations": 2, "patch": 16, "stride": 16, "draws": 20, "max_rows": 100,
}  # fmt: skip
HALVES = {"grid": {"rows": 1, "columns": 2}}
QUARTERS = {"grid": {"rows": 2, "columns": 2}}
REFERENCES = 2
ITERATIONS = 8
OWN: Mapping[str, Callable[[Tensor], Tensor]] = {
    "blur_integrated_gradients": lambda x: baselines.draw({"blur": {"sigma": 50 * SMALL / 224}}, x, seed=0)
}
"""References of methods that do not take one; the others are given black, or `REFERENCES` black pictures."""
BY_PROBABILITY = ("adversarial_gradient_integration",)
"""Methods that climb another class, which on these functions has a slope as a probability only."""
Toys = Sequence[toys.Formula]
RECTIFIED: Toys = (toys.two_relu(), TWINS["late and early bias"][0])
CURVED: Toys = (toys.product(), toys.square())


@cache
@one_thread()
def rows(name: str) -> tuple[int, int] | str:
    """Rows that one picture of `SIDE` x `SIDE` pixels, or one row of `FEATURES` numbers, costs at default parameters.

    A method is asked for one map of a net of two convolutions; a metric judges the gradient of that net.

    Returns:
        (rows that only go forward, rows that go forward and back), or why there is no number.
    """
    entry = METHODS[name] if name in METHODS else METRICS[name]
    net: nn.Module = wsol_families.drawn(nn.ReLU)
    inputs = _pictures(SIDE)[:1].float()
    if entry.traits.get("table"):
        net, inputs = toys.linear(torch.eye(2, FEATURES)), inputs.flatten(1)[:, :FEATURES]
    targets = compute.logits(net, inputs).argmax(1)
    try:
        with warnings.catch_warnings(), counted(net) as cost:
            warnings.simplefilter("ignore")
            if name in METHODS:
                METHODS.bind(name)(net, inputs, targets)
            else:
                METRICS.ask(name, _case(net, inputs, targets))
    except XaiError as error:
        return str(error).partition("\n")[0]
    return cost.rows_forward, cost.rows_gradient


def _case(net: Model, inputs: Tensor, targets: Tensor) -> dict[str, Any]:
    """Everything that a metric may name; the map is ready, so that its cost is not the metric's."""
    drawn = torch.Generator().manual_seed(1)
    inside = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    inside[:, 16:48, 16:48] = True
    return {
        "model": net,
        "inputs": inputs,
        "targets": targets,
        "attributions": torch.randn(inputs.shape, generator=drawn),
        "masks": inside,
        "boxes": [torch.tensor([[16, 16, 48, 48]])],
        "method": METHODS.bind("gradient"),
    }


def _pictures(side: int) -> Tensor:
    """(POINTS, 3, side, side) float64, smooth and in [0, 1]; the left half is the brighter one."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((POINTS, 3, 4, 4), generator=generator, dtype=torch.float64)
    fine = torch.nn.functional.interpolate(coarse, size=(side, side), mode="nearest")
    lift = torch.tensor([0.65, 0.05], dtype=torch.float64).repeat_interleave(side // 2)
    return lift + 0.2 * fine


class Halves(nn.Module):
    """toy(m1, m2), m1 and m2 being `SCALE` times the mean of the left and of the right half of a picture."""

    def __init__(self, toy: toys.Formula) -> None:
        super().__init__()
        self.toy = toy
        self.eval()

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (n, 2): f and 0."""
        halves = torch.stack([half.flatten(1).mean(1) for half in inputs.chunk(2, dim=3)], dim=1)
        logits: Tensor = self.toy(SCALE * halves)
        return logits


def value(model: Model, inputs: Tensor) -> Tensor:
    """f, the logit of class 0."""
    return compute.logits(model, inputs)[:, 0]


def explained(name: str, toy: toys.Formula, inputs: Tensor, more: int = 1) -> Tensor:
    """(n, 2): the attribution of each half, with `more` times `DRAWS`.

    Raises:
        InputError: the map is zero everywhere, so that it shows nothing.
        XaiError: the method does not take such a function.
    """
    takes = METHODS[name].parameters
    own: dict[str, Any] = {key: count * more for key, count in DRAWS.items() if key in takes}
    several = next((key for key in ("n_baselines", "n_references") if key in takes), None)
    if several:
        black = torch.zeros_like(inputs[:1]).expand(REFERENCES, -1, -1, -1)
        own |= {several: REFERENCES, "baseline": {"dataset_samples": {"reference": black}}}
    elif "baseline" in takes:
        own["baseline"] = "black"
    if "base" in takes and takes["base"].default == "integrated_gradients":
        own["base"] = {"integrated_gradients": {"steps": DRAWS["steps"] * more}}
    own |= {"iterations": ITERATIONS} if "iterations" in takes else {}
    own |= {"segments": HALVES} if "segments" in takes else {}
    own |= {"patch": SMALL // 2, "stride": SMALL // 2} if "patch" in takes else {}
    own |= {"score": "logit"} if "score" in takes and name not in BY_PROBABILITY else {}
    own |= {"max_batch": 4096} if "max_batch" in takes else {}
    made = METHODS.bind(name, **own)(Halves(toy), inputs, torch.zeros(len(inputs), dtype=torch.int64))
    if not made.any():
        raise InputError(f"{name}: the map is zero")
    whole = {"patch", "n_masks"} & set(takes) or ("segments" in takes and "base" not in takes)
    halves = torch.stack([half.flatten(1).sum(1) for half in made.chunk(2, dim=3)], dim=1)
    return halves / (SMALL * SMALL / 2) if whole else halves


def _worst(violations: Iterable[Callable[[], Tensor]]) -> float:
    """The largest of those that can be had, each a root mean square over pictures.

    Raises:
        XaiError: the method takes none of the functions.
    """
    found, refused = [], None
    for violation in violations:
        try:
            found.append(float(violation().square().mean().sqrt()))
        except XaiError as error:
            refused = error
    if not found:
        raise refused or InputError("no function to check")
    return max(found)


def completeness(name: str, more: int) -> float:
    """sum_i A_i = f(x) - f(x')."""
    x = _pictures(SMALL)
    start = OWN.get(name, torch.zeros_like)(x)

    def gap(toy: toys.Formula) -> Tensor:
        return explained(name, toy, x, more).sum(1) - value(Halves(toy), x) + value(Halves(toy), start)

    return _worst(partial(gap, toy) for toy in (*RECTIFIED, *CURVED))


def null_player(name: str, more: int) -> float:
    """f does not depend on a feature: its attribution is 0."""
    return _worst([lambda: explained(name, CANCELLING, _pictures(SMALL).flip(3), more)[:, 1]])


def invariance(name: str, more: int) -> float:
    """Two nets with one function have one map."""
    x = _pictures(SMALL)

    def difference(first: toys.Formula, second: toys.Formula) -> Tensor:
        return explained(name, first, x, more) - explained(name, second, x, more)

    return _worst(partial(difference, *two) for two in TWINS.values())


def linearity(name: str, more: int) -> float:
    """A of 2 F - 3 G is 2 A(F) - 3 A(G), for nets of three classes whose second best classes differ."""
    x = _pictures(SMALL)

    def net(f: toys.Formula, slope: tuple[float, float]) -> toys.Formula:
        return toys.Formula(lambda m: torch.stack([f.formula(m), slope[0] * m[:, 0] + slope[1] * m[:, 1], 0 * m[:, 0]], dim=1))

    def difference(pair: Toys) -> Tensor:
        f, g = net(pair[0], (0.5, 0.0)), net(pair[1], (0.0, -1.0))
        both = toys.Formula(lambda m: 2 * f.formula(m) - 3 * g.formula(m))
        whole, first, second = (explained(name, one, x, more) for one in (both, f, g))
        return whole - 2 * first + 3 * second

    return _worst(partial(difference, pair) for pair in (RECTIFIED, (RECTIFIED[0], CURVED[0])))


def symmetry(name: str, more: int) -> float:
    """f(x1, x2) = f(x2, x1) and x1 = x2: equal attributions. The picture is its own mirror image."""
    left = _pictures(SMALL)[..., : SMALL // 2]
    x = torch.cat([left, left.flip(3)], dim=3)

    def difference(toy: toys.Formula) -> Tensor:
        made = explained(name, toy, x, more)
        return made[:, 0] - made[:, 1]

    return _worst(partial(difference, toy) for toy in (EVEN, CURVED[0]))


AXIOMS: dict[str, Callable[[str, int], float]] = {
    "Complete": completeness,
    "Null player": null_player,
    "Implementation invariant": invariance,
    "Linear": linearity,
    "Symmetric": symmetry,
}


@cache
@one_thread()
def axiom(name: str, which: str) -> str:
    """What is found of one axiom: "holds", "in the limit", "violated", or "–" where the method does not take such functions.

    In the limit: what is missing falls by half or more with `MORE` times as many steps, samples or masks. A check can refute
    a method, not prove it.
    """
    if METHODS[name].traits.get("table"):
        return "–"
    check = AXIOMS[which]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            few = check(name, 1)
            many = check(name, MORE) if few > EXACT else few
    except XaiError:
        return "–"
    if few <= EXACT:
        return "holds"
    return "in the limit" if many <= few / 2 else "violated"


@cache
@one_thread()
def families() -> dict[str, dict[str, str]]:
    """By method, by family of nets: "accepted", "repaired", "refused" or "failed" (see `adoptability`)."""
    asked = [{name: _few(entry)} for name, entry in METHODS.items() if not entry.traits.get("table")]
    made: dict[str, dict[str, str]] = {}
    for family, (model, image) in wsol_families.families().items():
        for row in adoptability(model, image, asked):
            made.setdefault(row["method"], {})[family] = row["verdict"]
    return made


def _few(entry: Entry) -> dict[str, Any]:
    own: dict[str, Any] = {key: few for key, few in FEW.items() if key in entry.parameters}
    return own | ({"segments": QUARTERS} if "segments" in entry.parameters else {})

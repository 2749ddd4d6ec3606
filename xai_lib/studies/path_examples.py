"""Study `path_attribution`, part 4: what needs no network. Examples 1 and 2, and the errata with their numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from xai_lib import METHODS, compute, toys
from xai_lib.compendium.results import COLUMNS
from xai_lib.desired import desired_baseline
from xai_lib.methods.credible import credible_paths
from xai_lib.types import Model

POINTS = {"x^a = (1.5, 1.5)": (1.5, 1.5), "x^b = (4, 4)": (4.0, 4.0)}
PRINTED = {"example 1": ((3.5, 6.5), (20.0, 19.0)), "example 2": ((-6.0, -1.5), (4.0, 1.0))}
STARTS = {"example 1": (0.0, 0.0), "example 2": (3.0, 3.0)}
STEPS = 6000


def row(*values: float) -> Tensor:
    """One row of a table."""
    return torch.tensor([values], dtype=torch.float64)


def integrated(model: Model, x: Tensor, start: Tensor, steps: int = STEPS) -> Tensor:
    """Integrated Gradients of class 0 by middle sums."""
    targets = torch.zeros(len(x), dtype=torch.int64)
    return METHODS.bind("integrated_gradients", baseline=lambda _: start, steps=steps, rule="middle")(model, x, targets)


def example(name: str) -> dict[str, tuple[float, ...]]:
    """The attributions of one example of document 001 at its two points, computed."""
    start = row(*STARTS[name])
    return {label: tuple(integrated(toys.credible_example(), row(*x), start)[0].tolist()) for label, x in POINTS.items()}


def example_rows(n: int = 200, seed: int = 0) -> pd.DataFrame:
    """Examples 1 and 2 as printed and as computed, and how often |A1 / A2| = 4 for random x and x' in the second piece.

    Rows `example 1` and `example 2`, methods "printed" and "computed", a row per component; `ratio is 4`, methods "any baseline
    in the piece" and "baselines on the diagonal of x", 1 where | |A1/A2| - 4 | < 0.01, one row per pair (claims B1, B2).
    """
    frames = []
    for name, printed in PRINTED.items():
        labels = [f"A{i} at {label}" for label in POINTS for i in (1, 2)]
        for method, values in (("printed", printed), ("computed", example(name).values())):
            frames.append(_toy_rows(method, name, labels, [v for pair in values for v in pair]))
    generator = torch.Generator().manual_seed(seed)
    x, start = 1.1 + 4 * torch.rand(2, n, 2, generator=generator, dtype=torch.float64)
    shift = 0.1 + torch.rand(n, 1, generator=generator, dtype=torch.float64)
    for method, own in (("any baseline in the piece", start), ("baselines on the diagonal of x", x + shift)):
        made = integrated(toys.credible_example(), x, own, steps=1)  # one piece is linear: one node is exact
        right = ((made[:, 0] / made[:, 1]).abs() - 4).abs() < 0.01
        frames.append(_toy_rows(method, "ratio is 4", [f"pair {k}" for k in range(n)], right.double().tolist(), seed))
    return pd.concat(frames)


def _toy_rows(method: str, metric: str, samples: Sequence[str], values: Sequence[float], seed: int = 0) -> pd.DataFrame:
    """Tidy rows of a model given by a formula."""
    frame = pd.DataFrame({"sample": list(samples), "value": list(values)})
    return frame.assign(
        dataset="examples", model="piecewise linear", method=method, method_parameters="{}", metric=metric,
        metric_parameters="{}", seed=seed, seconds=float("nan"), flag="",
    )[list(COLUMNS)]  # fmt: skip


def errata() -> pd.DataFrame:
    """What is printed beside what comes out, each row computed here."""
    zero = torch.zeros(1, dtype=torch.int64)
    model = toys.credible_example(continuous=False)
    jump = compute.scores(model, row(1 + 1e-9, 1 + 1e-9), zero) - compute.scores(model, row(1, 1), zero)
    one, two = example("example 1").values()
    ratio = integrated(toys.credible_example(), row(4, 4), row(2, 3), steps=1)[0].tolist()
    squares, x, start = toys.half_square([2.0, 2.0, -2.0, 2.0]), row(1, 0.5, 0.5, 0.25), row(0, 1, 0, 0.75)
    own: dict[str, Any] = {"baseline": lambda _: start, "n_baselines": 1, "steps": 50, "rule": "middle"}
    printed, meant, reverse = (
        credible_paths(squares, x, zero, **own, **change).attributions
        for change in ({"check": "printed"}, {}, {"reading": "Brev"})
    )
    change = (compute.scores(squares, x, zero) - compute.scores(squares, start, zero)).item()
    away, back = (_one_pixel(objective) for objective in ("cross_entropy", "logit_l2"))
    paper, code = (_adversarial(variant) for variant in ("paper", "official_code"))
    lines = [
        ("Example 1", "A(x^a) = {3.5, 6.5}, A(x^b) = {20, 19}", f"{_text(one)}, {_text(two)}: the first piece is 1 long"),
        ("Example 1", "completeness holds (Definition 2)", f"F jumps by {jump.item():.0f} at (1, 1), on both paths"),
        ("Example 2", "|A1 / A2| = 4 for every x' in the piece", f"A = {_text(ratio)} for x = (4, 4), x' = (2, 3)"),
        ("Algorithm 2, lines 4 and 10", "an attribution", f"{_share_nan(printed)} of the values are NaN: 0 / 0"),
        ("Definition 7 and F3", "absence is where the gradient is steeper",
         f"{_text(meant[0].tolist())} with the printed sign, {_text(reverse[0].tolist())} with that of the text"),
        ("section 6", "inherits the axioms of path methods",
         f"a toy's attributions sum to {meant.sum().item():.2f}, F changes by {change:.2f}"),
        ("Lemma 1", "cross-entropy steps lead to F(x)",
         f"one pixel, 0.2 above x: in 20 steps never nearer than {away:.2f}; steps on the distance itself come to {back:.2f}"),
        ("Table 1, row AGI", "Adversarial Gradient Integration",
         f"on a toy the code it used sums to {code:.2f}, the method to {paper:.2f}: its path never leaves the first step"),
        ("Table 3, ResNet-50", "gain 7.1 %", f".5889 against .5502 is {100 * (0.5889 / 0.5502 - 1):.2f} %"),
        ("Table 4", "filter and baseline both contribute", "of the gain over Integrated Gradients the filter alone has "
         + ", ".join(f"{100 * share:.1f} %" for share in _filter_shares())),
    ]  # fmt: skip
    return pd.DataFrame(lines, columns=["where", "printed", "computed here"])


def _one_pixel(objective: str) -> float:
    """How near 20 steps of 0.05 come to x = 0.5 from 0.7, for F = (x, 0)."""
    model, x = toys.Formula(lambda x: x.flatten(1).sum(1)), torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64)
    own: dict[str, Any] = {"eta": 0.05, "epsilon": 0.0, "delta": 0.0, "max_iterations": 20}
    return desired_baseline(model, x, start=lambda x: torch.full_like(x, 0.7), objective=objective, **own).distance.item()


def _adversarial(variant: str) -> float:
    model, x = toys.linear([[1.0, -2.0], [-1.0, 2.0]]), torch.tensor([[0.6, 0.2]])
    explain = METHODS.bind("adversarial_gradient_integration", variant=variant)
    return float(explain(model, x, torch.zeros(1, dtype=torch.int64)).sum())


def _filter_shares() -> list[float]:
    """(check on a black baseline - IG) / (proposed - IG), from Tables 1 and 4 of the document."""
    plain, checked, proposed = (0.3711, 0.5042, 0.2532), (0.3809, 0.5112, 0.2552), (0.5311, 0.6228, 0.4023)
    return [(b - a) / (c - a) for a, b, c in zip(plain, checked, proposed, strict=True)]


def _share_nan(values: Tensor) -> str:
    return f"{100 * torch.isnan(values).double().mean().item():.0f} %"


def _text(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{v:.3g}" for v in np.round(np.asarray(values), 3) + 0.0) + ")"

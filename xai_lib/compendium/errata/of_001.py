"""Document 001, credible path attribution: ten scripts."""

import numpy as np
import torch
from scipy import stats

from xai_lib import METHODS, toys
from xai_lib.compendium.errata import Shown, erratum
from xai_lib.desired import push_away
from xai_lib.validity import valid_features

FIRST = torch.zeros(1, dtype=torch.long)
TABLE_1 = {"IG": [0.3711, 0.5042, 0.2532], "ours": [0.5311, 0.6228, 0.4023]}
TABLE_4 = {"ours with IG's baseline": [0.3809, 0.5112, 0.2552]}
GAIN_AND_CONFIDENCE = {  # by table: gains in percent, average confidences
    "Table 1": ([43.1, 23.5, 58.8], [0.77, 0.81, 0.69]),
    "Table 2": ([43.1, 34.5, 48.1], [0.77, 0.75, 0.64]),
    "Table 3": ([7.1, 16.1, 5.0], [0.81, 0.74, 0.79]),
}


def curved() -> torch.nn.Module:
    """f = (2 x1^2 + 2 x2^2 - 2 x3^2 + 2 x4^2) / 2."""
    return toys.half_square((2.0, 2.0, -2.0, 2.0))


@erratum("E1.1", "001", place="Example 1", here="The integrals by hand, by our code and by Captum.")
def example_one() -> Shown:
    """Integrated Gradients of (1.5, 1.5) and (4, 4) from 0: the path's part in the first region was given a wrong length."""
    net = toys.credible_example()
    x = torch.tensor([[1.5, 1.5], [4.0, 4.0]], dtype=torch.float64)
    made = METHODS.bind("integrated_gradients", steps=4000, rule="middle")(net, x, FIRST.expand(2))
    return Shown(right=made.round(decimals=2).flatten().tolist(), found=[3.5, 6.5, 20.0, 19.0])


@erratum("E1.2", "001", place="Example 2", here="The ratio is 4 only where both inputs differ equally from the baseline.")
def in_general() -> Shown:
    """In general |A1 / A2| = 4 when the baseline lies in the second region. From (2, 3) to (4, 4) it is not."""
    net = toys.credible_example()
    x, start = torch.tensor([[4.0, 4.0]]), torch.tensor([[2.0, 3.0]])
    made = METHODS.bind("integrated_gradients", baseline=lambda _: start)(net, x, FIRST)[0]
    return Shown(right=(made[0] / made[1]).item(), found=4.0)


@erratum("E1.3", "001", place="Proposition 2", here="Tested as a statement on A / (x - x').")
def weak_dependence() -> Shown:
    """Attributions are said to depend weakly on x inside one region, that is, to be the same there. They are (x - x') w."""
    net = toys.credible_example()
    x, start = torch.tensor([[4.0, 4.0], [5.0, 5.0]]), torch.full((2, 2), 3.0)
    one, other = METHODS.bind("integrated_gradients", baseline=lambda _: start)(net, x, FIRST.expand(2))
    return Shown(right=[one.tolist(), other.tolist()], found="one map")


@erratum(
    "E1.6", "001", place="Algorithm 2, line 9", here="Attributions are made in [0, 1]; the readings without units are options."
)
def units() -> Shown:
    """Line 9 compares a gradient with a gradient times a difference of inputs: how many features pass depends on their unit."""
    weights, way = torch.tensor([3.0, -2.0, 1.0, -4.0]), torch.tensor([0.5, 0.5, -0.5, -0.5])
    in_unit = valid_features("A", weights, weights, way).sum().item()
    in_levels = valid_features("A", weights / 255, weights / 255, way * 255).sum().item()
    return Shown(right=int(in_unit), found=int(in_levels))


@erratum("E1.7", "001", place="Algorithm 2, line 4", here="Two variables, as the text means it; the printed form is an option.")
def printed_algorithm() -> Shown:
    """Line 4 sets to 0 the variable that line 1 filled with the gradient at x. Nothing passes then, and line 11 is 0 / 0."""
    x, start = torch.tensor([[1.0, 0.5, 0.5, 0.25]]), torch.tensor([[0.0, 1.0, 0.0, 0.75]])
    own = {"baseline": lambda _: start, "n_baselines": 1, "steps": 50, "rule": "middle"}
    meant, printed = (
        METHODS.bind("credible_path_attribution", check=c, **own)(curved(), x, FIRST) for c in ("valid", "printed")
    )
    return Shown(right=meant[0].tolist(), found=printed[0].tolist())


@erratum("E1.8", "001", place="section 6", here="The gap is reported with every map.")
def axioms() -> Shown:
    """The method is said to inherit the axioms of path attribution. Completeness: the sum should be f(x) - f(x')."""
    x, start = torch.tensor([[1.0, 0.5, 0.5, 0.25]]), torch.tensor([[0.0, 1.0, 0.0, 0.75]])
    own = {"baseline": lambda _: start, "n_baselines": 1, "steps": 50, "rule": "middle"}
    made = METHODS.bind("credible_path_attribution", **own)(curved(), x, FIRST)
    change = (curved()(x) - curved()(start))[0, 0]
    return Shown(right=change.item(), found=made.sum().item())


@erratum("E1.10", "001", place="Lemma 1", here="Steps on the distance of the logits itself; those of the lemma are an option.")
def lemma() -> Shown:
    """Steps against the cross-entropy are said to bring the logits of x' to those of x. They raise the class without end."""
    x, point = torch.tensor([1.0]), torch.tensor([0.0], requires_grad=True)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(torch.stack([point, 0 * point], dim=1), FIRST)
        (gradient,) = torch.autograd.grad(loss, point)
        point = (point - 0.1 * gradient.sign()).detach().requires_grad_()
    return Shown(right=0.0, found=(x - point).abs().item())


@erratum("E1.11", "001", place="Algorithm 1, line 7", here="The other side is taken where clipping undoes the distance.")
def clipped() -> Shown:
    """Line 6 moves a pixel to distance delta, line 7 clips it back: x = 0.98, x' = 0.99, delta = 0.1."""
    x, start = torch.full((1, 1, 1, 1), 0.98), torch.full((1, 1, 1, 1), 0.99)
    kept, printed = (push_away(x, start, 0.1, constraint) for constraint in ("enforced", "printed"))
    return Shown(right=(x - kept).abs().item(), found=(x - printed).abs().item())


@erratum("E1.12", "001", place="section 7", here="Tested over images instead of three models.")
def gain_and_confidence() -> Shown:
    """The gain is said to fall with the model's confidence, in all three tables. Rank correlations of three models:"""
    found = [float(stats.spearmanr(*pair).statistic) for pair in GAIN_AND_CONFIDENCE.values()]
    return Shown(right=found, found=[-1.0, -1.0, -1.0])


@erratum("E1.13", "001", place="Table 4", here="The missing cell, desired baseline with plain IG, is measured.")
def both_contribute() -> Shown:
    """Both parts are said to contribute. Shares of the gain over IG that the check alone (IG's baseline) has, by model:"""
    reference, whole, part = (np.array(v) for v in (TABLE_1["IG"], TABLE_1["ours"], *TABLE_4.values()))
    return Shown(right=np.round((part - reference) / (whole - reference), 3).tolist(), found="both")

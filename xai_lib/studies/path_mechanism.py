"""Study `path_attribution`, part 3: are the premises met? Desired baselines, validity, cells, axioms, saturation."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pandas as pd
import torch
from torch import Tensor, nn

from xai_lib import baselines, compute, hooks
from xai_lib.compendium.experiments import study_task
from xai_lib.desired import DesiredBaseline
from xai_lib.studies.baseline_choice import blindness
from xai_lib.studies.case import Case, rows
from xai_lib.studies.path_maps import ACCEPTED, CREDIBLE, IG, Panel, kept, searched
from xai_lib.validity import READINGS, valid_features

OBJECTIVES = ("logit_l2", "cross_entropy")
POSITIONS = (0.1, 0.3, 0.5, 0.7, 0.9)


@study_task(label="Desired baselines, validity, cells, axioms")
def mechanism_rows(case: Case, *, steps: int, sigmas: Sequence[float], search: Mapping[str, Any]) -> pd.DataFrame:
    """Everything this module measures, for a few images, on the maps and baselines of the full panel."""
    panel = kept(case, panel="full", steps=steps, sigmas=sigmas, search=search)
    found = {("logit_l2", sigma): one for sigma, one in zip(sigmas, panel.found, strict=True)}
    found |= {("cross_entropy", sigma): searched(case, "cross_entropy", sigma, search) for sigma in sigmas}
    middle = panel.found[len(sigmas) // 2].baselines
    return pd.concat(
        [
            search_rows(case, found),
            acceptance(case, middle),
            cells(case, {"desired baseline": middle, "blur": baselines.draw("blur", case.inputs), "black": 0 * case.inputs}),
            saturation(case),
            axioms(case, panel, steps=steps),
        ]
    )


def search_rows(case: Case, found: Mapping[tuple[str, float], DesiredBaseline]) -> pd.DataFrame:
    """How far Algorithm 1 comes (claim B4), for each objective and blur; without a blur: the mean over blurs.

    distance_ratio  ||z(x) - z(x')|| at the end over that at the start
    relative_distance  the same over ||z(x)||
    violations  share of features nearer than delta;  iterations;  probability_there of the class predicted at x
    """
    frames = []
    for objective in OBJECTIVES:
        own = [one for (name, _), one in found.items() if name == objective]
        sigmas = [sigma for name, sigma in found if name == objective]
        measured = {
            "distance_ratio": [one.distance / one.start_distance for one in own],
            "relative_distance": [one.distance / one.norm for one in own],
            "violations": [one.violations for one in own],
            "iterations": [one.iterations.double() for one in own],
            "probability_there": [one.probability for one in own],
        }
        for metric, values in measured.items():
            frames.append(rows(case, objective, metric, torch.stack(values).double().mean(0)))
            frames += [rows(case, f"{objective}, sigma {s:g}", metric, v) for s, v in zip(sigmas, values, strict=True)]
    return pd.concat(frames)


def acceptance(case: Case, start: Tensor) -> pd.DataFrame:
    """Which share of features is valid along the line, for each reading, and how often the two signs agree (claim B12).

    Rows `accepted`, method "reading <reading> at <position>", and `sign_agreement`, method "at <position>": plain gradients at
    the point and at x, over the features where both differ from 0. Chance is 0.5.
    """
    points = [start + position * (case.inputs - start) for position in POSITIONS]
    rho, *others = gradients(case, [case.inputs, *points])
    frames = []
    for position, point, gradient in zip(POSITIONS, points, others, strict=True):
        for reading in READINGS:
            share = valid_features(reading, rho, gradient, case.inputs - point).flatten(1).double().mean(1)
            frames.append(rows(case, f"reading {reading} at {position:g}", "accepted", share))
        both = (rho != 0) & (gradient != 0)
        same = ((rho.sign() == gradient.sign()) & both).flatten(1).double().sum(1) / both.flatten(1).double().sum(1)
        frames.append(rows(case, f"at {position:g}", "sign_agreement", same))
    return pd.concat(frames)


def gradients(case: Case, points: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of the score at several points for each image, in full passes."""
    asked: dict[str, Any] = {"score": case.score, "max_batch": case.max_batch}
    made = compute.input_gradient(case.model, torch.cat(list(points)), case.targets.repeat(len(points)), **asked)
    return list(made.chunk(len(points)))


def cells(case: Case, starts: Mapping[str, Tensor]) -> pd.DataFrame:
    """Share of activations in another linear piece at x' than at x (claim B3): Proposition 2 needs none.

    Units of ReLU (below or above 0) and of ReLU6 (below 0, between, above 6); undefined for a network without them.
    """
    here = _pieces(case, case.inputs)
    frames = []
    for label, start in starts.items():
        changed = (here != _pieces(case, start)).double()
        share = changed.mean(1) if changed.shape[1] else changed.new_full((len(changed),), torch.nan)
        frames.append(rows(case, label, "units_in_another_piece", share, flag="no ReLU or ReLU6"))
    return pd.concat(frames)


def _pieces(case: Case, inputs: Tensor) -> Tensor:
    """The linear piece of every unit, (n, units)."""
    model = cast(nn.Module, case.model)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.ReLU | nn.ReLU6)}
    made = [torch.empty((len(inputs), 0), dtype=torch.int8)]
    with hooks.probe(model, list(layers)) as seen:
        compute.logits(case.model, inputs, max_batch=len(inputs))
        for name, layer in layers.items():
            out = seen[name].flatten(1)
            made.append((out > 0).to(torch.int8) + ((out >= 6).to(torch.int8) if isinstance(layer, nn.ReLU6) else 0))
    return torch.cat([piece.cpu() for piece in made], dim=1)


def saturation(case: Case) -> pd.DataFrame:
    """Norm of the gradient along the line from black, over its mean on the line (claim B20).

    Rows `gradient_norm`, method "at <position>", with "at the image" for position 1 and "mean of the line" for the mean, 1.
    """
    places = (0.05, *POSITIONS, 1.0)
    norms = [g.flatten(1).norm(dim=1).double() for g in gradients(case, [place * case.inputs for place in places])]
    mean = torch.stack(norms).mean(0)
    labels = [f"at {place:g}" for place in places[:-1]] + ["at the image"]
    frames = [rows(case, label, "gradient_norm", norm / mean) for label, norm in zip(labels, norms, strict=True)]
    return pd.concat([*frames, rows(case, "mean of the line", "gradient_norm", torch.ones_like(mean))])


def axioms(case: Case, panel: Panel, *, steps: int) -> pd.DataFrame:
    """Completeness, cost and dark pixels of Integrated Gradients and of the credible method (claims B13, B15, B16).

    completeness_error  |sum A - (f(x) - mean_b f(x'_b))| / |f(x) - f(black)|
    gradient_passes  forward and backward passes of the image;  passes_over_ig  over those of Integrated Gradients
    share_on_darkest  see `baseline_choice.blindness`
    """
    asked: dict[str, Any] = {"score": case.score, "max_batch": case.max_batch}
    plain, ours, found = panel.maps[IG], panel.maps[CREDIBLE], panel.found
    here, black = (compute.scores(case.model, x, case.targets, **asked) for x in (case.inputs, torch.zeros_like(case.inputs)))
    there = torch.stack([compute.scores(case.model, one.baselines, case.targets, **asked) for one in found]).mean(0)
    passes = torch.stack([one.iterations for one in found]).sum(0) + len(found) + 1
    passes = passes + steps // len(found) * len(found)
    frames = [
        rows(case, ACCEPTED, "accepted", panel.accepted.double().mean(1)),
        rows(case, CREDIBLE, "passes_over_ig", passes.double() / steps),
        blindness(case, {IG: plain, CREDIBLE: ours}),
    ]
    for label, attributions, start, cost in (
        (IG, plain, black, torch.full_like(passes, steps)),
        (CREDIBLE, ours, there, passes),
    ):
        values = {
            "completeness_error": (attributions.flatten(1).sum(1) - (here - start)).abs() / (here - black).abs(),
            "gradient_passes": cost.double(),
        }
        frames += [rows(case, label, metric, value) for metric, value in values.items()]
    return pd.concat(frames)

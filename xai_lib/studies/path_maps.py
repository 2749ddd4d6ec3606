"""Study `path_attribution`, part 1: the maps of all methods, with the gradients that several of them share computed once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from xai_lib import baselines, compute
from xai_lib.compendium.experiments import stored, study_task
from xai_lib.desired import DesiredBaseline, desired_baseline, scaled
from xai_lib.errors import ConfigError
from xai_lib.methods.credible import CrediblePaths, credible_variants
from xai_lib.studies.case import Case, explainer

CREDIBLE = "credible, reading A"
IG = "IG, black"
UNCHECKED = {"check": "none", "divide": "steps"}
OURS: dict[str, dict[str, str]] = {
    CREDIBLE: {},
    "credible, reading B": {"reading": "B"},
    "credible, reading Brev": {"reading": "Brev"},
    "credible, random mask": {"check": "random"},
    "desired baselines, no check": UNCHECKED,
}
CONTROLS = ("random map", "centre bump", "|x - mean|", "|x - x'|", "gradient x |x - x'|")
PANELS = ("full", "three", "two")
ACCEPTED = "accepted by the check"
SEARCH = "Algorithm 1, baseline "


@dataclass(frozen=True)
class Panel:
    """The maps of a panel and what the credible method found on its way.

    maps      {label: (n, ...)}
    accepted  (n, B) share of feature values that passed the check of reading A
    found     what Algorithm 1 returned for each of the B blurs
    """

    maps: dict[str, Tensor]
    accepted: Tensor
    found: tuple[DesiredBaseline, ...]


def simple_methods(steps: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """Methods of Table 1 that need nothing of Algorithm 1: {label: (name, parameters)}.

    Each has about `steps` gradients, Adversarial Gradient Integration about `steps` pairs of them.
    """
    classes, most = max(1, steps // 8), min(8, steps)
    return {
        IG: ("integrated_gradients", {"steps": steps}),
        "IG, Gaussian noise": ("integrated_gradients", {"baseline": "gaussian_noise", "steps": steps}),
        "IG, average": ("integrated_gradients", {"baseline": "average", "steps": steps}),
        "EG, a reference each": ("expected_gradients", {"steps": steps}),
        "EG, 3 references": ("expected_gradients", {"steps": max(1, steps // 3), "n_references": 3}),
        "AGI": ("adversarial_gradient_integration", {"n_classes": classes, "max_iter": most}),
        "AGI, official code": (
            "adversarial_gradient_integration",
            {"n_classes": classes, "max_iter": most, "variant": "official_code"},
        ),
        "guided IG": ("guided_integrated_gradients", {"steps": steps}),
        "blur IG": ("blur_integrated_gradients", {"steps": steps}),
    }


def panel_of(panel: str, steps: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """The simple methods of a panel: "full", "three" (IG with black and average: Table 3) or "two" (IG with black: Table 2)."""
    if panel not in PANELS:
        raise ConfigError(f"panel={panel!r}: expected one of {', '.join(PANELS)}")
    every = simple_methods(steps)
    return every if panel == "full" else {k: every[k] for k in (IG, "IG, average")[: 2 if panel == "three" else 1]}


def searched(case: Case, objective: str, sigma: float, search: Mapping[str, Any]) -> DesiredBaseline:
    """Algorithm 1 from the blur of `sigma` (pixels of a 224-pixel side)."""
    width = scaled(sigma, case.inputs)
    return desired_baseline(case.model, case.inputs, sigma=width, objective=objective, max_batch=case.max_batch, **search)


def credible(
    case: Case, variants: Mapping[str, Mapping[str, str]], *, found: Sequence[DesiredBaseline] = (), **own: Any
) -> dict[str, CrediblePaths]:
    """Variants of Algorithm 2 on a case, from one computation.

    Args:
        found: what Algorithm 1 returned for these blurs before. It is then started where it ended and takes no step, which
            costs one look at each baseline and gives the same maps.
        own: of `credible_variants`.
    """
    shared: dict[str, Any] = {"score": case.score, "seed": case.seed, "max_batch": case.max_batch}
    if not found:
        return credible_variants(case.model, case.inputs, case.targets, variants, **shared, **own)
    again = iter(found)
    own = {**own, "start": lambda _: next(again).baselines, "max_iterations": 0}
    made = credible_variants(case.model, case.inputs, case.targets, variants, **shared, **own)
    return {label: replace(one, found=tuple(found)) for label, one in made.items()}


def away(case: Case, found: Sequence[DesiredBaseline]) -> Tensor:
    """mean_b |x - x'_b|, a map that knows no gradient at the image."""
    return torch.stack([(case.inputs - one.baselines).abs() for one in found]).mean(0)


def panel_maps(case: Case, *, panel: str, steps: int, sigmas: Sequence[float], search: Mapping[str, Any]) -> Panel:
    """Maps of a panel by label.

    Args:
        panel: see `panel_of`; all have the credible method, "full" also its variants, ablations and controls.
        steps: gradients per map, shared by the baselines of the credible method (which has those of Algorithm 1 besides).
        sigmas: blurs of the desired baselines.
        search: parameters of Algorithm 1 (eta, epsilon, delta, max_iterations).
    """
    request = (case.model, case.inputs, case.targets)
    made = {label: explainer(case, name, **own)(*request) for label, (name, own) in panel_of(panel, steps).items()}
    variants = OURS if panel == "full" else {CREDIBLE: OURS[CREDIBLE]}
    ours = credible(case, variants, n_baselines=len(sigmas), steps=steps, sigmas=sigmas, **search)
    made |= {label: one.attributions for label, one in ours.items()}
    found = ours[CREDIBLE].found
    if panel == "full":
        alone = found[len(found) // 2].baselines
        for where, start in {"one desired baseline": lambda _: alone, "black baseline": "black"}.items():
            both = {f"{where}, check": {}, f"{where}, no check": UNCHECKED}
            parts = credible(case, both, baseline=start, n_baselines=1, steps=steps)
            made |= {label: one.attributions for label, one in parts.items()}
    made["|x - x'|"] = away(case, found)
    made["random map"] = explainer(case, "random_attribution")(*request)
    if panel == "full":
        gradient = compute.input_gradient(*request, score=case.score, max_batch=case.max_batch)
        made["gradient x |x - x'|"] = gradient * made["|x - x'|"]
        made["|x - mean|"] = (case.inputs - baselines.average(case.inputs)).abs()
        made["centre bump"] = explainer(case, "centre_gaussian")(*request)
    return Panel(made, ours[CREDIBLE].accepted, found)


@study_task(label="Maps of the path methods")
def kept_maps(case: Case, *, panel: str, steps: int, sigmas: Sequence[float], search: Mapping[str, Any]) -> dict[str, Tensor]:
    """`panel_maps` as tensors by name, for what several experiments measure on the same images."""
    made = panel_maps(case, panel=panel, steps=steps, sigmas=sigmas, search=search)
    searches = {
        f"{SEARCH}{b}: {field.name}": getattr(one, field.name) for b, one in enumerate(made.found) for field in fields(one)
    }
    return {**made.maps, ACCEPTED: made.accepted, **searches}


def kept(case: Case, *, panel: str, steps: int, sigmas: Sequence[float], search: Mapping[str, Any]) -> Panel:
    """The panel of a case from the store, computed and stored where it is not there."""
    named = stored(case, kept_maps, panel=panel, steps=steps, sigmas=sigmas, search=search)
    names = [field.name for field in fields(DesiredBaseline)]
    found = [DesiredBaseline(**{name: named[f"{SEARCH}{b}: {name}"] for name in names}) for b in range(len(sigmas))]
    maps = {label: value for label, value in named.items() if label != ACCEPTED and not label.startswith(SEARCH)}
    return Panel(maps, named[ACCEPTED], tuple(found))

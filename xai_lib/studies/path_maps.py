"""Study `path_attribution`, part 1: the maps of all methods, with the gradients that several of them share computed once."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from xai_lib import baselines, compute
from xai_lib.compendium.experiments import study_task
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


def simple_methods(steps: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """Methods of Table 1 that need nothing of Algorithm 1, each with about `steps` gradients: {label: (name, parameters)}."""
    classes = max(1, steps // 8)
    return {
        IG: ("integrated_gradients", {"steps": steps}),
        "IG, Gaussian noise": ("integrated_gradients", {"baseline": "gaussian_noise", "steps": steps}),
        "IG, average": ("integrated_gradients", {"baseline": "average", "steps": steps}),
        "EG, a reference each": ("expected_gradients", {"steps": steps}),
        "EG, 3 references": ("expected_gradients", {"steps": max(1, steps // 3), "n_references": 3}),
        "AGI": ("adversarial_gradient_integration", {"n_classes": classes, "max_iter": 8}),
        "AGI, official code": (
            "adversarial_gradient_integration",
            {"n_classes": classes, "max_iter": 8, "variant": "official_code"},
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


def credible(case: Case, variants: Mapping[str, Mapping[str, str]], **own: Any) -> dict[str, CrediblePaths]:
    """Variants of Algorithm 2 on a case, from one computation."""
    shared: dict[str, Any] = {"score": case.score, "seed": case.seed, "max_batch": case.max_batch}
    return credible_variants(case.model, case.inputs, case.targets, variants, **shared, **own)


def panel_maps(case: Case, *, panel: str, steps: int, sigmas: Sequence[float], search: Mapping[str, Any]) -> dict[str, Tensor]:
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
    found = [one.baselines for one in ours[CREDIBLE].found]
    if panel == "full":
        alone = found[len(found) // 2]
        for where, start in {"one desired baseline": lambda _: alone, "black baseline": "black"}.items():
            both = {f"{where}, check": {}, f"{where}, no check": UNCHECKED}
            parts = credible(case, both, baseline=start, n_baselines=1, steps=steps)
            made |= {label: one.attributions for label, one in parts.items()}
    away = torch.stack([(case.inputs - start).abs() for start in found]).mean(0)
    made["|x - x'|"] = away
    made["random map"] = explainer(case, "random_attribution")(*request)
    if panel == "full":
        gradient = compute.input_gradient(*request, score=case.score, max_batch=case.max_batch)
        made["gradient x |x - x'|"] = gradient * away
        made["|x - mean|"] = (case.inputs - baselines.average(case.inputs)).abs()
        made["centre bump"] = explainer(case, "centre_gaussian")(*request)
    return made


@study_task(label="Maps of the path methods")
def shown_maps(case: Case, *, panel: str, steps: int, sigmas: Sequence[float], search: Mapping[str, Any]) -> dict[str, Tensor]:
    """`panel_maps`, kept for figures."""
    return panel_maps(case, panel=panel, steps=steps, sigmas=sigmas, search=search)

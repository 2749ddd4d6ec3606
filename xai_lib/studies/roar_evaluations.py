"""Study `roar`: the evaluations of chapter 4 of document 002, on the nets that the retrainings explain.

Everything is per image, on test digits (region perturbation, insertion and deletion, sanity checks, certificates) or on
pictures with two labels (BAM), so that conditions are compared on the same images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from xai_lib import METHODS, METRICS, agreement, compute, data, maps, metrics
from xai_lib.compendium.results import COLUMNS
from xai_lib.compendium.retraining import Plan
from xai_lib.compendium.retraining_tasks import trained
from xai_lib.metrics.bam import bam_comparisons
from xai_lib.metrics.bam_patches import irrelevant_patches
from xai_lib.metrics.soundness import certificates, completeness_of, soundness_of
from xai_lib.similarity import similarity
from xai_lib.studies.roar import Spec
from xai_lib.types import Samples
from xai_lib.types import Spec as SpecOf

AOPC = "region perturbation"
GAME = "insertion minus deletion"
CHECK = "similarity to a random net"
FLOOR = "two random nets"
DATA = "similarity to a net of permuted labels"
COMPLETE, SOUND = "certificate completeness", "certificate soundness"
MAPS = "correlation of maps"
SIMILARITIES: Mapping[str, SpecOf] = {
    "Spearman": "spearman",
    "Spearman, absolute": {"spearman": {"absolute": True}},
    "SSIM, absolute": {"ssim": {"absolute": True}},
}
REGION = 4
"""Side of the regions in pixels: 49 of them on a digit."""


@dataclass(frozen=True)
class Judged:
    """A net, the pictures on which its maps are judged, and the classes that are explained (the predicted ones).

    shuffled  the same net trained on permuted labels; None leaves out the data randomisation test
    """

    name: str
    model: nn.Module
    samples: Samples
    targets: Tensor
    shuffled: nn.Module | None = None


def judged(plan: Plan, n: int, shuffled: Plan | None = None) -> Judged:
    """The net that the plan's retrainings explain, on its first n test pictures."""
    model = trained(plan.case, 0)
    samples = plan.samples("test").subset(range(n))
    other = trained(shuffled.case, 0, labels=1) if shuffled is not None else None
    return Judged(str(plan.net[0]), model, samples, compute.logits(model, samples.inputs).argmax(dim=1), other)


def attributions(case: Judged, panel: Mapping[str, Spec]) -> dict[str, Tensor]:
    """The maps of every method."""
    return {label: METHODS.bind(dict([spec]))(case.model, case.samples.inputs, case.targets) for label, spec in panel.items()}


def perturbation_rows(case: Judged, made: Mapping[str, Tensor], *, n_draws: int = 5) -> pd.DataFrame:
    """Region perturbation (AOPC) above that of regions in random order, and insertion minus deletion."""
    side = case.samples.inputs.shape[-1]
    shared = {"region": REGION, "n_regions": (side // REGION) ** 2 // 2, "n_draws": n_draws}
    words = {"model": case.model, "inputs": case.samples.inputs, "targets": case.targets}
    frames = []
    for label, maps_ in made.items():
        asked = {**words, "attributions": maps_}
        first, chance = (
            METRICS.ask(METRICS.bind(AOPC.replace(" ", "_"), order=how, **shared), asked) for how in ("morf", "random")
        )
        frames.append(rows(case, label, AOPC, first - chance, **shared))
        frames.append(rows(case, label, GAME, METRICS.ask(METRICS.bind("insertion_deletion", points=29), asked), points=29))
    return pd.concat(frames, ignore_index=True)


def sanity_rows(case: Judged, panel: Mapping[str, Spec], made: Mapping[str, Tensor], *, stages: int = 5) -> pd.DataFrame:
    """Similarity of maps to those under random parameters, from the top down and layer by layer, and under permuted labels."""
    frames = []
    for label, spec in panel.items():
        method = METHODS.bind(dict([spec]))
        common = (case.model, case.samples.inputs, case.targets)
        for order in ("cascading", "independent"):
            names, tables = metrics.randomisation_tables(
                *common, made[label], method, similarities=SIMILARITIES, order=order, stages=stages
            )
            for kind, table in tables.items():
                for k, (name, values) in enumerate(zip(names, table, strict=True)):
                    told = f"{CHECK} ({kind}, {order} {k + 1} of {len(names)})"
                    frames.append(rows(case, label, told, values, layer=name))
        floors = metrics.randomisation_floors(*common, method, similarities=SIMILARITIES)
        frames += [rows(case, label, f"{FLOOR} ({kind})", values) for kind, values in floors.items()]
        if case.shuffled is not None:
            other = metrics.data_randomisation(case.model, case.shuffled, *common[1:], made[label], method, absolute=True)
            frames.append(rows(case, label, DATA, other))
    return pd.concat(frames, ignore_index=True)


def certificate_rows(case: Judged, panel: Mapping[str, Spec], *, labels: int, points: int = 15) -> pd.DataFrame:
    """Completeness and soundness in the sense of Gupta et al., worst over labels."""
    frames = []
    for label, spec in panel.items():
        found = certificates(
            case.model, case.samples.inputs, case.targets, METHODS.bind(dict([spec])), labels=labels, points=points
        )
        pair = found.certificates, found.probabilities
        for metric, each in ((COMPLETE, completeness_of(*pair)), (SOUND, soundness_of(*pair))):
            frames.append(rows(case, label, metric, each.amin(dim=1), labels=labels, points=points))
    return pd.concat(frames, ignore_index=True)


def map_rows(case: Judged, made: Mapping[str, Tensor]) -> pd.DataFrame:
    """Rank correlation between the absolute maps of every two methods, image by image."""
    reduced = {label: maps.reduce(values, "sum") for label, values in made.items()}
    return pd.concat(
        [
            rows(case, f"{a} | {b}", MAPS, similarity(reduced[a], reduced[b], absolute=True))
            for a, b in combinations(reduced, 2)
        ],
        ignore_index=True,
    )


def bam_rows(plan: Plan, panel: Mapping[str, Spec], n: int, *, patch_steps: int = 100) -> pd.DataFrame:
    """Model contrast, input dependence and input independence on pictures that have an object label and a scene label.

    Args:
        plan: its nets learn the objects; the same nets with the label set "scene" learn the scenes.
        panel: methods.
        n: test pictures.
        patch_steps: of the search for patches that change no logit.
    """
    objects, scenes = trained(plan.case, 0), trained(plan.case, 0, labels="scene")
    samples = plan.samples("test").subset(range(n))
    own = {k: v for k, v in plan.test.items() if k != "n"}
    empty = data.load(**{**own, "objects": False}, ids=list(samples.ids)).inputs
    masks, label_sets = samples.masks, (samples.extra or {})
    if masks is None:
        masks = torch.stack([_box_mask(box, samples.inputs.shape[-2:]) for box in samples.boxes or ()])
    scene_targets = torch.as_tensor(label_sets["scene"])
    patches = irrelevant_patches(scenes, empty, samples.inputs, masks, max_iterations=patch_steps)
    case = Judged(str(plan.net[0]), objects, samples, samples.targets)
    frames = []
    for label, spec in panel.items():
        found = bam_comparisons(
            objects, scenes, samples.inputs, empty, samples.targets, scene_targets, masks, METHODS.bind(dict([spec])),
            patched=patches.inputs,
        )  # fmt: skip
        frames += [rows(case, label, name.replace("_", " "), each.values) for name, each in found.items()]
    return pd.concat(frames, ignore_index=True)


def _box_mask(box: Any, size: Sequence[int]) -> Tensor:
    mask = torch.zeros(tuple(size), dtype=torch.bool)
    for x0, y0, x1, y1 in np.asarray(box).round().astype(int):
        mask[y0:y1, x0:x1] = True
    return mask


def agreement_rows(scores: Mapping[str, pd.DataFrame], *, resamples: int = 500, seed: int = 0) -> pd.DataFrame:
    """Kendall's tau between the orders that evaluations give the same methods, with bootstrap intervals over their units.

    Args:
        scores: evaluation -> (units, methods) values, larger is better; units are images or trainings.
        resamples: of the units of both evaluations.

    Returns:
        One row per pair: first, second, tau, low, high, methods.
    """
    random = np.random.default_rng(seed)
    shared = [name for name in next(iter(scores.values())) if all(name in frame for frame in scores.values())]
    draws = {}
    for name, frame in scores.items():
        values = frame[shared].to_numpy()
        picked = random.integers(0, len(values), (resamples, len(values)))
        draws[name] = np.concatenate([np.nanmean(values, axis=0)[None], np.nanmean(values[picked], axis=1)])
    table = []
    for a, b in combinations(scores, 2):
        taus = agreement.kendall(draws[a], draws[b])
        low, high = np.nanpercentile(taus[1:], [2.5, 97.5])
        table.append({"first": a, "second": b, "tau": taus[0], "low": low, "high": high, "methods": len(shared)})
    return pd.DataFrame(table)


def rows(case: Judged, label: str, metric: str, values: Any, **parameters: Any) -> pd.DataFrame:
    """Tidy rows of one condition, one per image."""
    numbers = np.asarray(values, dtype=float)
    return pd.DataFrame(
        {
            "dataset": case.samples.name,
            "model": case.name,
            "method": label,
            "method_parameters": [{}] * len(numbers),
            "metric": metric,
            "metric_parameters": [parameters] * len(numbers),
            "sample": list(case.samples.ids),
            "seed": 0,
            "value": numbers,
            "seconds": np.nan,
            "flag": ["" if np.isfinite(v) else "undefined" for v in numbers],
        }
    )[list(COLUMNS)]

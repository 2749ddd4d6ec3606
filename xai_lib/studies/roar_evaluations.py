"""Study `roar`: the evaluations of chapter 4 of document 002, on the net of its Table 1.

Everything is per image, on test digits (region perturbation, insertion and deletion, sanity checks, certificates) or on
pictures with two labels (BAM), so that conditions are compared on the same images.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from xai_lib import METHODS, METRICS, agreement, compute, data, maps, metrics
from xai_lib.compendium.retraining import Plan
from xai_lib.compendium.retraining_tasks import trained
from xai_lib.metrics.bam import bam_comparisons
from xai_lib.metrics.bam_patches import irrelevant_patches
from xai_lib.metrics.soundness import certificates, completeness_of, soundness_of
from xai_lib.similarity import similarity
from xai_lib.studies.case import Case
from xai_lib.studies.case import rows as tidy_rows
from xai_lib.studies.roar import Spec
from xai_lib.studies.roar_rows import BELOW_RANDOM
from xai_lib.types import Samples
from xai_lib.types import Spec as SpecOf

AOPC = "region perturbation"
GAME = "insertion minus deletion"
CHECK = "similarity to a random net"
FLOOR = "two random nets"
DATA = "similarity to a net of permuted labels"
COMPLETE, SOUND = "certificate completeness", "certificate soundness"
MAPS = "correlation of maps"
ALIKE = "agreement of certificates"
SIMILARITIES: Mapping[str, SpecOf] = {
    "Spearman": "spearman",
    "Spearman, absolute": {"spearman": {"absolute": True}},
    "SSIM, absolute": {"ssim": {"absolute": True}},
}
REGION = 4
"""Side of the regions in pixels: 49 of them on a digit."""


def judged(plan: Plan, n: int) -> Case:
    """The net that the plan's retrainings explain, on its first n test pictures; the classes it predicts are explained."""
    return _case(plan, trained(plan.case, 0), plan.samples("test").subset(range(n)))


def _case(plan: Plan, model: nn.Module, samples: Samples, targets: Tensor | None = None) -> Case:
    vars(model)["name"] = str(plan.net[0])
    return Case(model, samples, compute.logits(model, samples.inputs).argmax(dim=1) if targets is None else targets)


def attributions(case: Case, panel: Mapping[str, Spec]) -> dict[str, Tensor]:
    """The maps of every method."""
    return {label: METHODS.bind(dict([spec]))(case.model, case.samples.inputs, case.targets) for label, spec in panel.items()}


def perturbation_rows(case: Case, made: Mapping[str, Tensor], *, n_draws: int = 5) -> pd.DataFrame:
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


def sanity_rows(
    case: Case, panel: Mapping[str, Spec], made: Mapping[str, Tensor], *, stages: int = 5, shuffled: Plan | None = None
) -> pd.DataFrame:
    """Similarity of maps to those under random parameters, from the top down and layer by layer, and under permuted labels.

    Args:
        shuffled: its net is trained on permuted labels; None leaves out the data randomisation test.
    """
    other_net = trained(shuffled.case, 0, labels=1) if shuffled is not None else None
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
                    stage = "all" if k + 1 == len(names) else str(k + 1)
                    frames.append(rows(case, label, check_name(kind, order, stage), values, layer=name))
        floors = metrics.randomisation_floors(*common, method, similarities=SIMILARITIES)
        frames += [rows(case, label, f"{FLOOR} ({kind})", values) for kind, values in floors.items()]
        if other_net is not None:
            other = metrics.data_randomisation(case.model, other_net, *common[1:], made[label], method, absolute=True)
            frames.append(rows(case, label, DATA, other))
    return pd.concat(frames, ignore_index=True)


def check_name(kind: str, order: str, stage: str) -> str:
    """The metric's name: similarity, order of randomisation, and number of the stage from the top ("all" for the last).

    >>> check_name("Spearman", "cascading", "all")
    'similarity to a random net (Spearman, cascading, all)'
    """
    return f"{CHECK} ({kind}, {order}, {stage})"


def certificate_rows(case: Case, panel: Mapping[str, Spec], *, labels: int, points: int = 15) -> pd.DataFrame:
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


def map_rows(case: Case, made: Mapping[str, Tensor]) -> pd.DataFrame:
    """Rank correlation between the absolute maps of every two methods, image by image."""
    reduced = {label: maps.reduce(values, "sum") for label, values in made.items()}
    return pd.concat(
        [
            rows(case, f"{a} | {b}", MAPS, similarity(reduced[a], reduced[b], absolute=True))
            for a, b in combinations(reduced, 2)
        ],
        ignore_index=True,
    )


def summary_rows(case: Case, correlations: pd.DataFrame, judgements: pd.DataFrame) -> pd.DataFrame:
    """Image by image: mean correlation over all pairs of maps, and how far completeness and soundness order methods alike."""
    own = correlations[correlations.metric == MAPS].pivot_table(index="sample", columns="method", values="value")
    both = [
        judgements[judgements.metric == metric].pivot_table(index="sample", columns="method", values="value")
        for metric in (COMPLETE, SOUND)
    ]
    ids = list(case.samples.ids)
    tau = agreement.kendall(*(table.loc[ids].to_numpy() for table in both))
    pairs = rows(case, "mean over pairs of methods", MAPS, own.loc[ids].mean(axis=1))
    return pd.concat([pairs, rows(case, "completeness and soundness", ALIKE, tau)], ignore_index=True)


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
    case = _case(plan, objects, samples, samples.targets)
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
    draws = {}
    for name, frame in scores.items():
        picked = random.integers(0, len(frame), (resamples, len(frame)))
        values = np.ma.masked_invalid(frame.to_numpy())
        means = np.ma.concatenate([values.mean(axis=0)[None], values[picked].mean(axis=1)])
        draws[name] = pd.DataFrame(means.filled(np.nan), columns=frame.columns)
    table = []
    for a, b in combinations(scores, 2):
        shared = [name for name in scores[a] if name in scores[b]]
        taus = agreement.kendall(draws[a][shared].to_numpy(), draws[b][shared].to_numpy())
        found = taus[1:][np.isfinite(taus[1:])]
        low, high = np.percentile(found, [2.5, 97.5]) if len(found) else (np.nan, np.nan)
        table.append({"first": a, "second": b, "tau": taus[0], "low": low, "high": high, "methods": len(shared)})
    return pd.DataFrame(table)


def scores_of(
    below: pd.DataFrame, kept: pd.DataFrame, perturbed: pd.DataFrame, sane: pd.DataFrame, two: pd.DataFrame
) -> dict[str, pd.DataFrame]:
    """What each evaluation says of each method, larger is better, with its units (trainings or images) as rows."""
    return {
        "ROAR": _units(below, BELOW_RANDOM, "panel: "),
        "KAR": -_units(kept, BELOW_RANDOM, "KAR: "),
        "region perturbation": _units(perturbed, AOPC),
        "insertion minus deletion": _units(perturbed, GAME),
        "randomisation": -_units(sane, check_name("Spearman, absolute", "cascading", "all")),
        "model contrast (BAM)": _units(two, "model contrast score"),
    }


def _units(frame: pd.DataFrame, metric: str, prefix: str = "") -> pd.DataFrame:
    own = frame[(frame.metric == metric) & frame.method.str.startswith(prefix)]
    table = own.pivot_table(index="sample", columns="method", values="value", dropna=False)
    return table.rename(columns=lambda label: label.removeprefix(prefix))


def rows(case: Case, label: str, metric: str, values: Any, **parameters: Any) -> pd.DataFrame:
    """Tidy rows of one condition, one per image."""
    return tidy_rows(case, label, metric, values, metric_parameters=parameters)

"""Study `path_attribution`, part 2: what insertion, deletion and Sensitivity-n say of the maps (Tables 1-4, Figure 3)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from xai_lib import agreement, compute, maps
from xai_lib.association import rank_products
from xai_lib.compendium.experiments import study_task
from xai_lib.compendium.study import Study
from xai_lib.desired import DesiredBaseline
from xai_lib.methods.credible import CrediblePaths
from xai_lib.metrics.sensitivity_n import subset_correlations, subset_drops
from xai_lib.studies.case import Case, explainer, rows
from xai_lib.studies.path_curves import curves_of
from xai_lib.studies.path_maps import CREDIBLE, IG, credible, kept, panel_maps

GAME = "insertion_deletion"
GAMES = (("insertion", "rise_blur"), ("deletion", "mean"))
REMOVALS = ("black", "mean", "blur")
SN = "sensitivity_n"


@study_task(label="Insertion and deletion of the path methods")
def panel_rows(
    case: Case, *, panel: str, keep: bool, steps: int, sigmas: Sequence[float], search: Mapping[str, Any], points: Any,
    tolerance: float,
) -> pd.DataFrame:  # fmt: skip
    """Insertion from the blur of RISE, deletion to the mean colour of the training data, and their difference, for all maps.

    Pixels are ordered by the signed sum over channels; for `insertion_deletion_abs` by its absolute value, which is the same
    for a map without negative values. `stated_error` is the sum of the errors of both curves. `confidence` is the probability
    of the explained class.

    Args:
        panel: see `path_maps.panel_of`.
        keep: take the maps from the store, where other experiments find them, and order all of them by absolute value, too;
            otherwise of a full panel only those of claim B5's methods.
        Others as in `path_maps.panel_maps` and `perturbation_curves`.
    """
    own = {"points": points, "tolerance": tolerance}
    made = (kept if keep else panel_maps)(case, panel=panel, steps=steps, sigmas=sigmas, search=search).maps
    without = made if keep else {label: made[label] for label in (IG, CREDIBLE)} if panel == "full" else {}
    start = perf_counter()
    signed = curves_of(case, made, GAMES, **own)
    seconds = (perf_counter() - start) / len(made)
    changed = {label: a for label, a in without.items() if bool((a < 0).any())}
    absolute = {**signed, **curves_of(case, changed, GAMES, reduce="abs_sum", **own)}
    frames = [rows(case, "image", "confidence", confidence(case))]
    for label, (insertion, deletion) in signed.items():
        values = {
            "insertion": insertion.auc,
            "deletion": deletion.auc,
            GAME: insertion.auc - deletion.auc,
            "stated_error": insertion.error + deletion.error,
        }
        if label in without:
            values[f"{GAME}_abs"] = absolute[label][0].auc - absolute[label][1].auc
        frames += [rows(case, label, metric, v, metric_parameters=own, seconds=seconds) for metric, v in values.items()]
    return pd.concat(frames)


def confidence(case: Case) -> Tensor:
    """(n,) probability of the explained class."""
    return compute.scores(case.model, case.inputs, case.targets, score="prob", max_batch=case.max_batch)


@study_task(label="Every baseline against every removal value")
def confound_rows(
    case: Case, *, steps: int, sigmas: Sequence[float], search: Mapping[str, Any], points: Any, tolerance: float
) -> pd.DataFrame:
    """Insertion minus deletion with the same substrate on both sides, for each baseline and each substrate (FIDELITY 4.3).

    Rows `insertion_deletion by removal`, method "<map> | <substrate>".
    """
    known = kept(case, panel="full", steps=steps, sigmas=sigmas, search=search).maps
    blur = explainer(case, "integrated_gradients", baseline="blur", steps=steps)(case.model, case.inputs, case.targets)
    made = {IG: known[IG], "IG, average": known["IG, average"], "IG, blur": blur}
    made |= {label: known[label] for label in (CREDIBLE, "random map")}
    games = [(name, removal) for removal in REMOVALS for name in ("insertion", "deletion")]
    own = {"points": points, "tolerance": tolerance}
    frames = []
    for label, curves in curves_of(case, made, games, **own).items():
        for k, removal in enumerate(REMOVALS):
            value = curves[2 * k].auc - curves[2 * k + 1].auc
            frames.append(rows(case, f"{label} | {removal}", f"{GAME} by removal", value, metric_parameters=own))
    return pd.concat(frames)


@study_task(label="Sensitivity-n of the path methods")
def sensitivity_rows(
    case: Case, *, steps: int, sigmas: Sequence[float], search: Mapping[str, Any], fractions: Sequence[float], n_subsets: int
) -> pd.DataFrame:
    """Sensitivity-n, its mean over fractions and each of them; subsets are replaced by black and by the image's mean colour."""
    request = (case.model, case.inputs, case.targets)
    known = kept(case, panel="full", steps=steps, sigmas=sigmas, search=search).maps
    made = {label: known[label] for label in (IG, "IG, average", CREDIBLE, "|x - x'|", "random map")}
    made["gradient"] = explainer(case, "gradient")(*request)
    together = torch.stack(list(made.values()))  # subsets are drawn once for all maps
    frames = []
    for replacement in ("black", "average"):
        settings: dict[str, Any] = {
            "fractions": tuple(fractions),
            "n_subsets": n_subsets,
            "baseline": replacement,
            "seed": case.seed,
        }
        drops = subset_drops(*request, max_batch=case.max_batch, **settings)
        own = {"replacement": replacement, "n_subsets": n_subsets}
        name = SN if replacement == "black" else f"{SN}, {replacement}"
        every = subset_correlations(drops, case.inputs, together).double().cpu().numpy()
        for label, found in zip(made, every, strict=True):
            frames.append(rows(case, label, name, np.nanmean(found, axis=1), metric_parameters=own))
            for k, fraction in enumerate(fractions):
                frames.append(rows(case, label, f"{name} at {fraction:g}", found[:, k], metric_parameters=own))
    return pd.concat(frames)


@study_task(label="Hyper-parameters of the credible method")
def setting_rows(
    case: Case, *, steps: int, sigmas: Sequence[float], search: Mapping[str, Any], points: Any, tolerance: float
) -> pd.DataFrame:
    """Insertion minus deletion of the credible method when one parameter at a time is changed (claim B14), and for other seeds.

    `seed_agreement`: Spearman correlation between the maps of two seeds, with three baselines and with one, at equal numbers of
    gradients (claim B17).

    Algorithm 1 knows no seed and no number of steps: what it found for the default is used again where its blurs are.
    """
    own = {"points": points, "tolerance": tolerance}
    frames = []
    base: dict[str, Any] = {"n_baselines": len(sigmas), "steps": steps, "sigmas": sigmas, **search}
    changed: dict[str, dict[str, Any]] = {
        "default": {},
        "delta x 0.5": {"delta": search["delta"] / 2},
        "delta x 2.5": {"delta": search["delta"] * 2.5},
        "eta x 0.4": {"eta": search["eta"] * 0.4},
        "epsilon x 2": {"epsilon": search["epsilon"] * 2},
        "sigma x 0.5": {"sigmas": [s / 2 for s in sigmas]},
        "sigma x 2": {"sigmas": [s * 2 for s in sigmas]},
        "steps x 3": {"steps": steps * 3},
        "1 baseline": {"n_baselines": 1, "sigmas": [sigmas[len(sigmas) // 2]]},
    }
    made: dict[str, CrediblePaths] = {}
    for label, change in changed.items():
        known = _known(made["default"].found, label) if made else ()
        made[label] = credible(case, {CREDIBLE: {}}, found=known, **{**base, **change})[CREDIBLE]
    curves = curves_of(case, {label: one.attributions for label, one in made.items()}, GAMES, **own)
    for label, (insertion, deletion) in curves.items():
        value = insertion.auc - deletion.auc
        frames.append(rows(case, f"credible, {label}", GAME, value, metric_parameters=own))
    return pd.concat([*frames, *_seed_rows(case, made, base, changed["1 baseline"])])


def _known(found: Sequence[DesiredBaseline], label: str) -> Sequence[DesiredBaseline]:
    """What Algorithm 1 found for the default, as far as it is what the setting of this label needs."""
    middle = len(found) // 2
    return {"default": found, "steps x 3": found, "1 baseline": found[middle : middle + 1]}.get(label, ())


def _seed_rows(
    case: Case, made: Mapping[str, CrediblePaths], base: Mapping[str, Any], one: Mapping[str, Any]
) -> list[pd.DataFrame]:
    other = replace(case, seed=case.seed + 1)
    frames = []
    for label, change in {"default": {}, "1 baseline": one}.items():
        known = _known(made["default"].found, label)
        again = credible(other, {CREDIBLE: {}}, found=known, **{**base, **change})[CREDIBLE].attributions
        value = agreement.rank_correlation(maps.reduce(made[label].attributions, "sum"), maps.reduce(again, "sum"))
        name = f"{len(base['sigmas'])} baselines" if label == "default" else label
        frames.append(rows(case, f"credible, {name}", "seed_agreement", value))
    return frames


def by_network(loaded: Study, claim: str) -> dict[str, dict[str, float]]:
    """The document's scores {network: {label: score}} of a claim whose published values are named "network | label"."""
    found: dict[str, dict[str, float]] = {}
    values = next(c.published.values for c in loaded.claims if c.id == claim)
    for name, value in values.items():
        network, label = name.split(" | ")
        found.setdefault(network, {})[label] = value
    return found


def gain_and_confidence(case: Case, table: pd.DataFrame) -> pd.DataFrame:
    """`association` of the scores of Integrated Gradients and of a random map, and of the credible gain (claims B7, B8)."""
    score, control = of(table, IG, GAME, case), of(table, "random map", GAME, case)
    return association(
        case, table, {IG: score, "random map": control, "gain of credible": of(table, CREDIBLE, GAME, case) - score}
    )


def association(case: Case, table: pd.DataFrame, values: Mapping[str, np.ndarray], against: str = "confidence") -> pd.DataFrame:
    """Spearman's correlation over images between the confidence and something, as a mean of products of standardised ranks.

    Args:
        table: rows of `panel_rows` of this case.
        values: {label: (n,)} in the order of the samples.

    Returns:
        Rows `rank_product`, method "<label>, with confidence"; their mean over images is the correlation, so that its interval
        is that of a mean.
    """
    own = of(table, "image", against, case)
    frames = []
    for label, other in values.items():
        frames.append(rows(case, f"{label}, with {against}", "rank_product", rank_products(own, other)))
    return pd.concat(frames)


def of(table: pd.DataFrame, method: str, metric: str, case: Case) -> np.ndarray:
    """(n,) values of one condition in the order of the case's samples."""
    own = table[
        (table.metric == metric)
        & (table.method == case.prefix + method)
        & (table.model == getattr(case.model, "name", "model"))
    ]
    return own.set_index("sample").value.reindex(list(case.samples.ids)).to_numpy(dtype=float)


def order_rows(case: Case, table: pd.DataFrame, published: Mapping[str, float]) -> pd.DataFrame:
    """Spearman's correlation, image by image, between our order of the methods and a published one (claim B6).

    Args:
        published: {label: published score}.
    """
    values = np.stack([of(table, label, GAME, case) for label in published], axis=1)
    theirs = np.broadcast_to(list(published.values()), values.shape)
    return rows(case, "our order and the published one", "order_agreement", agreement.rank_correlation(values, theirs))

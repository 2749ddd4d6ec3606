"""Study `wsol`, part 4: the tidy rows of its results, and what follows from several of them."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from torch import Tensor

from xai_lib import agreement
from xai_lib.association import rank_products
from xai_lib.studies.case import Case, rows
from xai_lib.studies.path_scores import GAME, of
from xai_lib.studies.wsol_checks import NOISE, OF_SEED, REPEATS, SALIENCY
from xai_lib.studies.wsol_scores import BOX, KS, MATCHED, SWEEP, SWEEP_ALL, iou_name

SWEPT = {SWEEP: "localised, swept threshold", SWEEP_ALL: "localised, swept threshold, all components"}
LEVELS = {SWEEP: (0.5,), SWEEP_ALL: (0.3, 0.5, 0.7)}
"""Overlaps that count as found: MaxBoxAcc has one, MaxBoxAccV2 the mean over three."""
ORDER, WITH = "order of the four methods", "goes with confidence"
GIVEN, WITH_AREA = f"{WITH}, area taken out", "goes with the object's area"
NOISIER = "noise over that of the first small net"
RATIO = "rows over DeepLIFT"
DEEPER = "DeepLIFT beside the main classifier"
Scores = Mapping[str, Tensor]
"""What `wsol_scores.localisation_scores` found: {"method | metric": (n,) or (n, thresholds)}."""


def by_metric(scores: Scores, metric: str) -> dict[str, np.ndarray]:
    """{method: values} of one metric."""
    ending = f" | {metric}"
    return {name.removesuffix(ending): v.double().numpy() for name, v in scores.items() if name.endswith(ending)}


def score_rows(case: Case, scores: Scores) -> pd.DataFrame:
    """Every number that belongs to one image and method; and the swept boxes with the threshold of the other half.

    Args:
        case: the images; scores of fewer are those of the first.
    """
    frames = []
    for name, values in scores.items():
        method, metric = name.rsplit(" | ", 1)
        seen = case.first(len(values))
        if metric in SWEPT:
            frames.append(rows(seen, method, SWEPT[metric], other_half(values.double().numpy(), LEVELS[metric])))
        else:
            frames.append(rows(seen, method, metric, values))
    return pd.concat(frames)


def other_half(overlaps: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Whether each image's object is found at the threshold that is best on the other half of the images.

    MaxBoxAcc takes the threshold that is best on the images it then counts. Here images with even and odd positions choose for
    each other, so that the number is no maximum over what it measures.

    Args:
        overlaps: (n, T) IoU of the box at each threshold.
        levels: overlaps that count as found, each with thresholds of its own; the result is the mean over them.

    Returns:
        (n,) in [0, 1]; NaN for an image without a box at some threshold, and where no image of the other half has one.
    """
    missing = np.isnan(overlaps).any(axis=1)
    halves = [np.arange(len(overlaps)) % 2 == k for k in (0, 1)]
    made = np.full((len(levels), len(overlaps)), np.nan)
    for row, level in zip(made, levels, strict=True):
        found = (overlaps >= level).astype(float)
        for own, other in (halves, halves[::-1]):
            if (other & ~missing).any():
                row[own] = found[own, found[other & ~missing].mean(axis=0).argmax()]
    return np.where(missing, np.nan, made.mean(axis=0))


def crop_rows(found: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """`SALIENCY` of the maps, each image cut at the share of the maximum that is best on the other half of the images."""
    frames = [found[found.metric == SALIENCY]]
    for label in labels:
        own = found[(found.method == label) & found.metric.str.startswith(f"{SALIENCY} at ")]
        table = own.pivot_table(index="sample", columns="metric", values="value", sort=False, dropna=False)
        values = table.to_numpy()
        chosen = own.drop_duplicates("sample").set_index("sample").loc[table.index].reset_index()
        for k in (0, 1):
            here, other = np.arange(len(values)) % 2 == k, np.arange(len(values)) % 2 != k
            best = np.nanmean(values[other], axis=0).argmin()
            chosen.loc[here, "value"] = values[here, best]
        frames.append(chosen.assign(metric=SALIENCY, flag=["" if np.isfinite(v) else "undefined" for v in chosen.value]))
    return pd.concat([frame[list(found.columns)] for frame in frames])


def game_rows(case: Case, scores: Scores, games: pd.DataFrame) -> pd.DataFrame:
    """Rank correlation over images between a method's box and its insertion minus deletion, as rows whose mean it is."""
    frames = [games]
    for method, values in by_metric(scores, BOX).items():
        other = of(games, method, GAME, case)
        if np.isfinite(other).any():
            frames.append(rows(case, method, "goes with insertion minus deletion", rank_products(values, other)))
    return pd.concat(frames)


def confidence_rows(case: Case, scores: Scores) -> pd.DataFrame:
    """Rank correlation of the overlaps with the confidence and with the object's area, as rows whose mean it is (claim D8)."""
    confidence, area = (scores[f"image | {word}"].double().numpy() for word in ("confidence", "area"))
    frames = []
    for metric in (BOX, iou_name(KS[1])):
        for method, values in by_metric(scores, metric).items():
            n = len(values)
            for name, made in {
                WITH: rank_products(values, confidence[:n]),
                GIVEN: rank_products(values, confidence[:n], given=area[:n]),
                WITH_AREA: rank_products(values, area[:n]),
            }.items():
                label = name if metric != BOX else f"{name}, box IoU"
                frames.append(rows(case.first(n), method, label, made, metric_parameters={"of": metric}))
    return pd.concat(frames)


def order_rows(case: Case, scores: Scores) -> pd.DataFrame:
    """Rank correlation, image by image, between the orders of the four methods under two thresholds (claim D7)."""
    frames = []
    for weighted in (False, True):
        values = {k: by_metric(scores, iou_name(k, weighted)) for k in KS}
        n = min(len(values[KS[0]][m]) for m in MATCHED)
        found = {k: np.stack([values[k][m][:n] for m in MATCHED], axis=1) for k in KS}
        for one, other in pairwise(KS):
            value = agreement.rank_correlation(found[one], found[other])
            label = f"{ORDER}{', weighted' * weighted}"
            frames.append(rows(case.first(n), f"k = {one:g} | k = {other:g}", label, value))
    return pd.concat(frames)


def spread_rows(repeated: pd.DataFrame) -> pd.DataFrame:
    """LIME's standard deviation over seeds beside that over images, one row an image (claim D11).

    s_i over seeds for image i, divided by the standard deviation over images of the mean over seeds.

    Args:
        repeated: rows `OF_SEED` of `wsol_checks.repeat_rows`.
    """
    own = repeated[repeated.metric == OF_SEED]
    table = own.pivot_table(index="sample", columns="seed", values="value", sort=False)
    between = table.mean(axis=1).std(ddof=1)
    ratio = table.std(axis=1, ddof=1) / (between if between > 0 else np.nan)
    first = own[own.seed == own.seed.min()].set_index("sample").loc[ratio.index].reset_index()
    kept = first.assign(
        metric=REPEATS, value=ratio.to_numpy(), metric_parameters=[{"seeds": int(own.seed.nunique())}] * len(first)
    )
    return kept.assign(flag=["" if np.isfinite(v) else "undefined" for v in kept.value])[list(own.columns)]


def noise_rows(large: pd.DataFrame, small: pd.DataFrame, model: str) -> pd.DataFrame:
    """Total variation of the large net's gradients over the mean of a small net's (claim D2), one row an image.

    Args:
        large, small: rows `NOISE`.
        model: name of the small net.
    """
    own = large[large.metric == NOISE]
    reference = small[(small.metric == NOISE) & (small.model == model)].value.mean()
    return pd.concat([large, small, own.assign(metric=NOISIER, method="gradient, large net", value=own.value / reference)])


def cost_ratios(costs: pd.DataFrame) -> pd.DataFrame:
    """The costs, and how many rows each method sends through the net for one of DeepLIFT's (claim D10)."""
    passes = costs[costs.metric.isin(["rows_forward", "rows_gradient"])]
    table = passes.pivot_table(index="sample", columns="method", values="value", aggfunc="sum", sort=False)
    ratio = table.div(table["DeepLIFT"], axis=0)
    template = passes[passes.metric == "rows_gradient"]
    values = np.array(
        [ratio.loc[sample, method] for sample, method in zip(template["sample"], template["method"], strict=True)]
    )
    return pd.concat([costs, template.assign(metric=RATIO, value=values)])


def deeper_rows(other: Case, main: Scores, deep: Scores) -> pd.DataFrame:
    """DeepLIFT's overlap on another classifier over its mean on the main one (claim D9), one row an image."""
    metric = f"DeepLIFT | {iou_name(KS[1])}"
    reference = float(main[metric].double().nanmean())
    return rows(other, "DeepLIFT", DEEPER, deep[metric].double() / reference)

"""Study `path_attribution`, part 5: its tables, with captions computed from the results."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from xai_lib import agreement, plotting, stats
from xai_lib.compendium import book_words
from xai_lib.plotting import number
from xai_lib.stats import Estimate
from xai_lib.studies.common_figures import estimates_of, measured
from xai_lib.studies.costs import METRICS
from xai_lib.studies.path_examples import errata
from xai_lib.studies.path_maps import CREDIBLE, IG
from xai_lib.studies.path_scores import GAME

__all__ = ["measured"]


def errata_table() -> None:
    """What is printed beside what comes out."""
    plotting.table(errata(), caption="Errata, each computed when this page was made.", name="errata")


def table1(frame: pd.DataFrame, labels: Sequence[str], published: Mapping[str, Mapping[str, float]]) -> None:
    """Table 1: our scores and paired differences to Integrated Gradients, beside the document's.

    Args:
        labels: methods in the order of the table.
        published: {network: {label: score}}.
    """
    found = dict(estimates_of(frame, GAME, labels))
    gaps = {label: _difference(frame, label, IG) for label in labels if label != IG}
    corrected = dict(zip(gaps, stats.holm([p for _, p, _ in gaps.values()]).tolist(), strict=True))
    lines = []
    for label in labels:
        line: dict[str, Any] = {"method": label, "score": _short(found[label])}
        line["minus IG"] = _short(gaps[label][0]) if label in gaps else ""
        line["effect size"] = number(gaps[label][2]) if label in gaps else ""
        line["p (Holm)"] = number(corrected[label]) if label in gaps else ""
        line |= {network: number(scores[label], 4) if label in scores else "" for network, scores in published.items()}
        lines.append(line)
    plotting.table(
        pd.DataFrame(lines),
        caption=f"Table 1 of the document and its controls, n = {found[IG].n} images: insertion minus deletion, mean with 95 % "
        "interval; paired difference to Integrated Gradients, its effect size (mean over standard deviation) and Wilcoxon's p, "
        "corrected over the table. Right: the document's scores for its networks.",
        name="table-1",
    )


def without_sign(frame: pd.DataFrame, labels: Sequence[str]) -> None:
    """Scores when pixels are ordered by the absolute value, for the images that have both orders for all methods."""
    both = [_by_sample(frame, metric) for metric in (GAME, f"{GAME}_abs")]
    absolute = both[1][list(labels)].dropna()
    signed = both[0][list(labels)].loc[absolute.index]
    change = {label: stats.paired_difference(absolute[label], signed[label]) for label in labels}
    low, high = (pick(change, key=lambda label: change[label].value) for pick in (min, max))
    gains = [_short(stats.paired_difference(table[CREDIBLE], table[IG])) for table in (signed, absolute)]
    same = stats.bootstrap_interval(agreement.rank_correlation(signed.to_numpy(), absolute.to_numpy()))
    lines = [
        {"method": label, "signed": signed[label].mean(), "absolute": absolute[label].mean(), "change": _short(change[label])}
        for label in labels
    ]
    plotting.table(
        pd.DataFrame(lines),
        caption="What the sign decides: insertion minus deletion with pixels ordered by the sum over channels (signed) and by "
        f"its absolute value, n = {len(signed)} images. The change lies between {_short(change[low])} ({low}) and "
        f"{_short(change[high])} ({high}); the credible method minus Integrated Gradients goes from {gains[0]} to {gains[1]}; "
        f"Spearman's correlation between the two orders of the methods is {_short(same)}, mean over images.",
        name="without-sign",
    )


def costs(frame: pd.DataFrame) -> None:
    """What one map costs, by method."""
    found = frame.pivot_table(index="method", columns="metric", values="value", sort=False)
    forward, gradient, size = (found[metric] for metric in METRICS)
    seconds = frame.groupby("method", sort=False).seconds.mean().loc[found.index]
    plotting.table(
        pd.DataFrame(
            {
                "method": found.index,
                "rows forward": _whole(forward),
                "rows forward and backward": _whole(gradient),
                "seconds": seconds.to_numpy(),
                "memory, MB": size.to_numpy() / 1e6,
            }
        ),
        caption=f"What the map of one image costs, each method by itself, n = {frame['sample'].nunique()}: rows that the model "
        "saw, forward alone and forward with backward; seconds of this run, less the counting's, which no verdict uses; and "
        "the most memory in tensors at once above the start, without NumPy's arrays and scratch space of single operations.",
        name="costs",
    )


def _whole(values: pd.Series) -> list[Any]:
    """Whole numbers as such."""
    return [int(v) if v == int(v) else v for v in values]


def _by_sample(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row an image, one column a method."""
    return frame[frame.metric == metric].pivot_table(index="sample", columns="method", values="value")


def _short(estimate: Estimate) -> str:
    """Value and interval; n stands beside."""
    return book_words.interval(estimate.value, estimate.low, estimate.high)


def _difference(frame: pd.DataFrame, label: str, versus: str) -> tuple[Estimate, float, float]:
    own = _by_sample(frame, GAME)[[label, versus]].dropna()
    gap = (own[label] - own[versus]).to_numpy()
    spread = gap.std(ddof=1) if len(gap) > 1 else np.nan
    effect = float(gap.mean() / spread) if spread else np.nan
    return stats.paired_difference(own[label], own[versus]), stats.paired_test(own[label], own[versus]), effect


CAPTIONS = {
    "table-2": "Depths of one network (Table 2 of the document), the same images as far as they go: insertion minus deletion, "
    "mean with 95 % interval.",
    "table-3": "Small networks (Table 3 of the document): insertion minus deletion, mean over images with 95 % interval.",
}


def by_model(frame: pd.DataFrame, labels: Sequence[str], *, prefix: str, name: str) -> None:
    """Scores of several methods under several networks, with the gain over Integrated Gradients.

    Args:
        prefix: of the methods' labels, where they have one.
        name: one of `CAPTIONS`.
    """
    lines = []
    bare = frame.assign(method=frame.method.str.removeprefix(prefix))
    for model, own in bare[bare.method.isin(labels)].groupby("model", sort=False):
        found = estimates_of(own, GAME, labels)
        line: dict[str, Any] = {"network": model, "n": found[0][1].n, **{label: _short(e) for label, e in found}}
        line["credible minus IG"] = _short(_difference(own, CREDIBLE, IG)[0])
        lines.append(line)
    plotting.table(pd.DataFrame(lines), caption=CAPTIONS[name], name=name)

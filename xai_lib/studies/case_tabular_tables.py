"""Study `case_studies`, tables: its tables, with captions computed from the results."""

import numpy as np
import pandas as pd

from xai_lib import plotting, stats
from xai_lib.stats import Estimate
from xai_lib.studies.case_tabular import (
    ACCURACY,
    AGAIN,
    AWAY,
    CLASSES,
    INSIDE,
    LISTED,
    MISS,
    PAIRS,
    R2,
    RANKED,
    SAME,
    SIGNS,
)
from xai_lib.studies.common_figures import estimates_of

SEEDS = "LIME | LIME, another seed"


def listed(frame: pd.DataFrame) -> None:
    """How many published weights LIME gives again, listing by listing."""
    own = frame[frame["sample"].str.contains(": ")]
    heading = own["sample"].str.split(": ").str[0]
    lines = []
    for name in heading.unique():
        here = own[heading == name]

        def of(metric: str, label: str = CLASSES[0], here: pd.DataFrame = here) -> np.ndarray:
            return here[(here.metric == metric) & (here.method == label)].value.to_numpy()

        inside = {label: of(INSIDE, label) for label in CLASSES}
        lines.append(
            {
                "heading": name,
                "terms": len(inside[CLASSES[0]]),
                **{
                    f"within 3 sd, {label}": f"{int(np.nansum(v))} of {int(np.isfinite(v).sum())}"
                    for label, v in inside.items()
                },
                "farthest, sd": float(np.nanmax(of(AWAY))) if np.isfinite(of(AWAY)).any() else np.nan,
                "printed by a seed": float(of(LISTED).mean()),
                "same sign in other fits": float(of(AGAIN).mean()),
            }
        )
    plotting.table(
        pd.DataFrame(lines),
        caption="The document's LIME listings: terms whose published weight lies within 3 standard deviations of the mean over our seeds, for "
        "class 1 and for the class that the heading names; the farthest from the mean for class 1; how many of the terms a seed prints "
        "among its ten; how many have the published sign in fits with another random start.",
        name="lime-listed",
    )


def agreement(frame: pd.DataFrame) -> None:
    """How far the ways to explain a row agree about it."""
    lines = []
    for table in frame.dataset.unique():
        for one, other in PAIRS:
            label = f"{table}: {one} | {other}"
            if (frame.method == label).any():
                same, ranked = (estimates_of(frame, metric, [label])[0][1] for metric in (SAME, RANKED))
                lines.append({"table": table, "between": one, "and": other, "same leader": same, "rank correlation": ranked})
    plotting.table(
        pd.DataFrame(lines),
        caption="Do two ways to explain a held-out row name the same leading feature, and order the features alike? Shares of rows and rank "
        "correlations of |values|, means over nets with 95 % intervals.",
        name="table-agreement",
    )


def fit(frame: pd.DataFrame) -> None:
    """How well LIME's surrogate fits, and what a seed changes in it."""
    lines = []
    for table in frame.dataset.unique():
        metrics: dict[str, tuple[str, str]] = {
            "net's accuracy": (ACCURACY, "all"),
            "R2": (R2, "LIME"),
            "|surrogate - net| at the row": (MISS, "LIME"),
            "terms with one sign": (SIGNS, "LIME"),
            "same leader, two seeds": (SAME, SEEDS),
            "rank correlation, two seeds": (RANKED, SEEDS),
        }
        found: dict[str, Estimate] = {
            title: stats.bootstrap_interval(
                frame[(frame.metric == metric) & (frame.method == f"{table}: {label}")].value.to_numpy()
            )
            for title, (metric, label) in metrics.items()
        }
        lines.append({"table": table, **found})
    plotting.table(
        pd.DataFrame(lines),
        caption="LIME of the predicted class on held-out rows: weighted R2 of the linear model on its own draws, its distance from the net's "
        "probability at the explained row, share of the ten largest terms with the same sign under all seeds, and what two seeds have in "
        "common. Means over nets with 95 % intervals.",
        name="lime-fit",
    )

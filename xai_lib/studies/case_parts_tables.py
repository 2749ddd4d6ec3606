"""Study `case_studies`, part `parts`: its tables, with captions computed from the results."""

import pandas as pd

from xai_lib import plotting, stats
from xai_lib.plotting import number
from xai_lib.stats import Estimate
from xai_lib.studies.case_parts import PARTED
from xai_lib.studies.case_parts_digits import EXCESS, INK_GAIN, INK_SHARE, RANK, STARTS, TOP
from xai_lib.studies.case_parts_pictures import CONTRAST, GAIN, OBJECT, PRECISION, WITH_CONTRAST
from xai_lib.studies.case_parts_regions import part_names
from xai_lib.studies.common_figures import estimates_of

VALUES = ("mean of IG", "ablation", "ink", "random")


def ink(frame: pd.DataFrame) -> None:
    """How much of Integrated Gradients lies on ink."""
    labels = ["ink", *[f"IG, {start}" for start in STARTS], "random"]
    table = pd.DataFrame(
        {
            "map": ["share of the area", *labels[1:]],
            "share of |A| on ink": [e for _, e in estimates_of(frame, INK_SHARE, labels)],
            "above the ink's area": ["", *[e for _, e in estimates_of(frame, INK_GAIN, labels[1:])]],
        }
    )
    plotting.table(
        table,
        caption="Share of |IG| on pixels that are not black, means with 95 % intervals over digits. From a black baseline it is 1 by "
        "construction, for every net: the factor $x - x'$ is 0 elsewhere.",
        name="parts-ink",
    )


def parts(frame: pd.DataFrame) -> None:
    """Where the parts that the document names stand among the digit's segments."""
    labels = [(d, part, value) for d in PARTED for part in part_names(d) for value in VALUES]
    methods = [f"{d}, {part} | {value}" for d, part, value in labels]
    columns = {metric: [e for _, e in estimates_of(frame, metric, methods)] for metric in (RANK, TOP, EXCESS)}
    table = pd.DataFrame(
        {
            "digit, part": [f"{d}, {part}" for d, part, _ in labels],
            "value of a segment": [value for _, _, value in labels],
            "rank": [_short(e) for e in columns[RANK]],
            "top": [_short(e) for e in columns[TOP]],
            "top, above chance": [_short(e) for e in columns[EXCESS]],
            "n": [e.n for e in columns[RANK]],
        }
    )
    plotting.table(
        table,
        caption="SLIC segments of the digit. Rank: chance that a segment of the part has a larger value than one of the other ink; 0.5 says "
        "nothing. Top: share of pictures in which the digit's largest segment belongs to the part, and that less the part's share of the digit's "
        "segments. Means with 95 % intervals over the n pictures that have the part. The document names all parts of the 4 but the "
        "stem, and the crossing of the 8.",
        name="parts-named",
    )


def objects(frame: pd.DataFrame) -> None:
    """How much of Integrated Gradients lies on objects with exact masks."""
    methods = ["IG", "random"]
    area = _mean(frame, OBJECT, "mask")
    contrast = _mean(frame, CONTRAST, "picture")
    measured = {"share on the object": OBJECT, "above its area": GAIN, "average precision above area": PRECISION}
    joined = {"share goes with contrast": GAIN, "precision goes with contrast": PRECISION}
    table = pd.DataFrame(
        {
            "map": methods,
            **{title: [e for _, e in estimates_of(frame, metric, methods)] for title, metric in measured.items()},
            **{
                title: [_short(e) for _, e in estimates_of(frame, WITH_CONTRAST, [f"{m}, {metric}" for m in methods])]
                for title, metric in joined.items()
            },
        }
    )
    plotting.table(
        table,
        caption=f"Pictures with exact masks, where the net predicts the object's class (n = {area.n}): the object has {number(area.value)} "
        "of the area. Share of |IG| on it, average precision of the pixels above that of a constant map, and the rank correlation "
        f"of both with the distance between the mean colours of object and background (mean {number(contrast.value)}). Means with "
        "95 % intervals over pictures.",
        name="parts-objects",
    )


def _mean(frame: pd.DataFrame, metric: str, method: str) -> Estimate:
    return stats.bootstrap_interval(frame[(frame.metric == metric) & (frame.method == method)].value.to_numpy())


def _short(estimate: Estimate) -> str:
    """Value and interval; n stands beside."""
    if estimate.n < 2:
        return number(estimate.value)
    return f"{number(estimate.value)} [{number(estimate.low)}, {number(estimate.high)}]"

"""Study `wsol`, part 5: its tables, with captions computed from the results."""

from collections.abc import Mapping, Sequence

import pandas as pd

from xai_lib import plotting, stats
from xai_lib import published as published_tables
from xai_lib.compendium import book_words
from xai_lib.compendium.study import Study
from xai_lib.errors import DataError
from xai_lib.plotting import number
from xai_lib.stats import Estimate
from xai_lib.studies.case import OTHER
from xai_lib.studies.common_figures import estimates_of, measured
from xai_lib.studies.costs import METRICS
from xai_lib.studies.path_scores import GAME
from xai_lib.studies.wsol_checks import MAPS_AGREE, REPEATS, SALIENCY, SEGMENTS_AGREE
from xai_lib.studies.wsol_rows import GIVEN, SWEPT, WITH, WITH_AREA
from xai_lib.studies.wsol_scores import BOX, KS, MASS, MATCHED, PRECISION, SWEEP, SWEEP_ALL, TIGHT, iou_name

__all__ = ["measured"]
CENTRE = "centre box"


def _short(estimate: Estimate) -> str:
    """Value and interval; n stands beside."""
    return book_words.interval(estimate.value, estimate.low, estimate.high)


def _cells(frame: pd.DataFrame, metrics: Mapping[str, str], methods: Sequence[str]) -> pd.DataFrame:
    """One row a method, one column a metric, under the column's title."""
    columns = {title: [_short(e) for _, e in estimates_of(frame, metric, methods)] for title, metric in metrics.items()}
    return pd.DataFrame({"method": list(methods), **columns})


def _count(frame: pd.DataFrame, metric: str, methods: Sequence[str]) -> str:
    """n of the methods, in words."""
    sizes = [e.n for _, e in estimates_of(frame, metric, methods)]
    return str(sizes[0]) if len(set(sizes)) == 1 else f"{max(sizes)} ({min(sizes)} for the methods that change the image)"


def boxes(frame: pd.DataFrame, methods: Sequence[str]) -> None:
    """How well boxes drawn around maps fit the object's."""
    table = _cells(
        frame,
        {
            "IoU, largest component": BOX,
            "of these above 0.5": "localised",
            "threshold swept": SWEPT[SWEEP],
            "V2": SWEPT[SWEEP_ALL],
            "IoU, tightest box": TIGHT,
        },
        methods,
    )
    table.insert(1, "minus centre box", [_short(_gap(frame, BOX, m, CENTRE)) if m != CENTRE else "" for m in methods])
    plotting.table(
        table,
        caption=f"Boxes, n = {_count(frame, BOX, methods)} images, means with 95 % intervals. The box around the largest component above "
        "20 % of the maximum: its overlap (IoU) with the object's, paired difference to the box of half the area in the centre, and how "
        "often the overlap exceeds 0.5. Then how often it does with the threshold that is best on the other half of the images "
        "(MaxBoxAcc), the same with all components and three overlaps (V2), and the overlap of the box around everything above 20 %.",
        name="boxes",
    )


def pixels(frame: pd.DataFrame, methods: Sequence[str]) -> None:
    """How well pixels fit the object's box."""
    plotting.table(
        _cells(
            frame,
            {
                "points at it": "points at it",
                "points near it": "points near it",
                "mass above area": MASS,
                "average precision": PRECISION,
            },
            methods,
        ),
        caption=f"Pixels, n = {_count(frame, BOX, methods)} images, means with 95 % intervals: is the largest value in the object's box, is "
        "it there or less than 15 pixels away; share of the map's mass in the box less the box's share of the area; and area under "
        "precision and recall of the pixels, the box taken as mask. A map without variation has no mass above its area and a precision "
        "equal to the area.",
        name="pixels",
    )


def document(frame: pd.DataFrame, methods: Sequence[str], published: Mapping[str, Mapping[str, float]]) -> None:
    """The finished document's two metrics, beside its numbers and beside random pixels of each map's own density.

    Args:
        published: {metric: {method: value}}.
    """
    plain, weighted = iou_name(KS[1]), iou_name(KS[2], True)
    table = _cells(frame, {"IoU": plain, "IoU*": weighted}, methods)
    table["minus random, as dense"] = [
        _short(_gap(frame, plain, m, f"random, as dense as {m}")) if m in MATCHED else "" for m in methods
    ]
    for title, metric in {"document, IoU": plain, "document, IoU*": weighted}.items():
        table[title] = [number(published[metric][m], 3) if m in published[metric] else "" for m in methods]
    plotting.table(
        table,
        caption=f"The finished document's metrics, n = {_count(frame, plain, methods)} images, means with 95 % intervals. A map is set to 0 "
        "below half a standard deviation (IoU) or one (IoU*); what is left is held against the box's pixels, for IoU* weighted by its "
        "values. The third column holds each map against random pixels, as many as the map keeps. Right: the document's numbers for "
        "VGG-16 on 1,000 images.",
        name="finished-document",
    )


def games(frame: pd.DataFrame, methods: Sequence[str]) -> None:
    """Insertion minus deletion, and whether images that are localised better score better."""
    table = _cells(
        frame, {"insertion minus deletion": GAME, "goes with box IoU": "goes with insertion minus deletion"}, methods
    )
    n = estimates_of(frame, GAME, methods)[0][1].n
    plotting.table(
        table,
        caption=f"Does localisation say what insertion and deletion say? n = {n} images, means with 95 % intervals; right the rank "
        "correlation over images between both scores of a method.",
        name="games",
    )


def crops(frame: pd.DataFrame, methods: Sequence[str]) -> None:
    """The metric of Dabkowski and Gal for boxes and maps."""
    n = estimates_of(frame, SALIENCY, methods)[0][1].n
    plotting.table(
        _cells(frame, {"saliency metric": SALIENCY}, methods),
        caption=f"log(max(area, 0.05)) - log p(class | crop), n = {n} images, means with 95 % intervals; lower is better. Maps give the box "
        "around everything above the share of the maximum that is best on the other half of the images.",
        name="crops",
    )


def stability(frame: pd.DataFrame) -> None:
    """How much of LIME's map is the draw."""
    metrics = [REPEATS, SEGMENTS_AGREE, f"{MAPS_AGREE} of two seeds"]
    found = {metric: estimates_of(frame, metric, ["LIME"])[0][1] for metric in metrics}
    plotting.table(
        pd.DataFrame([{"measured": m, "LIME": _short(e), "n": e.n} for m, e in found.items()]),
        caption="LIME under several seeds: standard deviation of its box's overlap over seeds, divided by that over images; common share of "
        "the five heaviest superpixels; rank correlation of the maps of two seeds. Means over images with 95 % intervals.",
        name="stability",
    )


def confidence(frame: pd.DataFrame, methods: Sequence[str]) -> None:
    """What the two overlaps go with, over images."""
    columns = {
        "box, with the confidence": f"{WITH}, box IoU",
        "area taken out": f"{GIVEN}, box IoU",
        "with the area": f"{WITH_AREA}, box IoU",
        "pixels, with the confidence": WITH,
        "pixels, area taken out": GIVEN,
        "pixels, with the area": WITH_AREA,
    }
    n = estimates_of(frame, WITH_AREA, methods)[0][1].n
    plotting.table(
        _cells(frame, columns, methods),
        caption=f"Rank correlation over n = {n} images between an overlap and the net's confidence, the same once the area of the object is "
        f"taken out of both, and with that area; 95 % intervals. Left for the box, right for the finished document's pixels ({iou_name(KS[1])}), "
        "of which claim D8 speaks.",
        name="confidence",
    )


def others(frames: Sequence[pd.DataFrame], methods: Sequence[str]) -> None:
    """Overlaps on several classifiers."""
    lines = []
    rows = pd.concat(frames)
    for model, own in rows.assign(method=rows.method.str.removeprefix(OTHER)).groupby("model", sort=False):
        found = estimates_of(own, BOX, methods)
        lines.append({"classifier": model, "n": min(e.n for _, e in found), **{m: _short(e) for m, e in found}})
    plotting.table(
        pd.DataFrame(lines),
        caption="IoU of the box around the largest component above 20 % of the maximum, by classifier; means with 95 % intervals.",
        name="classifiers",
    )


def claimed(loaded: Study) -> dict[str, dict[str, float]]:
    """The document's numbers by metric, as the study file states them."""
    return {claim.metric: claim.published.values for claim in loaded.claims if claim.id in ("D5", "D6")}


def published() -> None:
    """The finished document's per-image tables, computed again where they are at hand."""
    try:
        found = published_tables.summary(published_tables.overlaps())
    except DataError:
        note = pd.DataFrame([{"tables": "not at hand", "how": "set XAI_DATA to a folder with published/003_*.csv"}])
        plotting.table(note, caption="The finished document's tables per image.", name="published")
        return
    plotting.table(
        found,
        caption="The finished document's own tables per image, computed again: mean and standard deviation over images.",
        name="published",
    )


def costs(frame: pd.DataFrame) -> None:
    """What one map costs, by method."""
    found = frame.pivot_table(index="method", columns="metric", values="value").loc[frame.method.unique()]
    seconds = frame[frame.metric == METRICS[0]].groupby("method").seconds.mean().loc[found.index]
    plotting.table(
        pd.DataFrame(
            {
                "method": found.index,
                "rows forward": found[METRICS[0]].round(1).to_numpy(),
                "rows forward and backward": found[METRICS[1]].round(1).to_numpy(),
                "seconds": seconds.to_numpy(),
                "images per minute": (60 / seconds).to_numpy(),
                "memory, MB": found[METRICS[2]].to_numpy() / 1e6,
            }
        ),
        caption=f"What the map of one image costs, n = {frame['sample'].nunique()}: rows through the net, forward alone and with backward; "
        "seconds of this run, which no verdict uses; and the most memory in tensors at once above the start.",
        name="costs",
    )


def adoptability(found: pd.DataFrame) -> None:
    """Which families of nets a method accepts, repairs or refuses."""
    plotting.table(
        found,
        caption="Each method tried on one picture by an untrained net of each family. Repaired: the method's usual library gives something "
        "else without a word, or fails.",
        name="adoptability",
    )


def _gap(frame: pd.DataFrame, metric: str, method: str, versus: str) -> Estimate:
    own = frame[(frame.metric == metric) & frame.method.isin([method, versus])]
    both = own.pivot_table(index="sample", columns="method", values="value").reindex(columns=[method, versus]).dropna()
    return stats.paired_difference(both[method], both[versus])

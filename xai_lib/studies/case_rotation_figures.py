"""Study `case_studies`, figures of part rotation: numbers only, no pictures."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from xai_lib import plotting, stats
from xai_lib.counterfactuals import first_turn, transitions
from xai_lib.plotting import number, style
from xai_lib.stats import Estimate
from xai_lib.studies.case_cifar import SIDE
from xai_lib.studies.case_rotation import PUBLISHED, Rotations
from xai_lib.studies.case_rotation_rows import ANGLE, BELOW, DISC
from xai_lib.studies.common_figures import estimates_of

TICKS = (0.1, 0.3, 1, 3, 10, 30, 90)


def angles(r: Rotations, frame: pd.DataFrame) -> None:
    """Every image's smallest angle, by class, with the median and the published angles."""
    plain = frame[~frame.method.str.startswith("augmented: ")]
    names = [name for name in r.classes if len(r.of_class(name))]
    found = estimates_of(plain, ANGLE, names, "median")
    fig = style.figure(0.9 + 0.42 * len(names))
    ax = fig.subplots()
    style.dress(ax, "smallest rotation that changes the prediction, degrees (logarithmic)", grid="x")
    ax.set_xscale("log")
    for y, (name, estimate) in enumerate(found):
        own = np.sort(plain[(plain.metric == ANGLE) & (plain.method == name)].value.to_numpy())
        shown = np.maximum(own, TICKS[0])
        ax.plot(shown, y - 0.28 + 0.5 * _spread(len(own)), ".", color=style.COLOURS[5], markersize=4, alpha=0.8)
        ax.hlines(y, estimate.low, estimate.high, color=style.COLOURS[0], linewidth=2.4)
        ax.plot(estimate.value, y, "o", color=style.COLOURS[0], markersize=6, label="median, 95 % interval" if not y else None)
        told = [degrees for own_class, _, degrees in PUBLISHED if own_class == name]
        ax.plot(
            told, [y] * len(told), "D", markersize=7, markerfacecolor="none", markeredgecolor=style.COLOURS[1],
            markeredgewidth=1.6, label="published" if told and name == _first(names) else None,
        )  # fmt: skip
    ax.set_xticks(TICKS, [f"{t:g}" for t in TICKS])
    ax.minorticks_off()
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    fig.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=style.SMALL)
    ordered = sorted(found, key=lambda pair: pair[1].value)
    low, high = ordered[0], ordered[-1]
    plotting.show(
        fig,
        name="rotation-angles",
        caption=f"Smallest rotation, either way, that changes the prediction: one dot an image, n = {sum(e.n for _, e in found)}. Images "
        f"that nothing changes stand at {r.maximum:g} degrees; below {first_turn(SIDE):.2f} no pixel moves. Diamonds: the document's nine numbers, bounds of its random draws.",
        alt=f"Median angles by class from {number(low[1].value)} ({low[0]}) to {number(high[1].value)} degrees ({high[0]}); single "
        f"images from {number(_end(plain, names, 'min'))} to {number(_end(plain, names, 'max'))}.",
    )


def _spread(n: int) -> np.ndarray:
    """n numbers in [0, 1] without order: the golden ratio's multiples."""
    return (np.arange(n) * 0.618034) % 1


def _first(names: Sequence[str]) -> str:
    told = [name for name, _, _ in PUBLISHED]
    return next((name for name in names if name in told), "")


def _end(frame: pd.DataFrame, names: Sequence[str], how: str) -> float:
    return float(frame[(frame.metric == ANGLE) & frame.method.isin(list(names))].value.agg(how))


def percentiles(frame: pd.DataFrame) -> None:
    """Where each published angle lies among the angles of its class."""
    labels = [f"{name} {degrees:g}" for name, _, degrees in PUBLISHED]
    found = estimates_of(frame, BELOW, labels)
    known = [(f"{label.replace(' ', ', ')} degrees", e) for label, e in found if e.n]
    if not known:
        none = Estimate(float("nan"), float("nan"), float("nan"), 0)
        known = [("no image of these classes", none)]
    ends = [
        number(e.value)
        for e in (min((e for _, e in known), key=lambda e: e.value), max((e for _, e in known), key=lambda e: e.value))
    ]
    plotting.show(
        plotting.estimates(known, xlabel="share of the class that changes at a smaller angle", reference=0.5),
        name="rotation-percentiles",
        caption="The document's angles among those of their classes. 0.5 is a typical image of its class; near 1 the published number is an "
        "exception, and near 0 too.",
        alt=f"Shares from {ends[0]} to {ends[1]} for {len(known)} published angles, with 95 % intervals; half marked by a line.",
    )


def flips(r: Rotations) -> None:
    """What images of each class are taken for at the smallest angle."""
    targets, to = r.cases.plain.targets, r.plain["flips_to"]
    counts = transitions(targets, to, len(r.classes)).numpy()
    some = np.flatnonzero(counts.sum(axis=1))
    shares = counts[some] / counts[some].sum(axis=1, keepdims=True)
    shares[shares == 0] = np.nan
    most = {r.classes[i]: r.classes[int(counts[i].argmax())] for i in some}
    labels = [f"{r.classes[i]} ({counts[i].sum()})" for i in some]
    text = "; ".join(f"{one} to {other}" for one, other in most.items())
    plotting.show(
        plotting.matrix(shares, labels, xlabel="share of the images that change", columns=list(r.classes)),
        name="rotation-flips",
        caption="What images of a class (row, with the number that changes) are taken for at the smallest rotation.",
        alt=f"Most frequent: {text}."[:245],
    )


def remaining(r: Rotations) -> None:
    """Share of images that no rotation up to an angle has changed, for the net, inside the disc, and with augmentation."""
    at = np.linspace(0, r.maximum, 10)
    kept = (r.inside["amounts"] != 0).numpy()
    lines = {
        "as trained": r.angles(r.plain),
        DISC: r.angles(r.inside)[kept],
        "trained on rotated images": r.angles(r.augmented),
    }
    survived = {
        label: [stats.bootstrap_interval((own > angle).astype(float)) for angle in at[:-1]] for label, own in lines.items()
    }
    middle = len(at) // 2
    words = [f"{label} {number(points[middle].value)} (n = {points[0].n})" for label, points in survived.items()]
    plotting.show(
        plotting.curve(list(at[:-1]), survived, xlabel="angle, degrees", ylabel="share that no smaller rotation changes"),
        name="rotation-remaining",
        caption="Share of images whose prediction no rotation up to an angle changes, in either direction. Inside the disc no black corners "
        "come in; images that the mask alone changes are left out there. The net trained on rotated images is asked about those "
        "that it classifies correctly too.",
        alt=f"At {number(float(at[middle]))} degrees: {', '.join(words)}."[:245],
    )

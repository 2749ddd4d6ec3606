"""Study `case_studies`, part digits: its tables, with captions computed from the results."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from xai_lib import plotting, stats
from xai_lib.compendium import book_words
from xai_lib.stats import Estimate
from xai_lib.studies.case_digits import BY_GRADIENT, FLIPS, ORDERS, OTHERS, RANDOM, SALIENCY, UNTRAINED, Digits
from xai_lib.studies.case_digits_rows import (
    DENSER,
    DENSITY,
    MODAL,
    NAMED,
    PLACES,
    SHARE,
    Covers,
    both,
    cover_name,
    flip_names,
    flips,
    place,
)


def places(frame: pd.DataFrame) -> None:
    """The places that the document names: density of the saliency, for other classes, and before training."""
    lines = []
    asked = [("MLP", "MLP: ", digit, name) for digit, names in PLACES.items() for name in names]
    for net, prefix, digit, name in [*asked, *(("CNN", "", 4, name) for name in PLACES[4])]:
        labels = {label: prefix + place(label, name, digit) for label in (SALIENCY, OTHERS, UNTRAINED)}
        if labels[SALIENCY] not in set(frame.method):
            continue
        own = _values(frame, DENSITY, labels[SALIENCY])
        lines.append(
            {
                "net": net,
                "digit and place": f"{digit}: {name}",
                "n": int(own.notna().sum()),
                "density": _short(stats.bootstrap_interval(own)),
                "images above 1": _short(stats.bootstrap_interval(_values(frame, DENSER, labels[SALIENCY]))),
                "minus that for other classes": _short(_gap(frame, DENSITY, labels[SALIENCY], labels[OTHERS])),
                "minus untrained": _short(_gap(frame, DENSITY, labels[SALIENCY], labels[UNTRAINED])),
            }
        )
    plotting.table(
        pd.DataFrame(lines),
        caption="Density of the saliency in the places that the document names (1: as much as the area), test digits that are read right, means "
        "with 95 % intervals; the share of images in which it exceeds 1; paired differences to the saliency of the nine other classes "
        "at the same place, and to nets with drawn weights. n: images that have the place.",
        name="named-places",
    )


def rings(frame: pd.DataFrame) -> None:
    """Ring against ink: shares, densities and paired differences, for test and training images and both nets."""
    lines = []
    for title, prefix in {
        "CNN, test": "",
        "CNN, training": "training images: ",
        "MLP, test": "MLP: ",
        "CNN with ReLU, test": "ReLU CNN: ",
    }.items():
        ink, ring, far = (f"{prefix}{SALIENCY} | {name}" for name in ("ink", "ring", "far"))
        lines.append(
            {
                "net, images": title,
                "n": int(_values(frame, DENSITY, ring).notna().sum()),
                **{f"share, {name}": _mean(frame, SHARE, one) for name, one in (("ink", ink), ("ring", ring), ("far", far))},
                "ring − ink, density": _short(_gap(frame, DENSITY, ring, ink)),
                "above 0.5": _short(_gap(frame, DENSITY, f"{ring} around ink above 0.5", f"{ink} above 0.5")),
                "ring − untrained ring": _short(_gap(frame, DENSITY, ring, f"{prefix}{UNTRAINED} | ring")),
            }
        )
    plotting.table(
        pd.DataFrame(lines),
        caption="Saliency on the ink, on the ring around it and on far ground: mean shares of the map; paired differences of densities with "
        "95 % intervals, between ring and ink, the same with the grey edges of strokes counted as ground (ink above 0.5), and between the "
        "ring's and that of nets with drawn weights.",
        name="ring-and-ink",
    )


def added_ink(digits: Digits, frame: pd.DataFrame, p: Mapping[str, Any]) -> None:
    """What ink makes of 4s and 5s, by order of pixels."""
    lines: list[dict[str, Any]] = []
    sizes: dict[int, int] = {}
    for digit, case in both(digits).items():
        becomes, changes, _, _ = flip_names(digit)
        _, found = flips(case, digit, p)
        sizes[digit] = len(found[RANDOM])
        for label in ORDERS:
            other = found[label][found[label] != digit]
            usual = np.bincount(other, minlength=10).argmax() if len(other) else None
            lines.append(
                {
                    "digit": digit,
                    "ink goes to": label,
                    f"named digit ({' or '.join(str(to) for to, _ in FLIPS.values())})": _mean(frame, becomes, label),
                    "minus random": _short(_gap(frame, becomes, label, RANDOM)) if label != RANDOM else "",
                    f"minus {BY_GRADIENT}": _short(_gap(frame, becomes, label, BY_GRADIENT)) if label != BY_GRADIENT else "",
                    "any other digit": _mean(frame, changes, label),
                    "most often": "–" if usual is None else str(usual),
                }
            )
    plotting.table(
        pd.DataFrame(lines),
        caption=f"Ink added to the ground of {' and '.join(f'{n} test {digit}s' for digit, n in sizes.items())} that are read right: share read as "
        f"9 (of the 4s) or 6 (of the 5s), mean over {', '.join(map(str, p['ink_counts']))} pixels, with 95 % intervals and paired differences; "
        "share read as any other digit, and which one most often.",
        name="added-ink",
    )


def covered(found: Covers, frame: pd.DataFrame) -> None:
    """The transitions that the document names: how often, and whether another is more frequent."""
    lines = []
    for digit, sides, named in NAMED:
        label = f"{cover_name(digit, sides)}: {named}"
        if label not in set(frame.method):
            continue
        wrong = found.wrong(digit, sides)
        total = wrong.sum(axis=1).mean()
        ranked = [c for c in np.argsort(-wrong.mean(axis=0), kind="stable") if wrong[:, c].any()][:3]
        modal = stats.bootstrap_interval(_values(frame, MODAL, label))
        lines.append(
            {
                "covered": label.split(":")[0],
                "document": named,
                "n": modal.n,
                "read wrong": float(total),
                "named, of these": float(wrong[:, named].mean() / total) if total else float("nan"),
                "most frequent": ", ".join(f"{c} ({book_words.number(float(wrong[:, c].mean() / total), 2)})" for c in ranked),
                "named − next": _short(modal),
            }
        )
    plotting.table(
        pd.DataFrame(lines),
        caption="Covered rows, 5 to 14, all test digits that are read right: share read wrong, share of these that are read as the document's class, "
        "the most frequent wrong classes with their shares, and the difference between the named class and the next, with its 95 % interval.",
        name="covered-rows",
    )


def _values(frame: pd.DataFrame, metric: str, method: str) -> pd.Series:
    return frame[(frame.metric == metric) & (frame.method == method)].value


def _mean(frame: pd.DataFrame, metric: str, method: str) -> str:
    return _short(stats.bootstrap_interval(_values(frame, metric, method)))


def _short(estimate: Estimate) -> str:
    """Value and interval; n stands beside."""
    return book_words.interval(estimate.value, estimate.low, estimate.high)


def _gap(frame: pd.DataFrame, metric: str, method: str, versus: str) -> Estimate:
    own = frame[(frame.metric == metric) & frame.method.isin([method, versus])]
    both_values = own.pivot_table(index="sample", columns="method", values="value").reindex(columns=[method, versus]).dropna()
    return stats.paired_difference(both_values[method], both_values[versus])

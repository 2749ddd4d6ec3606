"""Study `case_studies`, tables of part rotation."""

import pandas as pd

from xai_lib import plotting, stats
from xai_lib.compendium import book_words
from xai_lib.stats import Estimate
from xai_lib.studies import case_rotation_rows as part
from xai_lib.studies.case_rotation import PUBLISHED, Rotations
from xai_lib.studies.case_rotation_rows import ANGLE, BELOW, BOUND_BELOW, DISC, EVERY
from xai_lib.studies.common_figures import estimates_of


def _short(estimate: Estimate) -> str:
    return book_words.interval(estimate.value, estimate.low, estimate.high)


def _one(frame: pd.DataFrame, metric: str, method: str, statistic: str = "mean") -> Estimate:
    return estimates_of(frame, metric, [method], statistic)[0][1]


def by_class(r: Rotations, frame: pd.DataFrame) -> None:
    """The smallest angle by class."""
    plain = frame[~frame.method.str.startswith("augmented: ")]
    names = [name for name in r.classes if len(r.of_class(name))]
    lines = [
        {
            "class": name,
            "n": _one(plain, ANGLE, name).n,
            "median angle": _short(_one(plain, ANGLE, name, "median")),
            "not changed": _short(_one(plain, part.NONE, name)),
            "others before": _short(_one(plain, part.LATER, name)) if name != EVERY else "",
        }
        for name in [*names, EVERY]
    ]
    plotting.table(
        pd.DataFrame(lines),
        caption=f"Smallest rotation that changes the prediction, degrees; share of images that none up to {r.maximum:g} degrees changes; and "
        "the share of images of other classes that change at a smaller angle (0.5: as robust as they). 95 % intervals over images.",
        name="rotation-classes",
    )


def protocol(frame: pd.DataFrame) -> None:
    """The document's number beside the smallest angle."""
    own = {
        "random bound minus smallest angle": part.OVER,
        "expected of it, if larger angles change it too": part.EXPECTED,
        "standard deviation over repeats": part.SPREAD,
    }
    found = {label: _one(frame, metric, EVERY, "median") for label, metric in own.items()}
    plotting.table(
        pd.DataFrame([{"degrees": label, "median over images": _short(e), "n": e.n} for label, e in found.items()]),
        caption="What the document reports is the bound at the first unlucky random draw. Medians over images, means over repeats within "
        "each; 95 % intervals. Draws are rounded to the resolution among the parameters.",
        name="rotation-protocol",
    )


def published(frame: pd.DataFrame) -> None:
    """Each published angle among the smallest angles and among the random bounds of its class."""
    lines = []
    for name, to, degrees in PUBLISHED:
        label = f"{name} {degrees:g}"
        angle, bound = _one(frame, BELOW, label), _one(frame, BOUND_BELOW, label)
        lines.append(
            {"image": f"{name} to {to}", "degrees": degrees, "angles below": _short(angle), "n": angle.n}
            | {"random bounds below": _short(bound), "n of these": bound.n}
        )
    plotting.table(
        pd.DataFrame(lines),
        caption="The document's nine numbers: share of the class whose smallest angle, and whose random bound, lies below. 95 % intervals.",
        name="rotation-published",
    )


def controls(frame: pd.DataFrame) -> None:
    """Black corners, green borders, augmentation."""
    own = frame[(frame.metric == ANGLE) & frame.method.isin([DISC, EVERY])]
    both = own.pivot_table(index="sample", columns="method", values="value").reindex(columns=[DISC, EVERY]).dropna()
    angle = "median smallest angle, degrees"
    found = {
        "changed by the mask alone, share": _one(frame, part.MASKED, EVERY),
        f"{angle}, inside the disc": _one(frame, ANGLE, DISC, "median"),
        "the same minus that with black corners": stats.paired_difference(both[DISC], both[EVERY], statistic="median"),
        "green border with a flip to frog, all but frogs": _one(frame, part.WITH_GREEN, "all but frogs"),
        "the same, ships": _one(frame, part.WITH_GREEN, "ship"),
        f"{angle}, with augmentation": _one(frame, ANGLE, f"augmented: {EVERY}", "median"),
        "its ratio to that without, same images": _one(frame, part.RATIO, f"augmented: {EVERY}", "median"),
    }
    plotting.table(
        pd.DataFrame([{"control": label, "found": _short(e), "n": e.n} for label, e in found.items()]),
        caption="Controls: the disc keeps black corners out; correlation of ranks of the border's green share with a flip to frog; the net "
        "trained on rotated images. 95 % intervals over images.",
        name="rotation-controls",
    )

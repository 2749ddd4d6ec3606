"""Study `case_studies`, part features: figures, with captions and alternative texts computed from the results."""

import pandas as pd

from xai_lib import features, plotting
from xai_lib.plotting import number
from xai_lib.plotting.features import hog_panels, lbp_panels
from xai_lib.studies.case import Case
from xai_lib.studies.case_features import (
    ABSENT,
    ANY,
    NETS,
    PRESENT,
    TRAINED,
    UNTRAINED,
    Digits,
    case_of,
    density,
    maps_of,
    place_means,
)
from xai_lib.studies.common_figures import estimates_of
from xai_lib.types import Samples

CELLS = ("top left", "top right", "bottom left", "bottom right")
CONDITIONS = tuple(f"{label}, {which}" for label in ("HOG", f"HOG, {ANY}", "LBP") for which in (TRAINED, UNTRAINED))


def _shown(digits: Digits, short: str, seed: int) -> tuple[Samples, Case]:
    pixels = digits.examples[short]
    return pixels, case_of(NETS[short], pixels, {"seed": seed, "max_batch": 0})


def hog_figure(digits: Digits, *, seed: int = 0) -> None:
    """Figure 3 of the document: HOG features and their saliency, as strokes; and its own way of drawing them."""
    pixels, case = _shown(digits, "HOG", seed)
    saliency, places = maps_of(case, 1)[TRAINED][0], features.hog_geometry()
    there = features.present(pixels.inputs, "hog")
    columns = [
        ("HOG", case.inputs, places),
        ("|gradient|", saliency, places),
        ("HOG as drawn in the document", case.inputs, features.as_published(places)),
        ("|gradient| as drawn in the document", saliency, features.as_published(places)),
    ]
    found = density(saliency, ~there).tolist()
    plotting.show(
        hog_panels(pixels, columns, absent=~there),
        name="hog-saliency",
        caption="The 36 HOG features of three digits, and the size of the gradient of the predicted class by each: a stroke lies along the "
        "edge that a feature counts, in its cell. Dotted: less than the feature's equal part of all edges. The document draws nine directions "
        "of a half turn over a whole turn and the upper cells below, so that most of its strokes match no edge of the digit.",
        alt=f"Strokes of HOG features and of their saliency for the digits {_labels(pixels)}; features that a digit does not have hold "
        f"{', '.join(number(v) for v in found)} times their share of the saliency.",
    )


def lbp_figure(digits: Digits, *, seed: int = 0) -> None:
    """Figure 2 of the document: LBP images and their saliency, beside that of a net that was never trained."""
    pixels, case = _shown(digits, "LBP", seed)
    made = maps_of(case, 1)
    there = features.present(pixels.inputs, "lbp")
    found = density(made[TRAINED][0], ~there).tolist()
    plotting.show(
        lbp_panels(
            pixels, case.inputs, [("|gradient|", made[TRAINED][0]), ("|gradient|, untrained", made[UNTRAINED][0])], there
        ),
        name="lbp-saliency",
        caption="LBP images of three digits and the size of the gradient of the predicted class by each of their pixels. The line surrounds the "
        "pixels whose pattern is not that of a flat place. All of them are ink: nothing is darker than black, so every black pixel has "
        "the flat pattern. Where no digit ever has ink, the faint grain of a trained net's map is that of its first, random weights.",
        alt=f"Saliency maps of the digits {_labels(pixels)}, with blots in and beside the digit; outside its pattern lies "
        f"{', '.join(number(v) for v in found)} times the share of the saliency that a uniform map has.",
    )


def densities(frame: pd.DataFrame) -> None:
    """How dense the saliency is on features that are there and on those that are not, trained and untrained."""
    pairs = [
        (f"{method}: {'present' if metric == PRESENT else 'absent'}", estimate)
        for metric in (PRESENT, ABSENT)
        for method, estimate in estimates_of(frame, metric, CONDITIONS)
    ]
    found = dict(pairs)
    words = [
        f"{net} {number(found[f'{net}, {TRAINED}: {where}'].value)} on {where}"
        for net in NETS
        for where in ("present", "absent")
    ]
    plotting.show(
        plotting.estimates(pairs, xlabel="share of |gradient| / share of the features", reference=1.0),
        name="feature-density",
        caption="Density of the saliency on features that a digit has and on features that it has not; the line is a uniform saliency. "
        f"HOG features are present above their equal part of all edges ({ANY}: above 0), LBP features where the pattern is not flat.",
        alt=f"Trained nets: {', '.join(words)} features; untrained nets all near 1; n = {pairs[0][1].n} digits, 95 % intervals."[
            :245
        ],
    )


def places(digits: Digits, p: dict[str, object]) -> None:
    """The density of the HOG net's saliency by cell and direction."""
    saliency, edges = (values.reshape(4, 9) for values in place_means(digits, p))
    directions = [f"{angle:.0f}°" for angle in features.hog_geometry().stroke[:9]]
    top = int(saliency.argmax())
    values = [row.tolist() for part in (saliency, edges) for row in part]
    plotting.show(
        plotting.matrix(
            pd.DataFrame(values),
            [f"{what}, {cell}" for what in ("|gradient|", "HOG") for cell in CELLS],
            xlabel="mean over digits / equal part",
            columns=directions,
            digits=1,
        ),
        name="hog-places",
        caption="Where the HOG net's saliency lies (upper half) and where the digits' edges are (lower half), by cell and direction of the edge "
        "(0° lies, 90° stands). Means over digits of the share that a feature holds, times 36.",
        alt=f"Heat map of 36 features twice; most saliency, {number(float(saliency.max()))} times the equal part, on edges of "
        f"{directions[top % 9]} in the cell {CELLS[top // 9]}.",
    )


def _labels(pixels: Samples) -> str:
    return ", ".join(pixels.class_names[target] for target in pixels.targets.tolist())

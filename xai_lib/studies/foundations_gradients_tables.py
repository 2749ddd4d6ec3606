"""Lesson `foundations_gradients`, tables."""

from collections.abc import Mapping, Sequence

import pandas as pd
from torch import Tensor

from xai_lib import plotting
from xai_lib.plotting import number
from xai_lib.studies.common_figures import estimates_of
from xai_lib.studies.foundations_gradients import GAP, MOVED, NOISES, RANK, TURNED
from xai_lib.studies.foundations_gradients_axioms import AXIOMS, CHECKED, LATER, METRIC, verdict
from xai_lib.studies.foundations_gradients_noise import DIFFERENCE
from xai_lib.studies.foundations_gradients_twins import SPELLED, TWINS

SETS = {"digits": "mnist_5k", "photographs": "photos"}


def noise(frame: pd.DataFrame) -> None:
    """What invisible noise does to the logit and to the gradient."""
    lines = []
    for word, dataset in SETS.items():
        own = frame[frame.dataset == dataset]
        for sigma in NOISES:
            moved, turned = (estimates_of(own, metric, [f"noise {sigma:g}"])[0][1] for metric in (MOVED, TURNED))
            lines.append(
                {"pictures": word, "noise, grey levels": round(255 * sigma, 1), "logit moves by": moved, TURNED: turned}
            )
    caption = "Normal noise on the picture: relative change of the logit, and cosine between the gradients with and without it."
    plotting.table(pd.DataFrame(lines), caption=caption, name="noise", digits=2)


def twins(made: Mapping[str, Mapping[str, tuple[Tensor, Tensor]]]) -> None:
    """Maps of the pairs of toys at one point."""
    lines = []
    for pair in TWINS:
        for method, (first, second) in made[pair].items():
            apart = float((first - second).abs().max())
            words = {"first net": _vector(first), "second net": _vector(second), "equal": apart < 1e-6}
            lines.append({"pair": pair, "method": method, **words})
    plotting.table(pd.DataFrame(lines), caption="Maps at (3, 1) of nets that compute the same function.", name="toy-twins")


def _vector(values: Tensor) -> str:
    return "(" + ", ".join(number(round(v, 6), 3) for v in values.tolist()) + ")"


def spellings(frame: pd.DataFrame) -> None:
    """How far the maps of two spellings of one classifier agree."""
    found = estimates_of(frame, RANK, [f"{name} vs {name} of the twin" for name in SPELLED])
    lines = [{"method": name, "rank correlation": e} for name, (_, e) in zip(SPELLED, found, strict=True)]
    caption = "Spearman correlation between the maps of `mnist_cnn` and of its other spelling, mean over digits."
    plotting.table(pd.DataFrame(lines), caption=caption, name="spellings")


def axioms(frame: pd.DataFrame) -> None:
    """Every axiom by every method: what was found, and the largest violation."""
    lines = []
    for axiom in AXIOMS:
        cells = {"axiom": axiom}
        for method in CHECKED:
            own = frame[frame.method == f"{method} | {axiom}"].set_index("metric").value
            cells[method] = _cell(float(own[METRIC]), float(own[LATER]))
        lines.append(cells)
    caption = (
        "Largest violation of each axiom on the test functions. Two numbers: with few and with 64 times as many draws or steps."
    )
    plotting.table(pd.DataFrame(lines), caption=caption, name="axioms")


def _cell(few: float, many: float) -> str:
    word = verdict(few, many)
    numbers = f"{number(few, 2)} → {number(many, 2)}" if word == "in the limit" else number(max(few, many), 2)
    return f"**{word}** {numbers}"


def compare(frame: pd.DataFrame, metrics: Sequence[str], *, name: str, caption: str) -> None:
    """Every condition of some metrics, digits beside photographs."""
    lines = []
    for metric in metrics:
        for method in dict.fromkeys(frame[frame.metric == metric].method):
            cells = {"measured": metric, "of": method}
            for word, dataset in SETS.items():
                cells[word] = estimates_of(frame[frame.dataset == dataset], metric, [method])[0][1]
            lines.append(cells)
    plotting.table(pd.DataFrame(lines), caption=caption, name=name, digits=2)


def dark(frame: pd.DataFrame) -> None:
    """Shares of the attribution on the darkest and the brightest tenth of photographs."""
    lines = []
    places = ("darkest", "brightest")
    for name in dict.fromkeys(frame.method):
        found = {p: estimates_of(frame, f"share of the attribution on the {p} tenth", [name])[0][1] for p in places}
        lines.append({"baseline": name, **found})
    caption = (
        "Share of the attribution (sizes) on the darkest and on the brightest tenth of a photograph's values; by chance 0.1."
    )
    plotting.table(pd.DataFrame(lines), caption=caption, name="dark", digits=2)


def paths(frame: pd.DataFrame) -> None:
    """Completeness and agreement of three paths."""
    compare(
        frame, (GAP, RANK), name="path-agreement", caption="Three paths between the same two pictures, means over pictures."
    )


def identity(frame: pd.DataFrame) -> None:
    """What the three summaries of noisy gradients are, checked on every digit."""
    own = frame[frame.metric == DIFFERENCE]
    lines = [
        {"claim": claim, "largest difference": float(part.value.max())} for claim, part in own.groupby("method", sort=False)
    ]
    n = own["sample"].nunique()
    caption = (
        f"Largest difference between the two sides, relative to the largest value of the map, over {n} digits and all pixels."
    )
    plotting.table(pd.DataFrame(lines), caption=caption, name="identity", digits=2)

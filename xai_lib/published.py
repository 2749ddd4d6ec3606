"""The published per-image overlaps of document 003, and what they say themselves (CLAIMS D5 to D9, D12).

`published/003_<model>_<metric>.csv` under `$XAI_DATA`: one line per ILSVRC validation image (number 1 is the first), one column
per method, an empty field where the authors have no value. The tables may not be redistributed, so none is in this repository.
"""

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xai_lib import stats
from xai_lib.data.places import find, roots
from xai_lib.errors import DataError, InputError, unknown

MODELS = ("vgg16", "resnet", "inception")
METHODS = ("deeplift", "gradcam", "lime", "shap")
"""The columns; FIDELITY E3.6 tells what they hold: "gradcam" is Guided Grad-CAM, "shap" a gradient SHAP of a hidden layer."""
METRICS: Mapping[str, str] = {"iou": "intersect", "iou_star": "intensity"}
"""Metric -> name in the files: IOU thresholds at half a standard deviation, IOU* at one (FIDELITY 8.19)."""
COLUMNS = ("image", "model", "method", "metric", "value")


def overlaps() -> pd.DataFrame:
    """Every published overlap, tidy.

    Returns:
        Columns image (int), model, method, metric, value (float, NaN = not published), in the order of models, metrics, methods
        and images. 1,000 images of VGG-16, 100 each of ResNet-50 and Inception-v3.

    Raises:
        DataError: a table is missing, unreadable or damaged; says which and where it was looked for.
    """
    names = {(model, metric): f"published/003_{model}_{word}.csv" for model in MODELS for metric, word in METRICS.items()}
    root = find("published overlaps of document 003", *names.values())
    if root is None:
        looked = "; ".join(f"{folder}{'' if folder.is_dir() else ' (no such folder)'}" for folder in roots())
        raise DataError(
            f"published overlaps of document 003 not found: looked for {', '.join(names.values())} in {looked}. They are "
            "results/eval/<model>/<word>_results.csv of the document's own repository (P0ntiff/thesis at f1b1323); put them "
            "there under these names, and set XAI_DATA to the folder above `published`"
        )
    return pd.concat([read_table(root / name, model, metric) for (model, metric), name in names.items()], ignore_index=True)


def read_table(path: Path, model: str, metric: str) -> pd.DataFrame:
    """One table, checked.

    Args:
        path: a CSV file with the header img_no and at least one of `METHODS`.
        model, metric: what it holds.

    Returns:
        Columns as in `overlaps`, sorted by method and image.

    Raises:
        DataError: unreadable; no or unknown columns; no rows; image numbers that are no whole numbers from 1 or repeat; values
            that are no numbers in [0, 1].
    """
    try:
        header, *lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines())) or [[]]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({error}); fetch it again") from error
    methods = [name for name in METHODS if name in header]
    if sorted(header) != sorted(["img_no", *methods]) or not methods:
        raise DataError(f"{path}: columns {header}, expected img_no and some of {', '.join(METHODS)}, once each")
    for count, line in enumerate(lines, start=2):
        if len(line) != len(header):
            raise DataError(f"{path}, line {count}: {len(line)} fields, expected {len(header)}; fetch it again")
    found = pd.DataFrame(lines, columns=header, dtype=object)
    numbers = found["img_no"].tolist()
    wrong = [number for number in numbers if not re.fullmatch("[1-9][0-9]{0,8}", number)]
    if wrong or not numbers or len(set(numbers)) != len(numbers):
        told = repr(wrong[0]) if wrong else "a number twice" if numbers else "no line"
        raise DataError(f"{path}: column img_no holds {told}, expected each image's number, 1 or more, once")
    parts = [_tidy(path, found, model, method, metric) for method in methods]
    return pd.concat(parts, ignore_index=True)


def summary(table: pd.DataFrame, *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Mean and spread over images of every model, metric and method (D5, D6, D9).

    Args:
        table: as `overlaps` returns it, or a part of it.
        level, resamples, seed: of the bootstrap interval of the mean (`stats.bootstrap_interval`).

    Returns:
        One line per model, metric and method, in the table's order: model, metric, method, n (values), missing, mean, sd
        (divisor n, as the document's), low, high. NaN where n is 0, the interval also where n is 1.

    >>> made = pd.DataFrame({"image": [1, 2], "model": "m", "method": "a", "metric": "iou", "value": [0.2, 0.4]})
    >>> summary(made)[["n", "mean", "sd"]].round(3).to_dict("list")
    {'n': [2], 'mean': [0.3], 'sd': [0.1]}
    """
    lines = []
    for (model, metric, method), part in _checked(table).groupby(["model", "metric", "method"], sort=False):
        found = stats.bootstrap_interval(part["value"], level=level, resamples=resamples, seed=seed)
        spread = float(part["value"].std(ddof=0))
        own = {"n": found.n, "missing": found.dropped, "mean": found.value, "sd": spread, "low": found.low, "high": found.high}
        lines.append({"model": model, "metric": metric, "method": method, **own})
    return pd.DataFrame(lines)


def correlation_with(
    table: pd.DataFrame, given: "pd.Series[float]", *, model: str, metric: str = "iou", seed: int = 0
) -> pd.DataFrame:
    """Pearson correlation over images of each method's overlap with a number per image, such as the area of the boxes (D5).

    Args:
        table: as `overlaps` returns it.
        given: indexed by image number; images that are in one of the two only are left out.
        model, metric: which part of the table.
        seed: of the bootstrap.

    Returns:
        One line per method: method, n, correlation, low, high (95 %). The correlation is the slope of the standardised overlap
        on the standardised number, and so is its interval (`stats.regress`). NaN where one of them is constant.

    Raises:
        ConfigError: unknown model or metric.
        InputError: an image occurs twice in `given`, or fewer than two are common.
    """
    if given.index.has_duplicates:
        raise InputError(f"image {given.index[given.index.duplicated()][0]} is given twice; one number per image is needed")
    wide = by_image(table, model=model, metric=metric)
    common = wide.index.intersection(given.dropna().index)
    if len(common) < 2:
        raise InputError(f"{len(common)} of {len(given)} images are in the table ({len(wide)} of {model}); 2 are needed")
    lines = []
    for method in wide.columns:
        found = _correlation(wide.loc[common, method], given.loc[common], seed)
        lines.append({"method": method, "n": found.n, "correlation": found.value, "low": found.low, "high": found.high})
    return pd.DataFrame(lines)


def image_correlation(
    table: pd.DataFrame, one: str, other: str, *, model: str, metric: str = "iou", seed: int = 0
) -> stats.Estimate:
    """Pearson correlation over images of two methods' overlaps (D12); interval as in `correlation_with`.

    Raises:
        ConfigError: unknown model, metric or method.
    """
    wide = by_image(table, model=model, metric=metric)
    for method in (one, other):
        if method not in wide.columns:
            raise unknown("published method", method, wide.columns)
    return _correlation(wide[one], wide[other], seed)


def confidence_difference(
    table: pd.DataFrame, confident: "pd.Series[bool]", *, model: str, metric: str = "iou", seed: int = 0
) -> pd.DataFrame:
    """Mean overlap of the images that the model is sure about less that of the others (D8).

    Args:
        table: as `overlaps` returns it.
        confident: bool, indexed by image number; every image of the table must be there.
        model, metric: which part of the table.
        seed: of the bootstrap.

    Returns:
        One line per method: method, n_high, n_low, high, low (means), difference, standard_error (sqrt(s_h^2 / n_h +
        s_l^2 / n_l) with divisors n - 1), ratio (difference / standard_error), from, to (95 % bootstrap interval of the
        difference).

    Raises:
        ConfigError: unknown model or metric.
        InputError: `confident` is not bool, lacks an image of the table, or leaves a group with fewer than two.
    """
    wide = by_image(table, model=model, metric=metric)
    lacking = wide.index.difference(confident.index)
    if confident.dtype != bool or len(lacking) or confident.index.has_duplicates:
        told = f"image {lacking[0]} is not in it" if len(lacking) else f"{confident.dtype}, {len(confident)} entries"
        raise InputError(f"confident: expected one bool for each image of the table, found {told}")
    lines: list[dict[str, Any]] = []
    for method in wide.columns:
        values = wide[method].dropna()
        high = confident.loc[values.index]
        a, b = values[high], values[~high]
        if min(len(a), len(b)) < 2:
            raise InputError(f"{method}: {len(a)} confident and {len(b)} other images with a value; 2 of each are needed")
        error = float(np.sqrt(a.var() / len(a) + b.var() / len(b)))
        found = stats.regress(values, high.astype(float), seed=seed)
        means = {"n_high": len(a), "n_low": len(b), "high": a.mean(), "low": b.mean(), "difference": a.mean() - b.mean()}
        own = {"standard_error": error, "ratio": means["difference"] / error if error else np.nan}
        lines.append({"method": method, **means, **own, "from": found.low, "to": found.high})
    return pd.DataFrame(lines)


def ordering(table: pd.DataFrame, *, model: str, metric: str, seed: int = 0) -> pd.DataFrame:
    """Methods by falling mean over the images where all have a value, and how far each leads the next (D7).

    Methods without any value are left out.

    Returns:
        One line per method, best first: method, n, mean, lead (mean paired difference to the next), low, high (its 95 %
        bootstrap interval; all three NaN in the last line). Two orders agree where their columns `method` do.

    Raises:
        ConfigError: unknown model or metric.
    """
    wide = by_image(table, model=model, metric=metric).dropna(axis=1, how="all").dropna()
    means = wide.mean().sort_values(ascending=False, kind="stable")
    lines = []
    for place, method in enumerate(means.index):
        own = {"method": method, "n": len(wide), "mean": float(means[method]), "lead": np.nan, "low": np.nan, "high": np.nan}
        if place + 1 < len(means):
            found = stats.paired_difference(wide[method], wide[means.index[place + 1]], seed=seed)
            own |= {"lead": found.value, "low": found.low, "high": found.high}
        lines.append(own)
    return pd.DataFrame(lines, columns=["method", "n", "mean", "lead", "low", "high"])


def by_image(table: pd.DataFrame, *, model: str, metric: str) -> pd.DataFrame:
    """One line per image (index), one column per method.

    Raises:
        ConfigError: the table has no such model, or no such metric for it.
        InputError: columns are missing, or an image has two values of one method.
    """
    rows = _checked(table)
    for name, value in (("model", model), ("metric", metric)):
        known = rows[name].unique()
        if value not in known:
            raise unknown(f"published {name}", value, known)
        rows = rows[rows[name] == value]
    wide = rows.pivot(index="image", columns="method", values="value")
    return wide[list(dict.fromkeys(rows["method"]))]


def _correlation(one: "pd.Series[float]", other: "pd.Series[float]", seed: int) -> stats.Estimate:
    """Slope of the standardised values on each other: Pearson's r. Pairs with a NaN are dropped and counted."""
    both = pd.concat([one, other], axis=1).to_numpy(dtype=float)
    defined = both[~np.isnan(both).any(axis=1)]
    spread = defined.std(axis=0) if len(defined) else np.zeros(2)
    if not (spread > 1e-12).all():
        return stats.Estimate(np.nan, np.nan, np.nan, len(defined), len(both) - len(defined))
    scaled = (both - defined.mean(axis=0)) / spread
    return stats.regress(scaled[:, 0], scaled[:, 1], seed=seed)


def _tidy(path: Path, found: pd.DataFrame, model: str, method: str, metric: str) -> pd.DataFrame:
    values = pd.to_numeric(found[method], errors="coerce").astype(float)
    wrong = found[(found[method] != "") & ~values.between(0, 1)]
    if len(wrong):
        image, text = wrong.iloc[0][["img_no", method]]
        raise DataError(f"{path}: {method} of image {image} is {text!r}, expected a number in [0, 1]")
    images = found["img_no"].astype(int)
    made = pd.DataFrame({"image": images, "model": model, "method": method, "metric": metric, "value": values})
    return made[list(COLUMNS)].sort_values("image", kind="stable")


def _checked(table: pd.DataFrame) -> pd.DataFrame:
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise InputError(f"table: columns {', '.join(missing)} are missing; pass what `overlaps` returns, or lines of it")
    twice = table.duplicated(["image", "model", "method", "metric"])
    if twice.any():
        line = table[twice].iloc[0]
        raise InputError(f"table: image {line['image']} has two values of {line['model']}, {line['method']}, {line['metric']}")
    return table

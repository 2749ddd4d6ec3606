"""Study `case_studies`, tables: LIME of Iris, Wine and Breast cancer (claims E1 to E3), as tidy rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from xai_lib import agreement
from xai_lib.compendium.benchmark import Stages, Work, gather
from xai_lib.compendium.results import COLUMNS
from xai_lib.studies.case_listings import Listing, listings, over_seeds
from xai_lib.studies.case_tabular_tasks import DEFAULT_CLASS, versions
from xai_lib.tabular import PUBLISHED_SEED, Fitted, as_done, as_meant, columns

CLASSES = ("class 1", "predicted class")
PUBLISHED, WEIGHT, SPREAD = "published", "LIME weight", "sd of the LIME weight over seeds"
AWAY, INSIDE = "published weight, distance in sd", "published weight within 3 sd"
LISTED, AGAIN = "printed by a seed", "sign of the published weight in another fit"
WITHIN, LARGEST = 3.0, 10
"""Standard deviations around the mean of the seeds; terms that signs are asked of, at most."""
OTHERS = f"{CLASSES[1]}, where it is not {CLASSES[0]}"
ACCURACY = "accuracy on held-out rows"
LEADS, SHARE = "leads", "share of the weight, in those of an average feature"
RANKED, SAME = "rank correlation of |weights|", "same leading feature"
R2, MISS = "R2 of the surrogate", "surrogate from model at the row"
SIGNS = "terms with one sign under all seeds"
SETTING, SETTING_SIGNS = "same leading feature under another seed", "same sign under another seed"
METHODS = ("LIME", "LIME, class 1", "gradient", "Shapley values", "permutation")
PAIRS = (
    ("LIME", "LIME, class 1"), ("LIME", "gradient"), ("LIME", "Shapley values"), ("LIME", "permutation"),
    ("gradient", "Shapley values"), ("Shapley values", "permutation"),
)  # fmt: skip
KEYS = {"iris": "sepal length (cm)", "wine": "alcohol", "breast_cancer": "worst texture"}
"""What document 004 calls key features (section IV.A)."""
WIDTH = 0.75


def listing_works(p: Mapping[str, Any], table: str) -> tuple[Work, Work]:
    """LIME of the document's own fit under several seeds, and of other fits to the same rows."""
    case = {
        "table": table,
        "rows": [one.row for one in of_table(table)],
        "n_samples": p["lime_samples"],
        "versions": versions(),
    }
    own = tuple([PUBLISHED_SEED, seed] for seed in range(p["lime_seeds"]))
    refits = tuple([seed, 0] for seed in range(p["table_seeds"]))
    return Work("table_listings", case, own, size=10), Work("table_listings", case, refits, size=5)


def explanation_work(p: Mapping[str, Any], table: str) -> Work:
    """Held-out rows explained in several ways, one net a seed."""
    own = {"n_rows": p["lime_rows"], "n_repeats": p["lime_seeds"], "n_background": p["table_background"]}
    return Work("table_explanations", {**_case(p, table), "n_samples": p["lime_samples"]}, _seeds(p), own, 1)


def setting_work(p: Mapping[str, Any], table: str) -> Work:
    """LIME of the same nets under other settings."""
    own = {"settings": list(settings(p).values()), "n_rows": p["lime_setting_rows"], "n_repeats": p["lime_setting_seeds"]}
    return Work("table_settings", _case(p, table), _seeds(p), own, 1)


def works(p: Mapping[str, Any]) -> Stages:
    """Everything that is stored."""
    return [
        [
            work
            for table in p["tables"]
            for work in (*listing_works(p, table), explanation_work(p, table), setting_work(p, table))
        ]
    ]


def settings(p: Mapping[str, Any]) -> dict[str, list[Any]]:
    """[kernel width, drawn rows] by name; the package's width comes first."""
    n = p["lime_samples"]
    found = {"as it is": [WIDTH, n], "half the width": [WIDTH / 2, n], "twice the width": [2 * WIDTH, n]}
    return found | {f"{count} drawn rows": [WIDTH, count] for count in p["lime_counts"] if count != n}


def of_table(table: str) -> list[Listing]:
    """The document's listings of a table."""
    return [one for one in listings() if one.table == table]


def used(p: Mapping[str, Any]) -> list[Fitted]:
    """The document's fits and the first of ours, for the record of the run."""
    fitted = [as_done(table) for table in p["tables"]]
    return fitted + [as_meant(table, seed=0, epochs=p["table_epochs"]) for table in p["tables"]]


def listing_rows(p: Mapping[str, Any]) -> pd.DataFrame:
    """The published weights beside LIME's, term by term (claims E1, E2)."""
    frames = []
    for table in p["tables"]:
        own, refits = (gather(work).arrays for work in listing_works(p, table))
        names = columns(table)
        for row, listing in enumerate(of_table(table)):
            frames += _listed(listing, own["weights"][:, row], refits["weights"][:, row], own["predicted"][0, row], names)
    return pd.concat(frames, ignore_index=True)


def _listed(
    listing: Listing, weights: np.ndarray, refits: np.ndarray, predicted: int, names: Sequence[str]
) -> list[pd.DataFrame]:
    from xai_lib.methods.lime_tabular import parse_rule

    at = [names.index(parse_rule(rule)[0]) for rule in listing.terms]
    samples = [f"{listing.heading}: {rule}" for rule in listing.terms]
    printed = np.array(list(listing.terms.values()))

    def made(method: str, metric: str, values: np.ndarray, own: Sequence[str] = samples, seed: Any = 0) -> pd.DataFrame:
        about = {"predicted": int(predicted), "heading": listing.heading}
        return tidy(listing.table, "as done", method, metric, values, own, seed, about)

    frames = [made(PUBLISHED, WEIGHT, printed)]
    for k, label in enumerate(CLASSES):
        mean, spread, listed = over_seeds(weights[:, k, at])
        away = np.abs(printed - mean) / np.where(spread > 0, spread, np.nan)
        inside = np.where(np.isnan(away) & (listed > 0), np.nan, away < WITHIN)
        frames += [
            made(label, WEIGHT, mean),
            made(label, SPREAD, spread),
            made(label, AWAY, away),
            made(label, INSIDE, inside),
            made(label, LISTED, listed),
        ]
    if predicted != DEFAULT_CLASS:
        frames.append(made(OTHERS, INSIDE, inside))
    again = refits[:, 0, at]
    same = np.where(np.isnan(again), np.nan, np.sign(again) == np.sign(printed))
    seeds = np.repeat(np.arange(len(same)), len(at))
    return [*frames, made(CLASSES[0], AGAIN, same.ravel(), samples * len(same), seeds)]


def explanation_rows(p: Mapping[str, Any]) -> pd.DataFrame:
    """What leads, what agrees, and how well and how stably LIME fits, one row a net (claims E2, E3)."""
    return pd.concat([frame for table in p["tables"] for frame in _explained(table, p)], ignore_index=True)


def _explained(table: str, p: Mapping[str, Any]) -> list[pd.DataFrame]:
    found, names = gather(explanation_work(p, table)).arrays, columns(table)
    values = values_of(found)
    own = found["lime"][:, :, :, 1]

    def made(label: str, metric: str, numbers: np.ndarray, **about: Any) -> pd.DataFrame:
        seeds = np.arange(len(numbers))
        return tidy(table, "as meant", f"{table}: {label}", metric, numbers, [f"seed {s}" for s in seeds], seeds, about)

    frames = [made("all", ACCURACY, found["accuracy"])]
    for method, each in {**values, "LIME": own, "LIME, class 1": found["lime"][:, :, :, 0]}.items():
        lead, share = leading(each), shares(each)
        for j, name in enumerate(names):
            frames.append(made(f"{name} | {method}", LEADS, lead[:, j], n_features=len(names)))
        frames.append(made(f"{KEYS[table]} | {method}", SHARE, share[:, names.index(KEYS[table])]))
    for one, other in PAIRS:
        if one in values and other in values:
            same, ranked = agreeing(values[one], values[other])
            frames += [made(f"{one} | {other}", SAME, same), made(f"{one} | {other}", RANKED, ranked)]
    same, ranked = agreeing(own, np.roll(own, 1, axis=2))
    for metric, numbers in {
        R2: found["r2"][..., 1].mean(axis=(1, 2)),
        MISS: found["miss"][..., 1].mean(axis=(1, 2)),
        SIGNS: constant_signs(own),
        SAME: same,
        RANKED: ranked,
    }.items():
        frames.append(made("LIME | LIME, another seed" if metric in (SAME, RANKED) else "LIME", metric, numbers))
    return frames


def values_of(found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Values of each method, (n, rows, d); LIME's are means over its seeds, permutation's are those of the net for every row.

    A method that is undefined on this table is left out.
    """
    rows = found["gradient"].shape[1]
    means = found["lime"].mean(axis=2)
    all_of_them = {
        "LIME": means[:, :, 1],
        "LIME, class 1": means[:, :, 0],
        "gradient": found["gradient"],
        "Shapley values": found["shapley"],
        "permutation": np.repeat(found["permutation"][:, None], rows, axis=1),
    }
    return {method: values for method, values in all_of_them.items() if np.isfinite(values).all()}


def leading(values: np.ndarray) -> np.ndarray:
    """How often each column has the largest |value|: (n, ..., d) -> (n, d), rows sum to 1.

    >>> leading(np.array([[[1.0, -2.0], [3.0, 0.0], [1.0, 4.0]]])).round(3).tolist()
    [[0.333, 0.667]]
    """
    first = np.abs(values).argmax(axis=-1).reshape(len(values), -1)
    return np.stack([(first == j).mean(axis=1) for j in range(values.shape[-1])], axis=1)


def shares(values: np.ndarray) -> np.ndarray:
    """d |value| / sum |values| of each column, mean over rows: (n, ..., d) -> (n, d); 1 is an average column's."""
    size = np.abs(values)
    total = size.sum(axis=-1, keepdims=True)
    own = values.shape[-1] * size / np.where(total > 0, total, np.nan)
    return own.reshape(len(values), -1, values.shape[-1]).mean(axis=1)


def agreeing(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of rows with the same leading column, and mean rank correlation of the |values|: (n, ..., d) -> (n,), (n,)."""
    a, b = np.abs(one), np.abs(other)
    same = (a.argmax(axis=-1) == b.argmax(axis=-1)).reshape(len(a), -1).mean(axis=1)
    flat = [x.reshape(-1, x.shape[-1]) for x in (a, b)]
    return same, np.nanmean(agreement.rank_correlation(*flat).reshape(len(a), -1), axis=1)


def constant_signs(values: np.ndarray) -> np.ndarray:
    """Share of the (at most ten) largest terms whose sign is the same under all seeds: (n, rows, seeds, d) -> (n,)."""
    mean = values.mean(axis=2)
    top = np.abs(mean).argsort(axis=-1)[..., ::-1][..., :LARGEST]
    one = (np.sign(values) == np.sign(mean)[:, :, None]).all(axis=2)
    return np.take_along_axis(one, top, axis=-1).mean(axis=(1, 2))


def setting_rows(p: Mapping[str, Any]) -> pd.DataFrame:
    """LIME under each setting beside LIME as it is under the next seed, one row a net (claim E3).

    "as it is" beside itself under the next seed shows what a seed alone changes.
    """
    frames = []
    for table in p["tables"]:
        found = gather(setting_work(p, table)).arrays
        reference = np.roll(found["lime"][:, 0], 1, axis=2)
        top = np.abs(reference).argsort(axis=-1)[..., ::-1][..., :LARGEST]
        for k, name in enumerate(settings(p)):
            own = found["lime"][:, k]
            signs = np.take_along_axis(np.sign(own) == np.sign(reference), top, axis=-1).mean(axis=(1, 2, 3))
            numbers = {SETTING: agreeing(own, reference)[0], SETTING_SIGNS: signs, R2: found["r2"][:, k].mean(axis=(1, 2))}
            for metric, values in numbers.items():
                seeds = np.arange(len(values))
                samples = [f"seed {s}" for s in seeds]
                frames.append(tidy(table, "as meant", f"{table}: {name}", metric, values, samples, seeds))
    return pd.concat(frames, ignore_index=True)


def tidy(
    table: str,
    fit: str,
    method: str,
    metric: str,
    values: np.ndarray,
    samples: Sequence[str],
    seeds: Any = 0,
    about: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Rows of results.csv; the model is the MLP fitted "as done" or "as meant"."""
    numbers = np.asarray(values, dtype=float)
    frame = pd.DataFrame(
        {
            "dataset": table,
            "model": f"{table}_mlp{'_as_done' if fit == 'as done' else ''}",
            "method": method,
            "method_parameters": [dict(about or {})] * len(numbers),
            "metric": metric,
            "metric_parameters": [dict[str, Any]()] * len(numbers),
            "sample": list(samples),
            "seed": seeds,
            "value": numbers,
            "seconds": np.nan,
            "flag": ["" if np.isfinite(v) else "undefined" for v in numbers],
        }
    )
    return frame[list(COLUMNS)]


def _case(p: Mapping[str, Any], table: str) -> dict[str, Any]:
    return {"table": table, "epochs": p["table_epochs"], "versions": versions()}


def _seeds(p: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(range(p["table_seeds"]))

"""Lesson `foundations_models`: PCA and t-SNE of the inputs, which never see a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from xai_lib import data
from xai_lib.errors import ConfigError
from xai_lib.studies.foundations_models import TABLE, draw, support_vectors, tidy, tree
from xai_lib.threads import on_one_thread
from xai_lib.types import Samples

DIGITS = "mnist_5k"
NEAR = 10
"""Neighbours that are compared."""
PRESERVED, VARIANCE = "neighbours of the input kept in the picture", "variance shown"
SHARED, DISPARITY = "neighbours shared by two pictures", "Procrustes disparity of two pictures"
SEEDS, PERPLEXITIES, CHANCE = "another seed", "another perplexity", "chance"
DISAGREE, RIGHT = "rows on which two models disagree", "accuracy on held-out digits"
MODELS = ("linear SVM", "decision tree")
DEPTH, FOLDS = 5, 5


@dataclass(frozen=True)
class Pictures:
    """Places in the plane of the rows of one data set.

    dataset  name
    inputs   (n, d) as they were projected
    labels   (n,)
    pca      (n, 2), and the share of the variance that it shows
    tsne     (perplexity, seed number) -> (n, 2)
    """

    dataset: str
    inputs: np.ndarray
    labels: np.ndarray
    pca: np.ndarray
    variance: float
    tsne: Mapping[tuple[float, int], np.ndarray]


def inputs_of(dataset: str, n_rows: int, seed: int) -> tuple[Samples, np.ndarray]:
    """The rows that are projected, drawn by `seed`: patients, standardised, or digits as pixels."""
    own: dict[str, Any] = {"raw": True} if dataset == TABLE else {}
    samples = data.load(dataset, split="all", n=n_rows, seed=seed, **own)
    x = samples.inputs.double().numpy().reshape(len(samples), -1)
    return samples, (x - x.mean(axis=0)) / x.std(axis=0) if dataset == TABLE else x


@on_one_thread
def pictures(dataset: str, p: Mapping[str, Any]) -> Pictures:
    """PCA, and t-SNE from random starts, for every perplexity and seed.

    Raises:
        ConfigError: a perplexity is not below the number of rows.
    """
    from sklearn.decomposition import PCA

    samples, x = inputs_of(dataset, p["n_rows"], p["seed"])
    pca = PCA(2, svd_solver="full").fit(x)
    made = {
        (perplexity, k): tsne(x, perplexity, p["tsne_steps"], draw(p["seed"], "tsne", dataset, k))
        for perplexity, k in product(p["perplexities"], range(p["n_maps"]))
    }
    return Pictures(dataset, x, samples.targets.numpy(), pca.transform(x), float(pca.explained_variance_ratio_.sum()), made)


def tsne(x: np.ndarray, perplexity: float, steps: int, state: int) -> np.ndarray:
    """One t-SNE picture from a random start: (n, 2)."""
    from sklearn.manifold import TSNE

    if not 1 <= perplexity < len(x):
        raise ConfigError(f"perplexity {perplexity!r}: expected at least 1 and fewer than the {len(x)} rows that are shown")
    made = TSNE(perplexity=perplexity, max_iter=steps, init="random", random_state=state, n_jobs=1)
    return np.asarray(made.fit_transform(x), dtype=float)


def nearest(points: np.ndarray, k: int = NEAR) -> list[set[int]]:
    """The k nearest other rows of each row."""
    from sklearn.neighbors import NearestNeighbors

    return [set(map(int, row)) for row in NearestNeighbors(n_neighbors=k).fit(points).kneighbors(return_distance=False)]


def shared(a: np.ndarray, b: np.ndarray, k: int = NEAR) -> float:
    """Share of the k nearest rows in a that are among the k nearest in b, mean over rows; chance is k / (n - 1).

    >>> points = np.arange(6.0)[:, None] ** 2
    >>> shared(points, 3 * points, k=2)
    1.0
    """
    return float(np.mean([len(one & other) / k for one, other in zip(nearest(a, k), nearest(b, k), strict=True)]))


def disparity(a: np.ndarray, b: np.ndarray) -> float:
    """What is left of b after the best shift, turn, mirror and stretch onto a: 0 the same picture, 1 nothing in common."""
    from scipy.spatial import procrustes

    return float(procrustes(a, b)[2])


@on_one_thread
def picture_rows(shown: Pictures, p: Mapping[str, Any]) -> pd.DataFrame:
    """How much of the neighbourhoods a picture keeps, and what two pictures of the same rows have in common.

    "another seed" compares each further seed with the first one, "another perplexity" each further one with the first, seed by
    seed.
    """
    first, *others = p["perplexities"]
    seeds = range(p["n_maps"])
    near = {
        SEEDS: [(f"seed {k}", shown.tsne[first, 0], shown.tsne[first, k]) for k in seeds if k],
        PERPLEXITIES: [(f"{own:g}, seed {k}", shown.tsne[first, k], shown.tsne[own, k]) for own in others for k in seeds],
    }

    def rows(metric: str, method: str, values: Any, names: Sequence[str] | str = "") -> pd.DataFrame:
        return tidy(metric, method, values, names, model="none", dataset=shown.dataset)

    kept = [shared(shown.inputs, shown.tsne[first, k]) for k in seeds]
    frames = [
        rows(VARIANCE, "PCA", shown.variance),
        rows(PRESERVED, "PCA", shared(shown.inputs, shown.pca)),
        rows(PRESERVED, "t-SNE", kept, [f"seed {k}" for k in seeds]),
        rows(PRESERVED, CHANCE, NEAR / (len(shown.inputs) - 1)),
    ]
    for label, pairs in near.items():
        if pairs:
            names = [name for name, _, _ in pairs]
            frames.append(rows(SHARED, label, [shared(a, b) for _, a, b in pairs], names))
            frames.append(rows(DISPARITY, label, [disparity(a, b) for _, a, b in pairs], names))
    return pd.concat(frames, ignore_index=True)


@on_one_thread
def two_models(shown: Pictures, seed: int) -> dict[str, np.ndarray]:
    """Held-out answers of two models for the rows of a picture, by five-fold cross-validation: label -> (n,)."""
    from sklearn.model_selection import KFold, cross_val_predict

    folds = KFold(FOLDS, shuffle=True, random_state=draw(seed, "folds"))
    made = (support_vectors("linear"), tree(DEPTH, draw(seed, "digit tree")))
    return {
        label: np.asarray(cross_val_predict(one, shown.inputs, shown.labels, cv=folds))
        for label, one in zip(MODELS, made, strict=True)
    }


def disagreement_rows(shown: Pictures, answers: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Row by row: whether each model is right, and whether the two differ."""
    names = [f"row {i}" for i in range(len(shown.labels))]
    one, other = answers.values()
    frames = [tidy(DISAGREE, "both", one != other, names, model="both", dataset=shown.dataset)]
    for label, own in answers.items():
        frames.append(tidy(RIGHT, label, own == shown.labels, names, model=label, dataset=shown.dataset))
    return pd.concat(frames, ignore_index=True)

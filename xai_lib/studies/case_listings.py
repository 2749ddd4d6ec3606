"""The LIME listings of document 004, as data: section IV.A, and its authors' raw output where the section says "similar".

Numbers are those of the raw output (repository MagdalenaPakula/obliczenia-inteligentne at 4c78eba), to six digits. Neither says
which row of the table was explained: these are the first of each class in all printed intervals, and for Wine and Breast cancer
the only rows in them.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np


@dataclass(frozen=True)
class Listing:
    """One listing: the terms that LIME printed for one row.

    table, row  what was explained
    heading     the class that the heading names as predicted, and as that of the row
    terms       {rule: weight}
    """

    table: str
    row: int
    heading: str
    terms: dict[str, float]


@cache
def listings() -> tuple[Listing, ...]:
    """All eight.

    >>> [f"{one.heading} {len(one.terms)}" for one in listings()][:4]
    ['setosa 4', 'versicolor 4', 'virginica 4', 'class_0 10']
    """
    found: list[Listing] = []
    for line in PRINTED.strip().splitlines():
        if line.startswith("["):
            table, row, heading = line.strip("[]").split(", ")
            found.append(Listing(table, int(row.removeprefix("row ")), heading, {}))
        else:
            rule, weight = line.rsplit(": ", 1)
            found[-1].terms[rule] = float(weight)
    return tuple(found)


PRINTED = """
[iris, row 0, setosa]
sepal length (cm) <= -0.90: -0.298356
sepal width (cm) > 0.56: -0.201632
petal width (cm) <= -1.18: -0.074116
petal length (cm) <= -1.23: -0.073890
[iris, row 50, versicolor]
sepal length (cm) > 0.67: 0.265381
0.13 < petal width (cm) <= 0.79: 0.074249
0.34 < petal length (cm) <= 0.76: 0.047549
-0.13 < sepal width (cm) <= 0.56: 0.000961
[iris, row 100, virginica]
petal width (cm) > 0.79: -0.219456
petal length (cm) > 0.76: -0.153110
-0.05 < sepal length (cm) <= 0.67: 0.104017
-0.13 < sepal width (cm) <= 0.56: -0.002860
[wine, row 0, class_0]
alcohol > 0.84: -0.313433
proline > 0.76: -0.264433
alcalinity_of_ash <= -0.69: -0.225198
magnesium > 0.51: -0.113908
proanthocyanins > 0.63: 0.080022
-0.74 < nonflavanoid_phenols <= -0.18: -0.048275
-0.66 < malic_acid <= -0.42: 0.047186
-0.02 < ash <= 0.70: -0.040261
od280/od315_of_diluted_wines > 0.79: -0.028341
0.03 < hue <= 0.71: 0.028275
[wine, row 59, class_1]
ash <= -0.57: 0.234368
alcalinity_of_ash <= -0.69: -0.203544
color_intensity <= -0.80: 0.176801
malic_acid <= -0.66: 0.132546
-0.78 < proline <= -0.23: 0.103255
-0.79 < alcohol <= 0.06: 0.094233
magnesium <= -0.82: 0.087326
proanthocyanins <= -0.60: -0.045925
-0.74 < nonflavanoid_phenols <= -0.18: -0.040711
flavanoids <= -0.83: -0.038762
[wine, row 130, class_2]
malic_acid <= -0.66: 0.129327
magnesium > 0.51: -0.101700
hue <= -0.77: -0.096624
nonflavanoid_phenols <= -0.74: -0.093304
-0.78 < proline <= -0.23: 0.092831
-0.80 < color_intensity <= -0.16: 0.090157
-0.79 < alcohol <= 0.06: 0.066390
proanthocyanins <= -0.60: -0.059141
-0.69 < alcalinity_of_ash <= 0.00: -0.038532
-0.57 < ash <= -0.02: 0.035040
[breast_cancer, row 0, malignant]
area error > 0.11: -0.280361
radius error > 0.27: -0.271425
worst texture <= -0.75: 0.217297
worst concavity > 0.53: -0.212015
fractal dimension error > 0.29: 0.211201
mean concavity > 0.53: -0.205584
worst radius > 0.52: -0.154840
worst concave points > 0.71: -0.151437
worst smoothness > 0.60: -0.145016
compactness error > 0.39: 0.135942
[breast_cancer, row 19, benign]
worst texture <= -0.75: 0.218429
-0.49 < area error <= -0.35: 0.116934
texture error <= -0.69: -0.090132
-0.62 < radius error <= -0.29: 0.084544
mean texture <= -0.73: 0.074396
-0.68 < worst compactness <= -0.27: -0.072332
mean fractal dimension <= -0.72: -0.067775
-0.59 < fractal dimension error <= -0.23: -0.060040
-0.69 < compactness error <= -0.28: -0.049467
-0.69 < worst fractal dimension <= -0.22: 0.048143
"""


def over_seeds(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and standard deviation of each term over the seeds that print it, and the share that do: (n, t) -> (t,) each.

    The deviation is undefined under two seeds; of a term that no seed prints, so is the mean.

    >>> over_seeds(np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, np.nan]]))
    (array([ 2., nan]), array([1.41421356,        nan]), array([0.66666667, 0.        ]))
    """
    there = np.isfinite(weights)
    count, values = there.sum(axis=0), np.where(there, weights, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = values.sum(axis=0) / count
        spread = np.sqrt((np.where(there, weights - mean, 0.0) ** 2).sum(axis=0) / (count - 1))
    return mean, np.where(count > 1, spread, np.nan), count / len(weights)

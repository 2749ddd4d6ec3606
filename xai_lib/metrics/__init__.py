"""Evaluation of attributions. Importing this package registers every metric in `METRICS`.

A metric names the words it needs (model inputs targets attributions masks boxes method) and returns one number per image,
NaN where it is undefined. Every number belongs to its image alone: order, company and `max_batch` never change it.
"""

from xai_lib.metrics import completeness, complexity, contour, faithfulness, localisation, robustness, sanity
from xai_lib.metrics.profile import robustness_profile
from xai_lib.metrics.sanity import randomisation_floor, randomisation_table

__all__ = [
    "completeness",
    "complexity",
    "contour",
    "faithfulness",
    "localisation",
    "randomisation_floor",
    "randomisation_table",
    "robustness",
    "robustness_profile",
    "sanity",
]

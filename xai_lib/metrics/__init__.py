"""Evaluation of attributions. Importing this package registers every metric in `METRICS`.

A metric names the words it needs (model inputs targets attributions masks boxes method) and returns one number per image,
NaN where it is undefined. Every number belongs to its image alone: order, company and `max_batch` never change it.
"""

from xai_lib.metrics import (
    completeness,
    complexity,
    contour,
    faithfulness,
    insertion,
    localisation,
    robustness,
    sanity,
    sensitivity_n,
)
from xai_lib.metrics.insertion import insertion_deletion_curves, perturbation_curves
from xai_lib.metrics.profile import robustness_profile
from xai_lib.metrics.sanity import randomisation_floor, randomisation_table
from xai_lib.metrics.sensitivity_n import sensitivity_n_curve, subset_correlations, subset_drops

__all__ = [
    "completeness",
    "complexity",
    "contour",
    "faithfulness",
    "insertion",
    "insertion_deletion_curves",
    "localisation",
    "perturbation_curves",
    "randomisation_floor",
    "randomisation_table",
    "robustness",
    "robustness_profile",
    "sanity",
    "sensitivity_n",
    "sensitivity_n_curve",
    "subset_correlations",
    "subset_drops",
]

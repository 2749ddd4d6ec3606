"""Evaluation of attributions. Importing this package registers every metric in `METRICS`.

A metric names the words it needs (model inputs targets attributions masks boxes method) and returns one number per image,
NaN where it is undefined. Every number belongs to its image alone: order, company and `max_batch` never change it.
"""

from xai_lib.metrics import (
    bam,
    bam_patches,
    completeness,
    complexity,
    contour,
    density,
    faithfulness,
    insertion,
    localisation,
    localisation_boxes,
    localisation_pixels,
    localisation_sets,
    region,
    robustness,
    sanity,
    sensitivity_n,
    soundness,
)
from xai_lib.metrics.bam import (
    bam_comparisons,
    input_dependence_rate,
    input_independence_rate,
    model_contrast_score,
    object_attribution,
    object_maps,
)
from xai_lib.metrics.bam_patches import irrelevant_patches
from xai_lib.metrics.insertion import insertion_deletion_curves, perturbation_curves
from xai_lib.metrics.localisation_boxes import map_boxes, saliency_metric_of_boxes
from xai_lib.metrics.localisation_pixels import pooled_average_precision, selected_share
from xai_lib.metrics.localisation_sets import max_box_accuracy, max_box_accuracy_v2
from xai_lib.metrics.profile import robustness_profile
from xai_lib.metrics.region import region_perturbation_curve
from xai_lib.metrics.sanity import (
    data_randomisation,
    randomisation_floor,
    randomisation_floors,
    randomisation_table,
    randomisation_tables,
    randomised_maps,
)
from xai_lib.metrics.sensitivity_n import sensitivity_n_curve, subset_correlations, subset_drops
from xai_lib.metrics.soundness import certificates, completeness_of, soundness_of

__all__ = [
    "bam",
    "bam_comparisons",
    "bam_patches",
    "certificates",
    "completeness",
    "completeness_of",
    "complexity",
    "contour",
    "data_randomisation",
    "density",
    "faithfulness",
    "input_dependence_rate",
    "input_independence_rate",
    "insertion",
    "insertion_deletion_curves",
    "irrelevant_patches",
    "localisation",
    "localisation_boxes",
    "localisation_pixels",
    "localisation_sets",
    "map_boxes",
    "max_box_accuracy",
    "max_box_accuracy_v2",
    "model_contrast_score",
    "object_attribution",
    "object_maps",
    "perturbation_curves",
    "pooled_average_precision",
    "randomisation_floor",
    "randomisation_floors",
    "randomisation_table",
    "randomisation_tables",
    "randomised_maps",
    "region",
    "region_perturbation_curve",
    "robustness",
    "robustness_profile",
    "saliency_metric_of_boxes",
    "sanity",
    "selected_share",
    "sensitivity_n",
    "sensitivity_n_curve",
    "soundness",
    "soundness_of",
    "subset_correlations",
    "subset_drops",
]

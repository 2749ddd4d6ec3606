"""Study `baseline_study`: axis labels and captions of its forest plots."""

from xai_lib.studies.baseline_counts import PATCH

FORESTS = {
    "completeness_gap": ("relative completeness gap (median)", "Completeness gap of each kind of baseline."),
    "share_on_darkest": (
        "share of |attribution| on the darkest tenth",
        "What each baseline leaves for dark pixels. A black baseline cannot see black.",
    ),
    "correlation_with_high_frequency": (
        "correlation with local Laplacian energy",
        "How far the size of the attribution follows fine detail.",
    ),
    "energy_in_box": (
        "share of positive attribution in the box",
        "Energy in the box for each baseline, with a random map and a centred bump as controls.",
    ),
    PATCH: (
        "probability of the class, patch only",
        "Confidence in the contour patch for every number of baselines, over images; the document reports one image.",
    ),
    "equal_area_random": (
        "probability of the class, random patch of equal area",
        "The control: a random patch of exactly as many pixels.",
    ),
    "contour_patch_area": ("share of the image inside the patch", "Area of the contour patches."),
    "kept_probability": (
        "probability of the class",
        "What the model says when only a region is kept: top pixels as they are, the three contour variants of Figure 15, and "
        "controls.",
    ),
    "kept_area": ("share of the image kept", "Area of the contour variants of Figure 15."),
    "avg_sensitivity_fresh": (
        "average sensitivity, baselines drawn anew",
        "Average sensitivity when each perturbed image draws its own baselines.",
    ),
}
"""Axis label and caption of each forest plot, by metric."""

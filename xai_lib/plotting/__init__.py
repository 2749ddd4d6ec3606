"""Figures and tables of the studies, and how a notebook displays them.

Each figure function returns a matplotlib `Figure` of its own (no pyplot, no global state): opaque white, readable 700 px wide,
colours that colour-blind readers can tell apart, signed maps around a white zero, and no mean without its interval.
"""

from xai_lib.plotting.charts import curve, estimates, matrix, scatter_regression, top_values
from xai_lib.plotting.output import show, table
from xai_lib.plotting.pictures import attribution_grid, contour_pipeline, interpolation_strip, picture, picture_rows
from xai_lib.wording import estimate_text, number

__all__ = [
    "attribution_grid",
    "contour_pipeline",
    "curve",
    "estimate_text",
    "estimates",
    "interpolation_strip",
    "matrix",
    "number",
    "picture",
    "picture_rows",
    "scatter_regression",
    "show",
    "table",
    "top_values",
]

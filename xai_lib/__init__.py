"""Attribution methods, their evaluation, and the studies that are reproduced with them."""

from xai_lib.registry import BASELINES, DATASETS, METHODS, METRICS, MODELS, SCORES
from xai_lib.types import Samples

__version__ = "0.1.0"
__all__ = ["BASELINES", "DATASETS", "METHODS", "METRICS", "MODELS", "SCORES", "Samples"]

"""Attribution methods, their evaluation, and the studies that are reproduced with them."""

import importlib
from typing import Any

from xai_lib.registry import BASELINES, DATASETS, METHODS, METRICS, MODELS, SCORES

__version__ = "0.1.0"
__all__ = ["BASELINES", "DATASETS", "METHODS", "METRICS", "MODELS", "SCORES", "Samples", "data", "models"]


def __getattr__(name: str) -> Any:
    """`data`, `models` and `Samples` are imported when first used, so that `import xai_lib` does not wait for torch."""
    if name in ("data", "models"):
        return importlib.import_module(f"xai_lib.{name}")
    if name == "Samples":
        return importlib.import_module("xai_lib.types").Samples
    raise AttributeError(f"module 'xai_lib' has no attribute {name!r}")

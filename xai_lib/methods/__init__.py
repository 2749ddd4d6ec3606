"""Attribution methods; importing this package registers them in METHODS."""

from xai_lib.methods import control, gradient, path

__all__ = ["control", "gradient", "path"]

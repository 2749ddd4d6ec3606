"""Attribution methods; importing this package registers them in METHODS."""

from xai_lib.methods import adversarial, blur_path, control, credible, expected, gradient, guided, path

__all__ = ["adversarial", "blur_path", "control", "credible", "expected", "gradient", "guided", "path"]

"""Attribution methods; importing this package registers them in METHODS."""

from xai_lib.methods import adversarial, blur_path, cam, control, credible, expected, gradient, guided, path, propagation

__all__ = ["adversarial", "blur_path", "cam", "control", "credible", "expected", "gradient", "guided", "path", "propagation"]

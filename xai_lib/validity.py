"""Which features of a path document 001 accepts: Definition 7, its readings, and the controls of the check."""

from dataclasses import dataclass

import torch
from torch import Tensor

from xai_lib.errors import ConfigError
from xai_lib.randomness import digest, key

READINGS = ("A", "B", "Arev", "Brev")
CHECKS = ("valid", "none", "random", "printed")


def valid_features(reading: str, rho: Tensor, gradient: Tensor, way: Tensor) -> Tensor:
    """Which features of a point on the path are valid (document 001, Definition 7 and Algorithm 2, line 9).

    sgn(rho_i) = sgn(r_i) and |rho_i| > |r_i|, with rho = grad f(x) and r from the gradient at the point.

    Args:
        reading: "A": r = (x - x~) grad f(x~), line 7 and footnote 3 as printed; depends on the unit of the inputs.
            "B": r = grad f(x~), Definition 7 as printed. "Arev", "Brev": |rho_i| < |r_i|, which is what the text says that
            absence means ("gradients flatten near the optima").
        rho, gradient, way: grad f(x), grad f(x~) and x - x~, of one shape.

    Returns:
        bool, same shape.

    >>> one = torch.ones(3)
    >>> valid_features("B", torch.tensor([2.0, 0.5, -2.0]), one, one).tolist()
    [True, False, False]
    """
    if reading not in READINGS:
        raise ConfigError(f"reading={reading!r}: expected one of {', '.join(READINGS)}")
    other = way * gradient if reading.startswith("A") else gradient
    larger = rho.abs() < other.abs() if reading.endswith("rev") else rho.abs() > other.abs()
    return (rho.sign() == other.sign()) & larger


@dataclass(frozen=True)
class Variant:
    """How features are checked and counted; see `credible_path_attribution`."""

    check: str = "valid"
    reading: str = "A"
    divide: str = "count"
    empty: str = "zero"

    def __post_init__(self) -> None:
        """Refuse unknown words."""
        for name, allowed in (
            ("check", CHECKS),
            ("reading", READINGS),
            ("divide", ("count", "steps")),
            ("empty", ("zero", "skip")),
        ):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name}={getattr(self, name)!r}: expected one of {', '.join(allowed)}")


class Validity:
    """The mask of each node's features."""

    def __init__(self, variant: Variant, rho: Tensor, inputs: Tensor, seed: int) -> None:
        self.check, self.reading, self.inputs, self.seed = variant.check, variant.reading, inputs, seed
        self.rho = torch.zeros_like(rho) if self.check == "printed" else rho
        self.digests = [digest(image) for image in inputs] if self.check == "random" else []

    def __call__(self, image: Tensor, node: Tensor, points: Tensor, gradients: Tensor) -> Tensor:
        """0 or 1 for every feature of the rows (image, node), in the dtype of the gradients."""
        if self.check == "none":
            return torch.ones_like(gradients)
        mask = valid_features(self.reading, self.rho[image], gradients, self.inputs[image] - points)
        if self.check == "random":
            for row, (i, k) in enumerate(zip(image.tolist(), node.tolist(), strict=True)):
                generator = torch.Generator().manual_seed(key(self.seed, k, self.digests[i]))
                order = torch.randperm(mask[row].numel(), generator=generator).to(mask.device)
                mask[row] = mask[row].flatten()[order].reshape(mask[row].shape)
        return mask.to(gradients.dtype)

"""Models with closed-form answers, for tests, for teaching and for sanity checks.

Each returns logits (n, classes) in eval mode. Class 0 is the function of interest.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class Formula(nn.Module):
    """A model given by a formula: inputs (n, ...) -> logits (n, classes)."""

    def __init__(self, formula: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.formula = formula
        self.eval()

    def forward(self, inputs: Tensor) -> Tensor:
        """The formula's logits; one column is added as (f, 0) so that softmax is defined."""
        out = self.formula(inputs)
        return torch.stack([out, torch.zeros_like(out)], dim=1) if out.ndim == 1 else out


def linear(weights: Sequence[Sequence[float]] | Tensor, bias: Sequence[float] | Tensor | None = None) -> Formula:
    """z = W x + b over flattened inputs. Gradient W_t; every complete method gives w (x - x').

    Args:
        weights: (classes, d).
        bias: (classes,), zeros when not given.
    """
    w = torch.as_tensor(weights)
    b = torch.zeros(len(w)) if bias is None else torch.as_tensor(bias)
    return Formula(lambda x: x.flatten(1) @ w.to(x).T + b.to(x))


def saturation() -> Formula:
    """f = 1 - relu(1 - x), one feature. At x = 2: gradient 0, Integrated Gradients from 0 equals 1."""
    return Formula(lambda x: (1 - torch.relu(1 - x)).flatten(1).sum(1))


def square() -> Formula:
    """f = sum x_i^2. Gradient 2x; Integrated Gradients from x' is x^2 - x'^2 feature by feature (FIDELITY TV-9, TV-10)."""
    return Formula(lambda x: (x**2).flatten(1).sum(1))


def half_square(coefficients: Sequence[float] | Tensor = (1.0,)) -> Formula:
    """f = sum c_i x_i^2 / 2 (FIDELITY TV-8, TV-21)."""
    c = torch.as_tensor(coefficients)
    return Formula(lambda x: (c.to(x) * x.flatten(1) ** 2 / 2).sum(1))


def product() -> Formula:
    """f = x1 x2. Integrated Gradients from 0 gives half of f to each (FIDELITY TV-9)."""
    return Formula(lambda x: x[:, 0] * x[:, 1])


def two_relu() -> Formula:
    """Net N1 of FIDELITY TV-3: h1 = relu(2 x1 - x2), h2 = relu(-x1 + x2 - 1), f = 3 h1 - 2 h2."""
    return Formula(lambda x: 3 * torch.relu(2 * x[:, 0] - x[:, 1]) - 2 * torch.relu(-x[:, 0] + x[:, 1] - 1))


def credible_example(continuous: bool = True) -> Formula:
    """Examples 1 and 2 of document 001 (FIDELITY section 2); `continuous` repairs the jump at (1, 1)."""
    bias = 1.0 if continuous else 2.0

    def formula(x: Tensor) -> Tensor:
        a, b = x[:, 0], x[:, 1]
        low, high = (a <= 1) & (b <= 1), (a > 1) & (b > 1)
        return torch.where(low, a + 4 * b + 1, torch.where(high, 4 * a + b + bias, torch.zeros_like(a)))

    return Formula(formula)


def constant(value: float = 1.0) -> Formula:
    """f = value, whatever the input: every attribution is zero and flagged."""
    return Formula(lambda x: torch.full((len(x),), value, dtype=x.dtype, device=x.device))


def mean_pixel() -> Formula:
    """f = mean of all input values: the score of a patch on black is its share of the area (FIDELITY TV-31)."""
    return Formula(lambda x: x.flatten(1).mean(1))


def planted(mask: Tensor) -> Formula:
    """f = mean of the values inside `mask` (h, w) bool: everything outside is irrelevant."""
    return Formula(lambda x: (x * mask.to(x)).flatten(1).sum(1) / mask.sum())


class GapNet(nn.Module):
    """1x1 convolution with weights (1, -1), global average pooling, linear head: the net of FIDELITY TV-4."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1, bias=False)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(2, 2, bias=False)
        self.conv.weight.data = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1)
        self.head.weight.data = torch.tensor([[2.0, 1.0], [0.0, 3.0]])
        self.requires_grad_(False).eval()

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (n, 2)."""
        return self.head(self.pool(self.conv(inputs)).flatten(1))


class TinyNet(nn.Module):
    """A seeded three-layer convolutional net with smooth activations (GELU), for properties that need a non-linear model."""

    def __init__(self, channels: int = 3, classes: int = 4, seed: int = 0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.head = nn.Linear(8, classes)
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            parameter.data = 0.4 * torch.randn(parameter.shape, generator=generator)
        self.requires_grad_(False).eval()

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (n, classes)."""
        hidden = nn.functional.gelu(self.conv2(nn.functional.gelu(self.conv1(inputs))))
        return self.head(hidden.mean(dim=(2, 3)))

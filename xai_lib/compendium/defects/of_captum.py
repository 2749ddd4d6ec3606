"""Captum: twelve scripts."""

import torch
from torch import nn

from xai_lib import toys
from xai_lib.compendium.defects import Shown, defect

CAPTUM = "captum"


def weights(*values: float) -> nn.Linear:
    """A linear layer with one output and these weights."""
    layer = nn.Linear(len(values), 1, bias=False).requires_grad_(False)
    layer.weight.copy_(torch.tensor([values]))
    return layer


@defect("D9", CAPTUM, here="Own path integral; the weights are the segments of the path.")
def trapezoid() -> Shown:
    """Integrated Gradients with method="riemann_trapezoid": the weights add up to (n - 1) / n, not to 1."""
    from captum.attr import IntegratedGradients

    net = toys.linear([[2.0, 1.0]])  # f = 2 a + b
    x = torch.tensor([[3.0, 3.0]])
    found = IntegratedGradients(net).attribute(x, target=0, n_steps=10, method="riemann_trapezoid")
    return Shown(right=[6.0, 3.0], found=found[0].tolist())


@defect("D10", CAPTUM, here="`models/prepare.py` rewrites a copy of the net and checks its logits, or refuses by name.")
def guided_relu6() -> Shown:
    """Guided Backprop and Deconvolution change nn.ReLU alone. On ReLU6, SiLU, GELU or F.relu they return the plain
    gradient.
    """
    from captum.attr import GuidedBackprop

    net = nn.Sequential(weights(1), nn.ReLU6(), weights(-1))  # f = -min(max(x, 0), 6)
    found = GuidedBackprop(net).attribute(torch.tensor([[2.0]], requires_grad=True), target=0)
    return Shown(right=0.0, found=found.item())  # a negative signal must not pass


@defect("D11", CAPTUM, here="Own rescale rule for every elementwise function; completeness is measured with every result.")
def deeplift_relu6() -> Shown:
    """DeepLIFT knows ten exact module types; at any other, such as ReLU6, it takes the gradient at the input."""
    from captum.attr import DeepLift

    net = nn.Sequential(weights(1), nn.ReLU6(), weights(1))  # f = min(max(x, 0), 6)
    found = DeepLift(net).attribute(torch.tensor([[9.0]]), torch.tensor([[0.0]]), target=0)
    return Shown(right=6.0, found=found.item())  # f(9) - f(0)


@defect("D12", CAPTUM, here="Targets are checked before anything runs.")
def negative_target() -> Shown:
    """Class -1 is taken as an index from the end: the last class is explained, without a word."""
    from captum.attr import Saliency

    net = toys.linear([[1.0, 2.0], [3.0, 4.0]])
    try:
        found = Saliency(net).attribute(torch.ones(1, 2), target=-1)
    except Exception:
        return Shown(right="an error", found="an error")
    return Shown(right="an error", found=f"the map of class 1: {found[0].tolist()}")


@defect("D13", CAPTUM, here="A generator for each image, keyed by the image's values and the seed; global ones are left alone.")
def no_seed() -> Shown:
    """NoiseTunnel, GradientShap, Lime and KernelShap draw from PyTorch's global generator and take no seed."""
    from captum.attr import NoiseTunnel, Saliency

    before = torch.random.get_rng_state()
    NoiseTunnel(Saliency(toys.square())).attribute(torch.ones(1, 2, requires_grad=True), target=0)
    same = torch.equal(before, torch.random.get_rng_state())
    return Shown(right="untouched", found="untouched" if same else "moved on")


@defect("D14", CAPTUM, here="`max_batch` bounds the rows of every call, whatever the number of images.")
def batch_size() -> Shown:
    """internal_batch_size below the number of images is raised to it: the limit on memory does not hold."""
    from captum.attr import IntegratedGradients

    rows: list[int] = []
    net = toys.linear([[2.0, 1.0]])
    net.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    IntegratedGradients(net).attribute(torch.ones(4, 2), target=0, n_steps=3, internal_batch_size=2)
    return Shown(right=2, found=max(rows))


@defect("D22", CAPTUM, here="Own SmoothGrad, SmoothGrad squared and VarGrad on any signed method.")
def unsigned() -> Shown:
    """NoiseTunnel over Saliency inherits abs=True: SmoothGrad of the size of the gradient, not of the gradient."""
    from captum.attr import NoiseTunnel, Saliency

    net = toys.linear([[2.0, -1.0]])
    found = NoiseTunnel(Saliency(net)).attribute(torch.ones(1, 2, requires_grad=True), target=0, stdevs=0.1)
    return Shown(right=[2.0, -1.0], found=found[0].tolist())


@defect("D23", CAPTUM, here="Own LRP: layers that move values need no rule.")
def zero_padding() -> Shown:
    """LRP stops at a layer that it has no rule for, such as the ZeroPad2d of EfficientNet-Lite."""
    from captum.attr import LRP

    net = nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(1, 1, 3), nn.Flatten()).requires_grad_(False)
    try:
        LRP(net).attribute(torch.ones(1, 1, 1, 1), target=0)
    except TypeError:
        return Shown(right="a map", found="TypeError")
    return Shown(right="a map", found="a map")


@defect("D25", CAPTUM, here="Own rescale rule, which adds what the windows say.")
def overlapping_windows() -> Shown:
    """DeepLIFT through a max-pool with overlapping windows: of the windows that share a maximum one is kept."""
    from captum.attr import DeepLift

    net = nn.Sequential(nn.MaxPool2d(3, 1), nn.Flatten(), weights(1, 1, 1, 1))  # the sum over four windows
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 1, 1] = 1  # seen by all four
    found = DeepLift(net).attribute(x, torch.zeros_like(x), target=0)
    return Shown(right=4.0, found=found.sum().item())  # f(x) - f(0)


class Shared(nn.Module):
    """f = relu(x) - x: two layers read one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.same = weights(1), nn.ReLU(), weights(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The difference."""
        hidden = self.first(x)
        made: torch.Tensor = self.act(hidden) - self.same(hidden)
        return made


@defect("D26", CAPTUM, here="Own rescale rule, caught call by call.")
def shared_tensor() -> Shown:
    """DeepLIFT where a ReLU shares its input with another layer: the other layer's part is lost."""
    from captum.attr import DeepLift

    net = Shared()  # f = relu(x) - x
    found = DeepLift(net).attribute(torch.tensor([[-1.0]]), torch.tensor([[1.0]]), target=0)
    return Shown(right=1.0, found=found.item())  # f(-1) - f(1) = 1 - 0


class Skip(nn.Module):
    """f = x + 2 x, the sum made by +."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.last = weights(2), weights(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The sum."""
        made: torch.Tensor = self.last(self.twice(x) + x)
        return made


@defect("D27", CAPTUM, here="Own LRP shares the relevance in proportion to the terms.")
def functional_sum() -> Shown:
    """LRP at a skip connection written with +: each term gets the whole relevance, so that relevance is made from
    nothing.
    """
    from captum.attr import LRP

    found = LRP(Skip()).attribute(torch.tensor([[1.0]]), target=0)
    return Shown(right=3.0, found=found.item())  # f(1)


@defect("D28", CAPTUM, here="Functions are caught as well as modules.")
def functional_relu() -> Shown:
    """A ReLU called as a function (F.relu) is invisible to DeepLIFT: gradient times input difference."""
    from captum.attr import DeepLift

    net = toys.saturation()  # f = 1 - relu(1 - x)
    found = DeepLift(net).attribute(torch.tensor([[2.0]]), torch.tensor([[0.0]]), target=0)
    return Shown(right=1.0, found=found.item())  # f(2) - f(0)

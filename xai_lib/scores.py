"""The scalar that is explained, as a function of the logits (FIDELITY C1); by default the logit of the predicted class."""

from torch import Tensor

from xai_lib.errors import ConfigError
from xai_lib.registry import SCORES


@SCORES.register(label="Logit", cite="none")
def logit(logits: Tensor, targets: Tensor) -> Tensor:
    """The target's logit, z_t.

    Args:
        logits: (n, classes).
        targets: (n,) int64.

    Returns:
        (n,), any real number.

    >>> import torch
    >>> logit(torch.tensor([[1.0, 3.0]]), torch.tensor([1])).item()
    3.0
    """
    return logits.gather(1, targets[:, None]).squeeze(1)


@SCORES.register(label="Probability", cite="none")
def prob(logits: Tensor, targets: Tensor) -> Tensor:
    """The target's softmax probability, exp(z_t) / sum_j exp(z_j), in [0, 1].

    >>> import torch
    >>> round(prob(torch.tensor([[0.0, 0.0]]), torch.tensor([1])).item(), 3)
    0.5
    """
    return logit(logits.softmax(dim=1), targets)


@SCORES.register(label="Log-probability", cite="none")
def log_prob(logits: Tensor, targets: Tensor) -> Tensor:
    """The target's log softmax, z_t - log sum_j exp(z_j), at most 0 (nats).

    >>> import torch
    >>> round(log_prob(torch.tensor([[0.0, 0.0]]), torch.tensor([1])).item(), 4)
    -0.6931
    """
    return logit(logits.log_softmax(dim=1), targets)


@SCORES.register(label="Margin", cite="none")
def margin(logits: Tensor, targets: Tensor) -> Tensor:
    """The target's logit minus the largest other logit, z_t - max_{j != t} z_j; positive where t is predicted.

    >>> import torch
    >>> margin(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([1])).item()
    1.0
    """
    others = logits.scatter(1, targets[:, None], float("-inf"))
    return logit(logits, targets) - others.amax(dim=1)


def choose_targets(logits: Tensor, labels: Tensor, target: str = "predicted") -> Tensor:
    """The class each image is explained for.

    Args:
        logits: (n, classes) of the unmodified images.
        labels: (n,) int64.
        target: "predicted" (arg max of the logits) or "label".

    Returns:
        (n,) int64.

    Raises:
        ConfigError: any other `target`.
    """
    if target == "predicted":
        return logits.argmax(dim=1)
    if target == "label":
        return labels
    raise ConfigError(f"target={target!r}: expected 'predicted' or 'label'")

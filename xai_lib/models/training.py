"""Training of small nets on data that fits in memory: seeded, deterministic, without touching global state."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from xai_lib import compute
from xai_lib.allocator import keep_freed_memory
from xai_lib.errors import ConfigError, InputError, ModelError
from xai_lib.hooks import global_seed
from xai_lib.models.early_stopping import EarlyStopping

OPTIMISERS = ("adam", "sgd")
SCHEDULES = ("constant", "cosine", "one_cycle", "step")
PRECISIONS = ("float32", "bfloat16")
WARM_UP = 0.2
"""Share of the steps in which "one_cycle" raises the learning rate."""


@dataclass(frozen=True)
class TrainingRecord:
    """What a training run did.

    losses      mean cross-entropy of each epoch (nats), while training; against smoothed labels where they are smoothed
    accuracies  share of right answers of each epoch, while training, in [0, 1]
    validation  accuracy on the validation set after each epoch; empty without one
    seconds     wall-clock time
    best_epoch  whose weights the net has, from 1; the last epoch without early stopping
    """

    losses: tuple[float, ...]
    accuracies: tuple[float, ...]
    validation: tuple[float, ...]
    seconds: float
    best_epoch: int


def train(
    net: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    epochs: int,
    batch: int,
    learning_rate: float,
    seed: int,
    validation: tuple[Tensor, Tensor] | None = None,
    patience: int | None = None,
    optimiser: str = "adam",
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    schedule: str = "constant",
    drops: Sequence[int] = (),
    label_smoothing: float = 0.0,
    precision: str = "float32",
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    progress: bool = False,
) -> TrainingRecord:
    """Minimise the mean cross-entropy by mini-batches of a seeded permutation; a last, smaller batch is used too.

    The net is changed in place and left in eval mode. The same seed gives the same bytes on one machine with the same number of
    threads. Global generators are put back; the net's dropout draws from `seed`.

    Args:
        net: trainable, inputs -> logits; one with a method `training_forward` is called by it (as `nets.Lenet`: the same
            logits and gradients, faster).
        inputs: (n, ...) float on the net's device.
        targets: (n,) int64, from 0.
        epochs: passes over the data, at least 1.
        batch: rows per step, 1 to n.
        learning_rate: the largest one, positive.
        seed: of the permutations and of dropout.
        validation: inputs and targets measured after each epoch.
        patience: early stopping: training ends after this many epochs in a row without a larger validation accuracy, and the
            net gets the weights of the best epoch, the first of equal ones. The schedule stays that of all `epochs`. None: all
            epochs, and the last weights.
        optimiser: "adam" or "sgd".
        momentum: of "sgd" only, in [0, 1).
        nesterov: of "sgd" only: look ahead along the momentum, which must then be positive.
        weight_decay: L2 penalty, at least 0.
        schedule: "constant"; "cosine" from `learning_rate` to 0 over all steps; "one_cycle" rises on a line during the first
            fifth of the steps and then falls as "cosine" does; "step" falls to a tenth after each epoch in `drops`.
        drops: of "step" only, such as (30,): epochs 1 to 30 at `learning_rate`, the others at a tenth of it.
        label_smoothing: share a of the label that is spread over all k classes, in [0, 1): the true class is asked for with
            1 - a + a / k, every other with a / k.
        precision: "float32"; "bfloat16" runs the forward pass under autocast, weights and loss stay float32.
        augment: changes the inputs of a batch, drawing from the (CPU) generator it is given; such as those
            of `xai_lib.models.augmentation`.
        progress: one bar on stderr.

    Raises:
        InputError: inputs or targets that do not fit.
        ConfigError: a number out of range or an unknown name.
        ModelError: nothing to train, or the loss became NaN or infinite.
    """
    _check_numbers(epochs, batch, learning_rate, momentum, weight_decay, len(inputs))
    _check_names(optimiser, schedule, precision, nesterov=nesterov, momentum=momentum)
    _check_options(schedule, drops, epochs, label_smoothing)
    for part in [(inputs, targets), *([validation] if validation is not None else [])]:
        _check_data(*part)
    if patience is not None and validation is None:
        raise ConfigError(f"patience={patience}: early stopping needs validation=(inputs, targets)")
    watch = EarlyStopping(net, patience) if patience is not None else None
    parameters = [p for p in net.parameters() if p.requires_grad]
    if not parameters:
        raise ModelError("train: no parameter asks for a gradient; a loaded model is frozen, train a net from models.nets")
    per_epoch, highest = math.ceil(len(inputs) / batch), int(targets.max())
    falls = [epoch * per_epoch for epoch in drops]
    step_size = _optimiser(parameters, optimiser, learning_rate, momentum, weight_decay, nesterov)
    rates = torch.optim.lr_scheduler.LambdaLR(step_size, lambda step: rate(schedule, step, epochs * per_epoch, falls))
    generator = torch.Generator().manual_seed(seed)
    forward: Callable[[Tensor], Tensor] = getattr(net, "training_forward", net)
    losses, accuracies, checked = [], [], []
    if inputs.device.type == "cpu":
        keep_freed_memory()
    start = time.perf_counter()
    with global_seed(seed, devices=[inputs.device]), torch.enable_grad():
        for epoch in tqdm(range(epochs), desc="training", unit="epoch", disable=not progress):
            net.train()
            loss, right = 0.0, 0
            for rows in _batches(len(inputs), batch, generator, inputs.device):
                points, truth = inputs[rows], targets[rows]
                points = points if augment is None else augment(points, generator)
                with _autocast(precision, inputs.device):
                    logits = forward(points)
                logits = logits.float() if precision == "bfloat16" else logits
                _check_classes(logits, highest)
                value = nn.functional.cross_entropy(logits, truth, label_smoothing=label_smoothing)
                step_size.zero_grad(set_to_none=True)
                value.backward()
                step_size.step()
                rates.step()
                loss += value.item() * len(rows)
                right += int((logits.argmax(1) == truth).sum())
            net.eval()
            if not math.isfinite(loss):
                raise ModelError(f"train: the loss is {loss} in epoch {epoch + 1}; lower learning_rate={learning_rate}")
            losses.append(loss / len(inputs))
            accuracies.append(right / len(inputs))
            if validation is not None:
                checked.append(accuracy(net, *validation))
            if watch is not None and watch.stops(checked[-1]):
                break
    if watch is not None:
        watch.restore()
    net.zero_grad(set_to_none=True)
    best = len(losses) if watch is None else watch.best_epoch
    return TrainingRecord(tuple(losses), tuple(accuracies), tuple(checked), time.perf_counter() - start, best)


def rate(schedule: str, step: int, steps: int, falls: Sequence[int] = ()) -> float:
    """Learning rate of a step as a share of the largest.

    Args:
        schedule: one of SCHEDULES.
        step: from 0.
        steps: how many there are in all.
        falls: of "step" only: the steps from which on the rate is a tenth.

    >>> [round(rate("one_cycle", step, 10), 3) for step in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    if schedule == "step":
        return 0.1 ** sum(step >= fall for fall in falls)
    warm = max(1, math.ceil(WARM_UP * steps)) if schedule == "one_cycle" else 0
    if schedule == "constant" or step < warm:
        return (step + 1) / warm if warm else 1.0
    return (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2


def accuracy(model: nn.Module, inputs: Tensor, targets: Tensor, *, max_batch: int | None = None) -> float:
    """Share of inputs whose largest logit is the target's, in [0, 1].

    Args:
        model: inputs -> logits, in eval mode.
        inputs: (n, ...).
        targets: (n,) int64.
        max_batch: most rows per forward pass.

    Raises:
        InputError, ModelError: as `compute.check_request`.
    """
    return correct(model, inputs, targets, max_batch=max_batch).float().mean().item()


def correct(model: nn.Module, inputs: Tensor, targets: Tensor, *, max_batch: int | None = None) -> Tensor:
    """Whether each prediction is right, (n,) bool: what an interval of the accuracy is computed from.

    Arguments and errors as `accuracy`.
    """
    compute.check_request(model, inputs, targets)
    return compute.logits(model, inputs, max_batch=max_batch).argmax(dim=1) == targets


def _batches(n: int, size: int, generator: torch.Generator, device: torch.device) -> Iterator[Tensor]:
    order = torch.randperm(n, generator=generator).to(device)
    yield from order.split(size)


def _optimiser(
    parameters: list[nn.Parameter], name: str, learning_rate: float, momentum: float, weight_decay: float, nesterov: bool
) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD(parameters, learning_rate, momentum, weight_decay=weight_decay, nesterov=nesterov)
    return torch.optim.Adam(parameters, lr=learning_rate, weight_decay=weight_decay)


def _autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


def _check_numbers(epochs: int, batch: int, learning_rate: float, momentum: float, weight_decay: float, n: int) -> None:
    if epochs < 1:
        raise ConfigError(f"epochs={epochs}: expected at least 1")
    if not 1 <= batch <= max(1, n):
        raise ConfigError(f"batch={batch}: expected 1 to {n}, the number of inputs")
    if not 0 < learning_rate < math.inf:
        raise ConfigError(f"learning_rate={learning_rate}: expected a positive number")
    if not (0 <= momentum < 1 and 0 <= weight_decay < math.inf):
        raise ConfigError(f"momentum={momentum}, weight_decay={weight_decay}: expected [0, 1) and at least 0")


def _check_names(optimiser: str, schedule: str, precision: str, *, nesterov: bool, momentum: float) -> None:
    if optimiser not in OPTIMISERS or schedule not in SCHEDULES:
        raise ConfigError(f"optimiser={optimiser!r}, schedule={schedule!r}: expected one each of {OPTIMISERS}, {SCHEDULES}")
    if precision not in PRECISIONS:
        raise ConfigError(f"precision={precision!r}: expected one of {PRECISIONS}")
    if nesterov and not (optimiser == "sgd" and momentum > 0):
        raise ConfigError(
            f"nesterov with optimiser={optimiser!r}, momentum={momentum}: expected 'sgd' with a positive momentum"
        )


def _check_options(schedule: str, drops: Sequence[int], epochs: int, label_smoothing: float) -> None:
    if not 0 <= label_smoothing < 1:
        raise ConfigError(f"label_smoothing={label_smoothing}: expected [0, 1)")
    told = f"schedule={schedule!r} with drops={drops!r}"
    if schedule != "step" and len(drops):
        raise ConfigError(f"{told}: only 'step' takes drops")
    whole = all(isinstance(epoch, int) and not isinstance(epoch, bool) and 1 <= epoch < epochs for epoch in drops)
    if schedule == "step" and not (len(drops) and whole and list(drops) == sorted(set(drops))):
        raise ConfigError(f"{told}: expected rising epochs from 1 to {epochs - 1}, after which the rate falls")


def _check_classes(logits: Tensor, highest: int) -> None:
    if logits.ndim != 2 or highest >= logits.shape[1]:
        raise InputError(f"train: class {highest} asked, the net returns logits {tuple(logits.shape)}")


def _check_data(inputs: Tensor, targets: Tensor) -> None:
    if not inputs.is_floating_point() or inputs.ndim < 2 or len(inputs) == 0:
        raise InputError(f"train: expected float inputs (n, ...), got {inputs.dtype} {tuple(inputs.shape)}")
    if not bool(torch.isfinite(inputs).all()):
        raise InputError("train: the inputs hold NaN or infinity; remove or repair those rows first")
    if targets.dtype != torch.int64 or targets.shape != (len(inputs),):
        raise InputError(f"train: expected int64 targets ({len(inputs)},), got {targets.dtype} {tuple(targets.shape)}")
    if inputs.device != targets.device:
        raise InputError(f"train: inputs are on {inputs.device}, targets on {targets.device}")
    if int(targets.min()) < 0:
        raise InputError(f"train: class {int(targets.min())} is negative; classes count from 0")

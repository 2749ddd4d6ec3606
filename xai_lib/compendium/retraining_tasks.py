"""The two tasks of RemOve And Retrain: train a net, and put the pixels of pictures in their order of removal.

Data, net and recipe are plain JSON. The source that these tasks depend on is named, so that a change elsewhere in the library
leaves hours of trainings as they are (see `tasks.versions`).
"""

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xai_lib import DATASETS, METHODS, compute, data
from xai_lib.compendium.benchmark import Work, gather
from xai_lib.compendium.canonical import canonical
from xai_lib.compendium.retraining_nets import NETS, net_module
from xai_lib.compendium.tasks import TASKS, versions
from xai_lib.errors import StoreError, unknown
from xai_lib.models.augmentation import random_shift
from xai_lib.models.fit import fit, one_thread
from xai_lib.removal import Protocol, degrade, fill_of, removal_order, removed
from xai_lib.types import Samples

PARTS = ("all", "even", "odd")
SPLITS = ("train", "test")
BATCH = 250
"""Pictures that are explained at once."""
CORE = (__name__, "xai_lib.scores")


def training_sources(parameters: Mapping[str, Any]) -> Sequence[str]:
    """Modules that a training depends on; those of its removal are in the parameters, as versions."""
    return [*CORE, net_module(parameters["case"])]


def order_sources(parameters: Mapping[str, Any]) -> Sequence[str]:
    """Modules that an order of removal depends on: those of the net, and of everything that its method names."""
    texts = list(_texts(parameters["method"]))
    named = {METHODS[name].function.__module__ for name in texts if name in METHODS}
    named |= {"xai_lib.data"} if any(name in DATASETS for name in texts) else set()
    return [*CORE, net_module(parameters["case"]), *sorted(named)]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for pair in value.items() for text in _texts(list(pair)))
    elif isinstance(value, list | tuple):
        yield from (text for each in value for text in _texts(each))


@lru_cache(maxsize=4)
def loaded(text: str) -> Samples:
    """The data set of a JSON text with the arguments of `data.load`, kept in this process."""
    return data.load(**json.loads(text))


def samples_of(case: Mapping[str, Any], split: str) -> Samples:
    """The training or test pictures of a case.

    Raises:
        StoreError: they are not those that were asked about.
    """
    samples = loaded(canonical(case[split]).decode())
    if fingerprint(canonical(case[split]).decode()) != case["fingerprints"][split]:
        raise StoreError(f"data set {case['dataset']!r} ({split}) changed since the run began; start again")
    return samples


@lru_cache(maxsize=4)
def fingerprint(text: str) -> str:
    """Of the data set of a JSON text."""
    return loaded(text).fingerprint


def build(case: Mapping[str, Any], *, seed: int) -> nn.Module:
    """The case's net, untrained, in the memory layout in which it trains fastest."""
    module, function = net_module(case), NETS[case["net"][0]][1]
    net: nn.Module = getattr(importlib.import_module(module), function)(seed=seed, **case["net"][1])
    return net.to(memory_format=torch.channels_last)


def training_arguments(case: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of `training.train` that the case's recipe means."""
    recipe = dict(case["recipe"])
    if "augment" in recipe:
        recipe["augment"] = random_shift(**recipe["augment"])
    return recipe


def half(part: str, n: int) -> Tensor:
    """Positions of a part of n pictures.

    Raises:
        ConfigError: unknown part.
    """
    if part not in PARTS:
        raise unknown("part", part, PARTS)
    return torch.arange(n) if part == "all" else torch.arange(int(part == "odd"), n, 2)


@TASKS.register(label="Training", cite="hooker2019", traits={"sources": training_sources})
def train_net(
    items: list[Any],
    *,
    case: Mapping[str, Any],
    part: str = "all",
    labels: int | str | None = None,
    removal: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train the case's net once per seed and test it.

    Args:
        items: seeds.
        case: data, net and recipe (`retraining.Plan.case`).
        part: "all" training pictures, or those at "even" or "odd" positions.
        labels: seed of a permutation of the training labels (for the data randomisation test); name of another label set of
            the data (`Samples.extra`); None for their targets.
        removal: which pixels are removed (`retraining.Plan.removal`); None for whole pictures.

    Returns:
        {"predicted": (n, pictures) uint8 of the test pictures, "losses", "accuracies": (n, epochs) while training}; without
        removal also the weights, "w/<name>": (n, ...).
    """
    train, test = (samples_of(case, split) for split in SPLITS)
    at, targets = half(part, len(train)), labels_of(train, labels)
    inputs = [
        whole.inputs if removal is None else left(case, removal, split)
        for split, whole in zip(SPLITS, (train, test), strict=True)
    ]
    recipe = training_arguments(case)
    made: dict[str, list[Any]] = {}
    for seed in items:
        net, record = fit(partial(build, case), inputs[0][at], targets[at], seed=int(seed), recipe=recipe)
        with one_thread():
            predicted = compute.logits(net, inputs[1]).argmax(dim=1)
        found = {"predicted": predicted.to(torch.uint8).numpy(), "losses": record.losses, "accuracies": record.accuracies}
        if removal is None:
            found |= {f"w/{name}": tensor.numpy() for name, tensor in net.state_dict().items()}
        for name, value in found.items():
            made.setdefault(name, []).append(value)
    return {name: np.stack([np.asarray(value) for value in values]) for name, values in made.items()}


def labels_of(samples: Samples, labels: int | str | None) -> Tensor:
    """Targets, their permutation, or another label set; see `train_net`.

    Raises:
        ConfigError: the data set has no such labels.
    """
    if labels is None:
        return samples.targets
    if isinstance(labels, int):
        return samples.targets[torch.randperm(len(samples), generator=torch.Generator().manual_seed(labels))]
    if labels not in (samples.extra or {}):
        raise unknown(f"label set of data set {samples.name!r}", labels, samples.extra or {})
    return torch.as_tensor((samples.extra or {})[labels])


def trained(case: Mapping[str, Any], seed: int, part: str = "all", labels: int | str | None = None) -> nn.Module:
    """A net trained on whole pictures, from the store, frozen and in eval mode."""
    found = gather(Work("train_net", case, (seed,), {"part": part, "labels": labels, "removal": None}, 1))
    net = build(case, seed=seed)
    net.load_state_dict({k[2:]: torch.tensor(v[0]) for k, v in found.arrays.items() if k.startswith("w/")})
    return net.requires_grad_(False).eval()


@TASKS.register(label="Order of removal", cite="hooker2019", traits={"sources": order_sources})
def order_pixels(
    items: list[Any],
    *,
    case: Mapping[str, Any],
    method: list[Any],
    rules: Mapping[str, Any],
    block: int,
    seed: int = 0,
    net_seed: int = 0,
) -> dict[str, Any]:
    """Explain blocks of pictures and put their pixels in the order in which they are removed.

    Args:
        items: [split, first, last + 1].
        case: data, net and recipe.
        method: [registered name, parameters].
        rules: target, ranking, unit and ties of the protocol.
        block: length to which shorter blocks are filled up with 0.
        seed: of ties and of random methods.
        net_seed: of the net that is explained.

    Returns:
        {"order": (n, block, p) uint16 or int32, "explained": (n, block) uint8 classes}.
    """
    orders, explained = [], []
    for split, start, stop in items:
        samples = samples_of(case, split)
        rows = torch.arange(start, stop)
        order, classes = _ordered(case, samples, rows, method, Protocol(**rules), seed, net_seed)
        rest = block - (stop - start)
        orders.append(np.pad(order, ((0, rest), (0, 0))))
        explained.append(np.pad(classes, (0, rest)))
    return {"order": np.stack(orders), "explained": np.stack(explained)}


def _ordered(
    case: Mapping[str, Any], samples: Samples, rows: Tensor, method: Sequence[Any], rules: Protocol, seed: int, net_seed: int
) -> tuple[np.ndarray, np.ndarray]:
    own = {"seed": seed} if "seed" in METHODS[method[0]].parameters and "seed" not in method[1] else {}
    explain = METHODS.bind({method[0]: method[1]}, **own)
    parts = {"all": rows} if rules.target != "held_out" else {"odd": rows[rows % 2 == 0], "even": rows[rows % 2 == 1]}
    smallest = samples.inputs[0].numel() <= 2**16
    order = np.zeros((len(rows), samples.inputs[0].numel()), np.uint16 if smallest else np.int32)
    classes, width = np.zeros(len(rows), np.uint8), 0
    for part, chosen in parts.items():
        net = trained(case, net_seed, part)
        for at in chosen.split(BATCH):
            inputs = samples.inputs[at]
            targets = samples.targets[at] if rules.target == "label" else compute.logits(net, inputs).argmax(dim=1)
            made = removal_order(explain(net, inputs, targets), rules, seed=seed)
            place, width = (at - rows[0]).numpy(), made.shape[1]
            order[place, :width], classes[place] = made.numpy(), targets.numpy()
    return order[:, :width], classes


@lru_cache(maxsize=2)
def _order(text: str) -> Tensor:
    """The order of removal of all pictures of a split (see `retraining.Plan.removal`), kept for the next training."""
    asked = json.loads(text)
    parameters = dict(asked["parameters"])
    if versions("order_pixels", parameters) != asked["versions"]:
        raise StoreError("the source of a method or net changed since the run began; start again, what is done stays")
    items = tuple(tuple(item) for item in asked["items"])
    found = gather(Work("order_pixels", parameters.pop("case"), items, parameters, 1)).arrays["order"]
    blocks = [torch.from_numpy(own[: stop - start]) for own, (_, start, stop) in zip(found, items, strict=True)]
    return torch.cat(blocks)


def left(case: Mapping[str, Any], removal: Mapping[str, Any], split: str) -> Tensor:
    """What a removal leaves of the pictures of a split."""
    return _left(canonical([dict(case), dict(removal), split]).decode())


@lru_cache(maxsize=2)
def _left(text: str) -> Tensor:
    case, removal, split = json.loads(text)
    order = _order(canonical(removal["orders"][split]).decode())
    inputs = samples_of(case, split).inputs
    fill = fill_of(removal["fill"], samples_of(case, "train").inputs)
    saved = None if removal["saved_as"] is None else tuple(removal["saved_as"])
    parts = []
    for rows in torch.arange(len(inputs)).split(BATCH):
        gone = removed(order[rows], inputs.shape[1:], removal["fraction"], unit=removal["unit"], keep=removal["keep"])
        parts.append(degrade(inputs[rows], gone, fill=fill, saved_as=saved, show=removal["show"]))
    return torch.cat(parts)

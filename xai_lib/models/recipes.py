"""The commands that made the checkpoints in data/checkpoints: `python -m xai_lib.models.recipes mnist_cnn`.

Each writes NAME.safetensors and NAME.json, the card: sha256, command, data fingerprint, seed, accuracies with intervals,
versions. The same machine, versions and recipe give the same bytes; elsewhere the accuracies agree within their intervals.
The nets for CIFAR-10 need that data set under XAI_DATA, and some seven minutes each on one core with bfloat16 units.
"""

import argparse
import hashlib
import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

import xai_lib
from xai_lib import compute, data
from xai_lib.errors import ConfigError, XaiError, unknown
from xai_lib.models import augmentation, cifar_nets, nets, training
from xai_lib.models.weights import CHECKPOINTS
from xai_lib.stats import bootstrap_interval
from xai_lib.types import Samples

MNIST_RECIPE: dict[str, Any] = {
    "epochs": 30,
    "batch": 64,
    "learning_rate": 2e-3,
    "weight_decay": 1e-4,
    "schedule": "cosine",
    "optimiser": "adam",
    "random_shift": 2,
}
CIFAR_RECIPE: dict[str, Any] = {
    "batch": 128,
    "learning_rate": 0.1,
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 5e-4,
    "schedule": "one_cycle",
    "optimiser": "sgd",
    "precision": "bfloat16",
    "random_crop_padding": 4,
    "random_flip": True,
}
"""Common to the three nets; label smoothing is off."""
CIFAR_EPOCHS = {"cifar_resnet": 7, "cifar_densenet": 6, "cifar_vgg": 6}


def mnist_cnn(folder: Path, *, seed: int = 0, epochs: int | None = None, n_train: int = 4000) -> dict[str, Any]:
    """Train nets.lenet on 4,000 of the 5,000 packaged digits (mnist_5k) and test it on the other 1,000.

    Args:
        folder: where mnist_cnn.safetensors and mnist_cnn.json are written.
        seed: of the split, the initial weights and the order of the batches.
        epochs: fewer than the recipe's, for a quick look.
        n_train: fewer than 4,000 digits, for a quick look.

    Returns:
        The card.
    """
    samples = data.load("mnist_5k")
    order = np.random.default_rng(seed).permutation(len(samples)).tolist()
    trained, held_out = samples.subset(order[:n_train]), samples.subset(order[4000:])
    recipe = {**MNIST_RECIPE, "seed": seed, "epochs": epochs or MNIST_RECIPE["epochs"]}
    net = nets.lenet(seed=seed)
    shift = recipe.pop("random_shift")
    record = training.train(
        net,
        trained.inputs,
        trained.targets,
        **recipe,
        augment=augmentation.random_shift(shift),
        progress=sys.stderr.isatty(),
    )
    card = {
        "name": "mnist_cnn",
        "net": "xai_lib.models.nets.lenet()",
        "command": "python -m xai_lib.models.recipes mnist_cnn",
        "data": {
            "name": samples.name,
            "fingerprint": samples.fingerprint,
            "split": f"numpy.random.default_rng({seed}).permutation(5000): first {n_train} train, last 1000 held out",
            "n_train": len(trained),
            "n_held_out": len(held_out),
        },
        "recipe": {**recipe, "random_shift": shift},
        "final_loss": record.losses[-1],
        "accuracy": {"train": interval(net, trained), "held_out": interval(net, held_out)},
    }
    return write(folder, card, net)


def cifar(folder: Path, *, name: str, seed: int = 0, epochs: int | None = None, n_train: int | None = None) -> dict[str, Any]:
    """Train one of cifar_nets.BUILDERS on the training pictures of CIFAR-10 and test it on all test pictures.

    Args:
        folder: where NAME.safetensors and NAME.json are written.
        name: "cifar_resnet", "cifar_densenet" or "cifar_vgg".
        seed: of the initial weights, the order of the batches and their augmentation.
        epochs: fewer than the recipe's, for a quick look.
        n_train: the first pictures only, for a quick look.

    Returns:
        The card. Accuracies and confidence (mean probability of the predicted class) are those in float32; the one on training
        pictures is of the first 10,000.

    Raises:
        DataError: CIFAR-10 is not here.
    """
    trained, held_out = data.load("cifar10", split="train"), data.load("cifar10", split="test")
    trained = trained.subset(range(n_train)) if n_train else trained
    recipe = {**CIFAR_RECIPE, "seed": seed, "epochs": epochs or CIFAR_EPOCHS[name]}
    augment = augmentation.random_shift(recipe.pop("random_crop_padding"), flip=recipe.pop("random_flip"))
    net = cifar_nets.BUILDERS[name](seed=seed).to(memory_format=torch.channels_last)
    record = training.train(net, trained.inputs, trained.targets, **recipe, augment=augment, progress=sys.stderr.isatty())
    card = {
        "name": name,
        "net": f"xai_lib.models.cifar_nets.{cifar_nets.BUILDERS[name].__name__}()",
        "command": f"python -m xai_lib.models.recipes {name}",
        "data": {
            "name": "cifar10",
            "encodings": sorted({*(trained.extra or {})["encoding"], *(held_out.extra or {})["encoding"]}),
            "fingerprint": {"train": trained.fingerprint, "held_out": held_out.fingerprint},
            "split": "the data set's own: train, and test held out",
            "n_train": len(trained),
            "n_held_out": len(held_out),
        },
        "recipe": {**CIFAR_RECIPE, **recipe},
        "final_loss": record.losses[-1],
        "accuracy": {
            "train": interval(net, trained.subset(range(min(10_000, len(trained))))),
            "held_out": interval(net, held_out),
        },
        "confidence": {"held_out": compute.logits(net, held_out.inputs).softmax(1).amax(1).double().mean().item()},
    }
    return write(folder, card, net)


RECIPES: dict[str, Callable[..., dict[str, Any]]] = {
    "mnist_cnn": mnist_cnn,
    **{name: partial(cifar, name=name) for name in cifar_nets.NAMES},
}


def interval(net: nn.Module, samples: Samples) -> dict[str, Any]:
    """Accuracy with its 95 % bootstrap interval over images."""
    right = training.correct(net, samples.inputs, samples.targets)
    estimate = bootstrap_interval(right.double().numpy())
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def write(folder: Path, card: dict[str, Any], net: nn.Module) -> dict[str, Any]:
    """Write weights and card, the card last; returns the card with sha256, versions and machine added."""
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()})
    card = {
        **card,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "xai_lib": xai_lib.__version__,
        },
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{card['name']}.safetensors"
    for path, text in [(target, content), (target.with_suffix(".json"), (json.dumps(card, indent=2) + "\n").encode())]:
        temporary = path.with_suffix(path.suffix + ".tmp")
        temporary.write_bytes(text)
        temporary.replace(path)
    return card


def main(
    arguments: Sequence[str] | None = None,
    *,
    known: Mapping[str, Callable[..., dict[str, Any]]] = RECIPES,
    program: str = "xai_lib.models.recipes",
    about: str | None = __doc__,
) -> int:
    """Entry point of the command; `known`, `program` and `about` are those of another module of recipes."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=about)
    parser.add_argument("name", help=f"one of: {', '.join(known)}")
    parser.add_argument("--output", type=Path, default=CHECKPOINTS, help="folder, default data/checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        if given.name not in known:
            raise unknown("recipe", given.name, known)
        if given.seed < 0:
            raise ConfigError(f"seed={given.seed}: expected at least 0")
        card = known[given.name](given.output, seed=given.seed)
    except XaiError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(card, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

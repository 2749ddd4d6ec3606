"""The commands that made the nets of document 004 on digits: `python -m xai_lib.models.digit_recipes mnist_sigmoid_cnn`.

Settings are those of the authors' code (FIDELITY E4.5). Each command writes NAME.safetensors and its card, as
`xai_lib.models.recipes` does; MNIST is needed under XAI_DATA. All 60,000 training digits are used. The 10,000 test digits are
read after each epoch for the card alone: nothing is chosen by them, the last epoch is kept.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from xai_lib import compute, data, features
from xai_lib.models import digit_nets, recipes, training
from xai_lib.types import Samples

SETTINGS: dict[str, dict[str, Any]] = {
    "mnist_mlp": {"epochs": 100, "batch": 64, "learning_rate": 0.01, "optimiser": "sgd", "momentum": 0.0},
    "mnist_hog_mlp": {"epochs": 5, "batch": 64, "learning_rate": 0.1, "optimiser": "sgd", "momentum": 0.0},
    "mnist_lbp_mlp": {"epochs": 5, "batch": 64, "learning_rate": 0.01, "optimiser": "sgd", "momentum": 0.0},
    "mnist_sigmoid_cnn": {"epochs": 30, "batch": 100, "learning_rate": 1e-3, "optimiser": "adam"},
}
"""No weight decay, a constant learning rate, no augmentation. The convolutional net's batch and rate are Adam's default and
that of the authors' data loader."""


def digit(
    folder: Path, *, name: str, seed: int = 0, epochs: int | None = None, n_train: int | None = None, n_test: int | None = None
) -> dict[str, Any]:
    """Train one of digit_nets.NAMES on the training digits of MNIST and test it on the test digits.

    Args:
        folder: where NAME.safetensors and NAME.json are written.
        name: one of digit_nets.NAMES.
        seed: of the initial weights and the order of the batches.
        epochs: fewer than the recipe's, for a quick look.
        n_train: the first digits only, for a quick look.
        n_test: the first test digits only, for a quick look.

    Returns:
        The card: accuracies on the training and the test digits with 95 % bootstrap intervals, and per epoch while training.

    Raises:
        DataError: MNIST is not here.
        ConfigError: an unknown name.
    """
    net = digit_nets.build(name, seed=seed)
    splits = {split: data.load("mnist", split=split) for split in ("train", "test")}
    fingerprints = {split: samples.fingerprint for split, samples in splits.items()}
    trained = read_as(splits["train"].subset(range(n_train)) if n_train else splits["train"], digit_nets.READS[name])
    held_out = read_as(splits["test"].subset(range(n_test)) if n_test else splits["test"], digit_nets.READS[name])
    recipe = {**SETTINGS[name], "seed": seed, "epochs": epochs or SETTINGS[name]["epochs"]}
    record = training.train(
        net,
        trained.inputs,
        trained.targets,
        **recipe,
        validation=(held_out.inputs, held_out.targets),
        progress=sys.stderr.isatty(),
    )
    card = {
        "name": name,
        "net": f"xai_lib.models.digit_nets.build({name!r})",
        "reads": digit_nets.READS[name],
        "command": f"python -m xai_lib.models.digit_recipes {name}",
        "data": {
            "name": "mnist",
            "fingerprint": {"train": fingerprints["train"], "held_out": fingerprints["test"]},
            "split": "the data set's own: train, and test held out",
            "n_train": len(trained),
            "n_held_out": len(held_out),
        },
        "recipe": {**recipe, "weight_decay": 0.0, "schedule": "constant"},
        "final_loss": record.losses[-1],
        "accuracy_by_epoch": {
            "while_training": [round(value, 5) for value in record.accuracies],
            "held_out": [round(value, 5) for value in record.validation],
        },
        "accuracy": {"train": recipes.interval(net, trained), "held_out": recipes.interval(net, held_out)},
        "confidence": {"held_out": compute.logits(net, held_out.inputs).softmax(1).amax(1).double().mean().item()},
    }
    return recipes.write(folder, card, net)


def read_as(samples: Samples, reads: str) -> Samples:
    """The same samples with what a net reads in place of their pixels: "pixels", or a name in `features.FEATURES`."""
    return samples if reads == "pixels" else features.of_samples(samples, reads)


RECIPES: dict[str, Callable[..., dict[str, Any]]] = {name: partial(digit, name=name) for name in digit_nets.NAMES}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the command."""
    return recipes.main(arguments, known=RECIPES, program="xai_lib.models.digit_recipes", about=__doc__)


if __name__ == "__main__":
    raise SystemExit(main())

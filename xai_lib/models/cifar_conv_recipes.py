"""The commands that made the nets of document 004 on CIFAR-10: `python -m xai_lib.models.cifar_conv_recipes cifar_conv8`.

Each command writes NAME.safetensors and its card, as `xai_lib.models.recipes` does; CIFAR-10 is needed under XAI_DATA, and an
hour on one core with bfloat16 units. The last 1,000 training pictures are held out of training and measured after every
epoch; the test pictures are looked at once, for the card.

Differs from document 004, whose code trains with Adam, batches of 64, 10 epochs and no augmentation or smoothed labels.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xai_lib import compute, data
from xai_lib.counterfactuals import rotation
from xai_lib.errors import ConfigError
from xai_lib.models import augmentation, cifar_conv, recipes, training
from xai_lib.models.augmentation import Augment

RECIPE: dict[str, Any] = {**recipes.CIFAR_RECIPE, "epochs": 30, "label_smoothing": 0.1, "random_rotation": 0}
"""Common to the three nets but for the rotation, in degrees."""
ROTATION = {"cifar_conv8_rotated": 45}
HELD_OUT = 1000
"""Training pictures that are measured after every epoch instead of being trained on."""


def random_rotation(degrees: float, *, before: Augment | None = None) -> Augment:
    """An `augment` for `training.train`: turns each image by an angle drawn evenly from [-degrees, degrees].

    Its draws are keyed by the generator's state and do not move it, so that a training with it has the same batches, crops and
    flips as one without.

    Args:
        degrees: largest angle, 0 to 180.
        before: another `augment` that is applied first.

    Raises:
        ConfigError: degrees out of range.

    >>> turned = random_rotation(45)(torch.ones(3, 1, 32, 32), torch.Generator().manual_seed(0))
    >>> bool((turned.sum((1, 2, 3)) < 32 * 32).all())
    True
    """
    if not 0 <= degrees <= 180:
        raise ConfigError(f"random_rotation: degrees={degrees}, expected 0 to 180")

    def augment(inputs: Tensor, generator: torch.Generator) -> Tensor:
        own = torch.Generator()
        own.set_state(generator.get_state())
        own.manual_seed(int(torch.randint(2**62, (), generator=own)))
        moved = inputs if before is None else before(inputs, generator)
        angles = (2 * torch.rand(len(inputs), generator=own) - 1) * degrees
        layout = torch.channels_last if moved.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
        return rotation(moved, angles.to(inputs.device)).contiguous(memory_format=layout)

    return augment


def augment_of(recipe: dict[str, Any]) -> Augment:
    """The `augment` that a recipe asks for, whose entries on it are taken out."""
    shift = augmentation.random_shift(recipe.pop("random_crop_padding"), flip=recipe.pop("random_flip"))
    degrees = recipe.pop("random_rotation")
    return random_rotation(degrees, before=shift) if degrees else shift


def cifar(
    folder: Path,
    *,
    name: str,
    seed: int = 0,
    epochs: int | None = None,
    n_train: int | None = None,
    held_out: int = HELD_OUT,
) -> dict[str, Any]:
    """Train one of cifar_conv.SETTINGS on the training pictures of CIFAR-10 and test it on all test pictures.

    Args:
        folder: where NAME.safetensors and NAME.json are written.
        name: one of cifar_conv.SETTINGS.
        seed: of the initial weights, the order of the batches and their augmentation.
        epochs: fewer than the recipe's, for a quick look.
        n_train: the first pictures only, for a quick look.
        held_out: training pictures, the last, that are measured after every epoch instead.

    Returns:
        The card. Accuracies and confidence (mean probability of the predicted class) are those in float32; the one on training
        pictures is of the first 10,000, as they are.

    Raises:
        DataError: CIFAR-10 is not here.
        ConfigError: an unknown name.
    """
    net = cifar_conv.build(name, seed=seed).to(memory_format=torch.channels_last)
    given, test = data.load("cifar10", split="train"), data.load("cifar10", split="test")
    kept = len(given) - held_out
    trained, checked = given.subset(range(min(n_train or kept, kept))), given.subset(range(kept, len(given)))
    full = {**RECIPE, "random_rotation": ROTATION.get(name, 0), "seed": seed, "epochs": epochs or RECIPE["epochs"]}
    recipe = dict(full)
    augment = augment_of(recipe)
    validation = (checked.inputs, checked.targets)
    record = training.train(
        net, trained.inputs, trained.targets, **recipe, augment=augment, validation=validation, progress=sys.stderr.isatty()
    )
    card = {
        "name": name,
        "net": f"xai_lib.models.cifar_conv.build({name!r})",
        "command": f"python -m xai_lib.models.cifar_conv_recipes {name}",
        "data": {
            "name": "cifar10",
            "encodings": sorted({*(given.extra or {})["encoding"], *(test.extra or {})["encoding"]}),
            "fingerprint": {"train": given.fingerprint, "held_out": test.fingerprint},
            "split": f"the data set's own: train without its last {held_out} pictures, and test held out",
            "n_train": len(trained),
            "n_validation": len(checked),
            "n_held_out": len(test),
        },
        "recipe": full,
        "final_loss": record.losses[-1],
        "accuracy_while_training": [round(value, 5) for value in record.accuracies],
        "accuracy_on_validation": [round(value, 5) for value in record.validation],
        "accuracy": {
            "train": recipes.interval(net, trained.subset(range(min(10_000, len(trained))))),
            "held_out": recipes.interval(net, test),
        },
        "confidence": {"held_out": compute.logits(net, test.inputs).softmax(1).amax(1).double().mean().item()},
    }
    return recipes.write(folder, card, net)


RECIPES: dict[str, Callable[..., dict[str, Any]]] = {name: partial(cifar, name=name) for name in cifar_conv.SETTINGS}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the command."""
    return recipes.main(arguments, known=RECIPES, program="xai_lib.models.cifar_conv_recipes", about=__doc__)


if __name__ == "__main__":
    raise SystemExit(main())

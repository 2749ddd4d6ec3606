"""Study `roar`, part 1: the nets, data and recipes of a set of parameters."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from xai_lib import data
from xai_lib.compendium.retraining import Plan


@dataclass(frozen=True)
class Plans:
    """The nets and data of a set of parameters.

    digits  the document's MNIST recipe
    quick   the same digits, fewer of them and a larger learning rate, for comparing many methods
    longer  the same removals, trained with a larger learning rate and twice the epochs
    colour  colour pictures and a small ResNet
    shuffled  a net of digits that is trained until it fits even permuted labels
    objects   pictures with an object label and a scene label
    """

    digits: Plan
    quick: Plan
    longer: Plan
    colour: Plan
    shuffled: Plan
    objects: Plan


def plans(p: Mapping[str, Any]) -> Plans:
    """The plans of a set of parameters of the study."""
    train = _part(p["dataset"], "train", p["n_train"])
    test = _part(p["dataset"], "test", p["n_test"])
    seeds, fractions = tuple(range(p["n_seeds"])), tuple(p["fractions"])
    own = {"batch": _batch(p["n_train"], p["n_quick"]), "optimiser": "sgd", "momentum": 0.9}
    recipe = {**own, "epochs": p["epochs"], "learning_rate": p["learning_rate"]}
    digits = Plan(train, test, ["lenet", {}], recipe, fractions, seeds)
    fast = {**recipe, "learning_rate": p["quick_learning_rate"]}
    quick_train = _part(p["dataset"], "train", p["n_quick"])
    few = tuple(range(p["n_quick_seeds"]))
    quick = Plan(quick_train, test, ["lenet", {}], fast, fractions, few)
    more = {**fast, "epochs": 2 * p["epochs"]}
    longer = replace(digits, recipe=more, fractions=fractions[-2:], seeds=few, explained_by=digits)
    adam = {"epochs": p["shuffled_epochs"], "batch": 50, "learning_rate": 1e-3, "optimiser": "adam"}
    shuffled = Plan(_part(p["dataset"], "train", p["n_shuffled"]), test, ["lenet", {}], adam, seeds=(0,))
    return Plans(digits, quick, longer, _colour(p), shuffled, _objects(p))


def _batch(*sizes: int) -> int:
    """The document's 64, or less where half of a training set holds fewer (nets of held-out halves); 0 is a whole set."""
    return min([64, *(n // 2 for n in sizes if n)])


def _part(name: str, split: str, n: int, **own: Any) -> dict[str, Any]:
    return {"name": name, "split": split, **({"n": n} if n else {}), **own}


def _colour(p: Mapping[str, Any]) -> Plan:
    own = {"size": p["colour_size"]}
    train = _part(p["colour_dataset"], "train", p["n_colour_train"], **own)
    test = _part(p["colour_dataset"], "test", p["n_colour_test"], **own)
    classes = len(data.load(**_part(p["colour_dataset"], "test", 1, **own)).class_names)
    seeds, fractions = tuple(range(p["n_colour_seeds"])), tuple(p["colour_fractions"])
    return Plan(train, test, [p["colour_net"], {"classes": classes}], _recipe(p), fractions, seeds)


def _recipe(p: Mapping[str, Any]) -> dict[str, Any]:
    """The document's recipe for its own network (section 6.4), and one for a small network that learns in a minute."""
    epochs = p["colour_epochs"]
    own = {"epochs": epochs, "batch": _batch(p["n_colour_train"]), "learning_rate": p["colour_learning_rate"]}
    own |= {"optimiser": "sgd", "momentum": 0.9}
    if p["colour_net"] == "resnet50":
        falling = {"schedule": "step", "drops": [epochs - 1]} if epochs > 1 else {"schedule": "constant"}
        return {**own, "weight_decay": 1e-4, **falling}
    more = {"precision": "bfloat16", "augment": {"pixels": p["colour_size"] // 10, "flip": True}}
    return {**own, "nesterov": True, "weight_decay": 5e-4, "schedule": "one_cycle", **more}


def _objects(p: Mapping[str, Any]) -> Plan:
    size = {"size": p["object_size"]}
    parts = [_part(p["object_dataset"], split, p[f"n_object_{split}"], **size) for split in ("train", "test")]
    classes = len(data.load(**{**parts[1], "n": 1}).class_names)
    recipe = {
        **_recipe({**p, "colour_net": "small_resnet"}),
        "epochs": p["object_epochs"],
        "batch": _batch(p["n_object_train"]),
        "augment": {"pixels": 0, "flip": True},
    }
    return Plan(parts[0], parts[1], ["small_resnet", {"classes": classes}], recipe, seeds=(0,))

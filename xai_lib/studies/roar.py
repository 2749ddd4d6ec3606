"""Study `roar`, part 2: its removals, and everything that is computed ahead of the notebook.

A label says the experiment and the condition, such as "hooker: IG" or "panel: VarGrad"; `Experiment` names the trainings behind
it. Nothing here computes; `retraining.Plan` and the store do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from xai_lib.compendium.benchmark import Stages, Work
from xai_lib.compendium.retraining import Plan, Removal, joined
from xai_lib.errors import unknown
from xai_lib.removal import HOOKER, LORETH_COLOUR, LORETH_GREY, Protocol
from xai_lib.studies.roar_plans import plans

Spec = tuple[str, Mapping[str, Any]]

IG_BLACK: Spec = ("integrated_gradients", {"baseline": "black", "steps": 25})
MEAN_GREY = 0.1307
IG_GREY: Spec = ("integrated_gradients", {"baseline": {"constant": {"value": MEAN_GREY}}, "steps": 50})
"""Document 002: Captum's default, 50 steps from 0 in the normalised space, which is the mean grey."""
FOOD_MEAN = (0.561, 0.440, 0.312)
IG_FOOD: Spec = ("integrated_gradients", {"baseline": {"constant": {"value": list(FOOD_MEAN)}}, "steps": 25})
RANDOM: Spec = ("random_attribution", {})
UNTOUCHED = "untouched"
LAYER = "act2"
"""Whose output Grad-CAM reads in the digits' net."""
TARGETS = {"label": "true label", "predicted": "predicted class", "held_out": "held-out net"}


COLOUR_LAYER = "features.6"
"""The same in the net of colour pictures."""


def panel(layer: str) -> dict[str, Spec]:
    """The methods that are compared, and controls that know no net.

    Args:
        layer: of Grad-CAM.
    """
    return {
        "random": RANDOM,
        "IG": IG_BLACK,
        "gradient": ("gradient", {}),
        "SmoothGrad": ("smoothgrad", {}),
        "SmoothGrad squared": ("smoothgrad_squared", {}),
        "VarGrad": ("vargrad", {}),
        "Guided Backprop": ("guided_backprop", {}),
        "Grad-CAM": ("grad_cam", {"layer": layer}),
        "ink": ("intensity", {}),
        "edges": ("edge_detector", {}),
        "IG, permuted": ("permuted_map", {"base": {"integrated_gradients": dict(IG_BLACK[1])}}),
    }


def judged_panel(layer: str = LAYER) -> dict[str, Spec]:
    """The methods whose maps are judged without retraining: the panel with Guided Grad-CAM."""
    chosen = panel(layer) | {"Guided Grad-CAM": ("guided_grad_cam", {"layer": layer})}
    chosen.pop("IG, permuted")
    return chosen


@dataclass(frozen=True)
class Experiment:
    """Trainings under one label.

    plan     what is trained
    removal  what is removed; None for whole pictures
    keep     KAR instead of ROAR
    show     "pattern": the net sees the removal pattern alone
    """

    plan: Plan
    removal: Removal | None
    keep: bool = False
    show: str = "picture"

    def stages(self) -> Stages:
        """What must be computed for it."""
        if self.removal is None:
            return [[], [], [self.plan.trainings()]]
        nets, orders, again = self.plan.stages([self.removal], keep=self.keep, show=self.show)
        return [nets[:-1], orders, again]

    def works(self) -> dict[float, Work]:
        """The trainings, by fraction; whole pictures are fraction 0."""
        if self.removal is None:
            return {0.0: self.plan.trainings()}
        works = self.plan.retrainings(self.removal, keep=self.keep, show=self.show)
        return dict(zip(self.plan.fractions, works, strict=True))


def as_done(plan: Plan) -> dict[str, Experiment]:
    """Tables 1: random and Integrated Gradients as document 002's code does it, and as the official code means it."""
    pairs = {"loreth": (LORETH_GREY, IG_GREY), "hooker": (HOOKER, IG_BLACK)}
    made = {UNTOUCHED: Experiment(plan, None)}
    for name, (rules, ig) in pairs.items():
        for label, method in (("random", RANDOM), ("IG", ig)):
            made[f"{name}: {label}"] = Experiment(plan, Removal(method, rules))
    return made


def differences(plan: Plan, names: Sequence[str]) -> dict[str, Experiment]:
    """From `loreth` to `hooker` one difference at a time, on Integrated Gradients: target, fill, baseline, ties."""
    steps: dict[str, tuple[Protocol, Spec]] = {
        "as coded": (LORETH_GREY, IG_GREY),
        "class predicted": (replace(LORETH_GREY, target="predicted"), IG_GREY),
        "true mean": (replace(LORETH_GREY, fill="mean", saved_as=None), IG_GREY),
        "both": (replace(LORETH_GREY, target="predicted", fill="mean", saved_as=None), IG_GREY),
        "black baseline, ties by index": (replace(HOOKER, ties="index"), IG_BLACK),
        "black baseline, ties at random": (HOOKER, IG_BLACK),
        "signed order": (replace(HOOKER, ranking="signed"), IG_BLACK),
    }
    return {f"step: {name}": Experiment(plan, Removal(steps[name][1], steps[name][0])) for name in names}


def compared(plan: Plan, methods: Sequence[str], *, keep: bool = False) -> dict[str, Experiment]:
    """Methods of the panel under the official protocol.

    Raises:
        ConfigError: a method that the panel does not have.
    """
    chosen = panel(LAYER)
    for name in methods:
        if name not in chosen:
            raise unknown("method of the panel", name, chosen)
    title = "KAR" if keep else "panel"
    made = {} if keep else {f"panel: {UNTOUCHED}": Experiment(plan, None)}
    return made | {f"{title}: {name}": Experiment(plan, Removal(chosen[name]), keep=keep) for name in methods}


def collapse(longer: Plan) -> dict[str, Experiment]:
    """Is the collapse at the last two fractions information or optimisation? The same removals, trained longer."""
    removals = {"IG": Removal(IG_GREY, LORETH_GREY), "random": Removal(RANDOM, LORETH_GREY)}
    return {f"longer: {name}": Experiment(longer, removal) for name, removal in removals.items()}


def patterns(
    plan: Plan, methods: Mapping[str, Spec], prefix: str, targets: Sequence[str] = tuple(TARGETS)
) -> dict[str, Experiment]:
    """Nets that see the removal pattern alone: what it tells about the class."""
    made = {f"{prefix}: random": Experiment(plan, Removal(RANDOM), show="pattern")}
    for name, method in methods.items():
        for target in targets:
            removal = Removal(method, replace(HOOKER, target=target))
            made[f"{prefix}: {name}, {TARGETS[target]}"] = Experiment(plan, removal, show="pattern")
    return made


def colour(plan: Plan) -> dict[str, Experiment]:
    """Table 2 in small: random, Integrated Gradients and Guided Backprop, by who chose the class that is explained."""
    made = {f"colour: {UNTOUCHED}": Experiment(plan, None), "colour: random": Experiment(plan, Removal(RANDOM))}
    for name, method in COLOUR_METHODS.items():
        for target, told in TARGETS.items():
            made[f"colour: {name}, {told}"] = Experiment(plan, Removal(method, replace(HOOKER, target=target)))
    made["colour: IG, as coded"] = Experiment(plan, Removal(IG_FOOD, LORETH_COLOUR))
    return made


def recipes(plan: Plan) -> dict[str, Experiment]:
    """Whole pictures under the document's recipe for Food-101 in small, and under what the original adds to it."""
    epochs = int(plan.recipe["epochs"])
    plain = {k: v for k, v in plan.recipe.items() if k != "augment"} | {"nesterov": False, "weight_decay": 1e-4}
    plain |= {"schedule": "step", "drops": [epochs - 1]} if epochs > 1 else {"schedule": "constant"}
    more = {"augment": plan.recipe.get("augment", {"pixels": 8, "flip": True})}
    kinds = {"as in the document": plain, "augmentation": plain | more, "label smoothing": plain | {"label_smoothing": 0.1}}
    kinds["falling learning rate"] = {k: v for k, v in plain.items() if k != "drops"} | {"schedule": "one_cycle"}
    return {f"recipe: {name}": Experiment(replace(plan, recipe=own), None) for name, own in kinds.items()}


SHARED = {
    "random": "colour: random",
    "IG": "colour: IG, predicted class",
    "Guided Backprop": "colour: Guided Backprop, predicted class",
}
"""Methods that digits and colour pictures have in common, with their labels in the second group."""
COLOUR_METHODS: Mapping[str, Spec] = {"IG": IG_FOOD, "Guided Backprop": ("guided_backprop", {})}


def experiments(p: Mapping[str, Any]) -> dict[str, Experiment]:
    """Every training of the study by its label."""
    made = plans(p)
    middle = replace(made.quick, fractions=(made.quick.fractions[len(made.quick.fractions) // 2],))
    return {
        **as_done(made.digits),
        **compared(made.quick, p["methods"]),
        **compared(made.quick, p["kar_methods"], keep=True),
        **differences(made.quick, p["steps"]),
        **collapse(made.longer),
        **patterns(middle, {"IG": IG_BLACK}, "pattern"),
        **colour(made.colour),
        **recipes(made.colour),
        **patterns(replace(made.colour, fractions=made.colour.fractions[:1]), {"IG": IG_FOOD}, "colour pattern"),
    }


def works(p: Mapping[str, Any]) -> Stages:
    """Everything that is stored, in the order in which it needs each other."""
    made = plans(p)
    judged = [made.shuffled.trainings(labels=1), made.objects.trainings(), made.objects.trainings(labels="scene")]
    return joined(*(each.stages() for each in experiments(p).values()), [judged])

"""Study `wsol`, part 1: the panels of methods, what is explained, and everything that is stored."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from xai_lib import data, models
from xai_lib.compendium.benchmark import Stages, Work
from xai_lib.compendium.experiments import stored, study_task, work_of
from xai_lib.compendium.retraining import Plan
from xai_lib.compendium.retraining_tasks import trained
from xai_lib.studies import costs, wsol_checks, wsol_scores
from xai_lib.studies.case import OTHER, Case, explainer, open_case

Spec = tuple[str, dict[str, Any]]
Panel = dict[str, Spec]

CONTROLS: Panel = {
    "whole image": ("all_ones", {}),
    "centre box": ("centre_box", {}),
    "centre Gaussian": ("centre_gaussian", {}),
    "random": ("random_attribution", {}),
    "edges": ("edge_detector", {}),
    "|x - mean|": ("input_difference", {"baseline": "average"}),
}
"""Maps that know no model."""
DEEP = ("gradient", "IG", "DeepLIFT", "CAM", "Grad-CAM")
"""Methods that are tried on the other classifiers too."""
CROPPED = ("IG", "CAM", "Grad-CAM", "LIME", "random")
SHARES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
"""Methods, and shares of the maximum, for the metric of Dabkowski and Gal."""


def fast_panel(p: Mapping[str, Any]) -> Panel:
    """Methods that need the model's inside and a few passes."""
    steps, draws = p["steps"], p["n_draws"]
    return {
        "gradient": ("gradient", {}),
        "gradient x input": ("input_x_gradient", {}),
        "SmoothGrad": ("smoothgrad", {"n_samples": draws}),
        "IG": ("integrated_gradients", {"baseline": "black", "steps": steps}),
        "GradientSHAP": ("gradient_shap", {"baseline": "black", "n_samples": draws}),
        "DeepLIFT": ("deeplift", {"baseline": "black"}),
        "LRP, epsilon": ("lrp", {"rule": "epsilon"}),
        "LRP, z+": ("lrp", {"rule": "z_plus"}),
        "DeconvNet": ("deconvnet", {}),
        "Guided Backprop": ("guided_backprop", {}),
        "CAM": ("cam", {}),
        "Grad-CAM": ("grad_cam", {}),
        "Guided Grad-CAM": ("guided_grad_cam", {}),
    }


def slow_panel(p: Mapping[str, Any]) -> Panel:
    """Methods that ask the model many questions about changed images."""
    parts = {"segments": {"slic": {"n_segments": p["n_segments"]}}}
    return {
        "occlusion": ("occlusion", {"patch": p["patch"], "stride": p["stride"], "baseline": "average"}),
        "superpixels left out": ("feature_ablation", {**parts, "baseline": "average"}),
        "LIME": ("lime_image", {**parts, "n_samples": p["n_samples"]}),
        "KernelSHAP": ("kernel_shap", {**parts, "n_samples": p["n_samples"], "baseline": "average"}),
        "RISE": ("rise", {"n_masks": p["n_masks"]}),
        "perturbation mask": ("meaningful_perturbation", {"iterations": p["iterations"]}),
    }


@dataclass(frozen=True)
class Cases:
    """What is explained.

    images  the images of the tables; `few` are those that the slow methods see, whose maps are kept; `rest` are the others
    others  the same images under other classifiers
    small   images for small nets
    photos  what is shown: `few` where pictures may be shown, else packaged photographs
    """

    images: Case
    few: Case
    rest: Case | None
    others: tuple[Case, ...]
    small: tuple[Case, ...]
    photos: Case


def open_cases(p: Mapping[str, Any]) -> Cases:
    """The cases of a set of parameters of the study."""
    asked = {"target": p["target"], "seed": p["seed"], "max_batch": p["max_batch"]}
    large = {**asked, "size": p["size"]}
    images = open_case(p["model"], p["dataset"], n=p["n_images"], **large)
    few = images.first(p["n_slow"])
    left = range(len(few.samples), len(images.samples))
    rest = replace(images, samples=images.samples.subset(left), targets=images.targets[left.start :]) if left else None
    others = tuple(open_case(name, p["dataset"], n=p["n_others"], prefix=OTHER, **large) for name in p["other_models"])
    small = tuple(
        open_case(name, {"mnist_5k" if name == "mnist_cnn" else p["small_dataset"]: {"split": "test"}}, n=p["n_small"],
                  prefix="small: ", shard=50, **asked)
        for name in p["small_models"]
    )  # fmt: skip
    shown = images.samples.redistributable
    photos = few if shown else open_case(p["model"], "photos", n=4, **large)
    return Cases(images, few, rest, others, small, photos)


def shapes_case(p: Mapping[str, Any]) -> Case:
    """Pictures with exact masks, and a small ResNet that was trained on others of the kind; true classes are explained."""
    plan = shapes_plan(p)
    model = trained(plan.case, 0)
    vars(model).update(name=str(plan.net[0]), weights_sha256=models.state_sha256(model))
    samples = plan.samples("test")
    return Case(model, samples, samples.targets, seed=p["seed"], prefix="shapes: ")


def shapes_plan(p: Mapping[str, Any]) -> Plan:
    """The training behind `shapes_case`."""
    parts = [
        {"name": "shapes", "split": split, "n": p[n], "size": p["shapes_size"]}
        for split, n in (("train", "n_shapes_train"), ("test", "n_shapes"))
    ]
    classes = len(data.load("shapes", n=1).class_names)
    recipe = {
        "epochs": p["shapes_epochs"],
        "batch": min(64, p["n_shapes_train"] // 2),
        "learning_rate": 0.1,
        "optimiser": "sgd",
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 5e-4,
        "schedule": "one_cycle",
        "precision": "bfloat16",
    }
    return Plan(parts[0], parts[1], ["small_resnet", {"classes": classes}], recipe, seeds=(0,))


def shapes_rows(p: Mapping[str, Any]) -> tuple[Case, dict[str, Tensor], dict[str, Tensor]]:
    """(case, maps, average precision of the pixels against exact masks) of the fast methods and the controls."""
    case = shapes_case(p)
    made = wsol_scores.made_maps(case, {**fast_panel(p), **CONTROLS})
    precision = {
        label: wsol_scores.asked(case, one, "pixel_average_precision", reduce=wsol_scores.reading(label))
        for label, one in made.items()
    }
    return case, made, {f"{label} | {wsol_scores.PRECISION}": values for label, values in precision.items()}


@study_task(label="What a map of the localisation panel costs")
def localisation_costs(case: Case, *, methods: wsol_scores.Methods) -> pd.DataFrame:
    """Cost of each method, see `costs.rows_of`."""

    def by_name(name: str, own: Mapping[str, Any]) -> Any:
        return lambda one: explainer(one, name, **own)(one.model, one.inputs, one.targets)

    return costs.rows_of(case, {label: by_name(name, own) for label, (name, own) in methods.items()})


def halves(cases: Cases, p: Mapping[str, Any]) -> list[tuple[Case, Panel, bool]]:
    """The images of the tables: those with all methods, whose maps are kept, and the rest."""
    fast = {**fast_panel(p), **CONTROLS}
    return [(cases.few, {**fast, **slow_panel(p)}, True), *([(cases.rest, fast, False)] if cases.rest else [])]


def all_scores(cases: Cases, p: Mapping[str, Any]) -> dict[str, Tensor]:
    """The scores of every map: of the slow methods for the few, which come first, of the others for all images."""
    parts = [
        stored(case, wsol_scores.localisation_scores, methods=methods, keep=keep, thresholds=p["thresholds"])
        for case, methods, keep in halves(cases, p)
    ]
    return {name: torch.cat([part[name] for part in parts if name in part]) for name in parts[0]}


def first(scores: Mapping[str, Tensor], case: Case) -> dict[str, Tensor]:
    """The scores of the first images, as many as the case has."""
    return {name: values[: len(case.samples)] for name, values in scores.items()}


def other_scores(cases: Cases, p: Mapping[str, Any]) -> list[tuple[Case, dict[str, Tensor]]]:
    """The scores of a few methods on each of the other classifiers."""
    own = {"methods": deep_panel(p), "keep": False, "thresholds": p["thresholds"]}
    return [(case, stored(case, wsol_scores.localisation_scores, **own)) for case in cases.others]


def deep_panel(p: Mapping[str, Any]) -> Panel:
    """The methods that are tried on the other classifiers."""
    return {label: fast_panel(p)[label] for label in DEEP}


def works(p: Mapping[str, Any]) -> Stages:
    """Everything that is stored: the maps that several experiments need, then all else."""
    cases = open_cases(p)
    both = halves(cases, p)
    panel = both[0][1]
    deep = deep_panel(p)
    seen = [cases.few] if cases.photos is cases.few else [cases.few, cases.photos]
    count = {"thresholds": p["thresholds"]}

    def scores(case: Case, methods: Panel, keep: bool) -> Work:
        return work_of(case, wsol_scores.localisation_scores, methods=methods, keep=keep, **count)

    return [
        [*(work_of(case, wsol_scores.localisation_maps, methods=panel) for case in seen), shapes_plan(p).trainings()],
        [
            *(scores(*half) for half in both),
            *(scores(case, deep, False) for case in cases.others),
            *(work_of(case, wsol_checks.small_net_rows) for case in cases.small),
            work_of(cases.few, wsol_checks.alike_rows, methods=panel),
            work_of(cases.few, wsol_checks.played_rows, methods=panel, points=p["points"]),
            work_of(cases.few, wsol_checks.additivity_rows, methods=panel),
            work_of(cases.few, wsol_checks.crop_scores, methods=panel, labels=list(CROPPED), shares=list(SHARES)),
            work_of(cases.few.first(p["n_repeated"]), wsol_checks.repeat_rows, lime=panel["LIME"], n_repeats=p["n_repeats"]),
            work_of(cases.few.first(p["n_costed"]), localisation_costs, methods={**fast_panel(p), **slow_panel(p)}),
        ],
    ]

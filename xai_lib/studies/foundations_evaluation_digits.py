"""Lesson `foundations_evaluation`, measured on digits: each evaluation on methods and on maps that know no model."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from xai_lib import METHODS, METRICS, compute, data, metrics, toys
from xai_lib.metrics import bam_comparisons
from xai_lib.models import digit_nets
from xai_lib.randomness import key
from xai_lib.studies import foundations_evaluation_leak as leak
from xai_lib.studies.case import Case, open_case, rows
from xai_lib.studies.foundations_evaluation_toys import completed, label_blind, noise_of_weights
from xai_lib.types import Model, Spec

INK = 0.1
"""Grey level above which a pixel belongs to the digit."""
STEPS = 16
IG: dict[str, Any] = {"steps": STEPS}
PANEL: Mapping[str, Spec] = {
    "gradient": "gradient",
    "IG": {"integrated_gradients": IG},
    "random": "random_attribution",
    "centre": "centre_gaussian",
    "edges": "edge_detector",
    "|x − x'|": "intensity",
}
"""Two methods, and four maps that ask no model; the baseline x' of IG is black, so that the last is the ink."""
CONTROLS = ("random", "centre", "edges", "|x − x'|")
WHITE = "IG from white"
FILLS = ("black", "white", "uniform")
SIZES = (0.01, 0.1, 0.5, 0.9)
AOPC, GAME, SENSITIVE, GAP = "region perturbation", "insertion minus deletion", "Sensitivity-n", "completeness gap"
ROAR, PATTERN, CHECK, ENERGY = "RemOve And Retrain", "removal pattern alone", "similarity to a random net", "energy in box"
STABLE, CONTRAST = "Max-Sensitivity", "model contrast"


def open_digits(p: Mapping[str, Any]) -> Case:
    """The net and its digits; the predicted class is explained."""
    return open_case("mnist_cnn", {"mnist_5k": {"split": "test"}}, n=p["n_images"], seed=p["seed"])


def training(p: Mapping[str, Any]) -> Case:
    """The digits on which classifiers are trained anew, none of them in `open_digits`."""
    return open_case("mnist_cnn", {"mnist_5k": {"split": "train"}}, n=p["n_retrain"], seed=p["seed"])


def words(case: Case) -> dict[str, Any]:
    """Words of a metric, without the attributions."""
    return {"model": case.model, "inputs": case.inputs, "targets": case.targets, "boxes": ink_boxes(case.inputs)}


def ink_boxes(inputs: Tensor) -> tuple[np.ndarray, ...]:
    """The tight box around each digit's ink, as of any object."""
    return tuple(data.shapes.tight_box(image[0].numpy() > INK) for image in inputs)


def attributions(case: Case, panel: Mapping[str, Spec] = PANEL) -> dict[str, Tensor]:
    """The maps of every method."""
    return {label: METHODS.bind(spec)(case.model, case.inputs, case.targets) for label, spec in panel.items()}


def measured(case: Case, metric: str, name: str, made: Mapping[str, Tensor], **own: Any) -> pd.DataFrame:
    """One registered metric of several maps, as rows under the name `metric`."""
    bound, given = METRICS.bind(name, **own), words(case)
    values = {label: METRICS.ask(bound, {**given, "attributions": maps_}) for label, maps_ in made.items()}
    return pd.concat([rows(case, label, metric, v, metric_parameters=own) for label, v in values.items()], ignore_index=True)


def removal_rows(case: Case, made: Mapping[str, Tensor]) -> pd.DataFrame:
    """Region perturbation and insertion minus deletion, for each colour that takes the place of pixels."""
    both = {**made, **attributions(case, {WHITE: {"integrated_gradients": {**IG, "baseline": "white"}}})}
    frames = []
    for fill in FILLS:
        own = {"region": 4, "n_regions": 24, "fill": fill, "n_draws": 2}
        frames.append(measured(case, f"{AOPC}, {fill}", "region_perturbation", both, **own))
        game = {"insertion_substrate": fill, "deletion_substrate": fill, "points": 15}
        frames.append(measured(case, f"{GAME}, {fill}", "insertion_deletion", both, **game))
    return pd.concat(frames, ignore_index=True)


def subset_rows(case: Case, made: Mapping[str, Tensor], *, n_subsets: int = 40) -> pd.DataFrame:
    """Sensitivity-n for each subset size, and its mean over the sizes."""
    drops = metrics.subset_drops(
        case.model, case.inputs, case.targets, fractions=SIZES, n_subsets=n_subsets, baseline="black", seed=case.seed
    )
    frames = []
    for label, maps_ in made.items():
        found = metrics.subset_correlations(drops, case.inputs, maps_)
        by_size = {f"{SENSITIVE}, {size:.0%}".replace("%", " %"): found[:, k] for k, size in enumerate(SIZES)}
        frames += [rows(case, label, name, v) for name, v in {**by_size, SENSITIVE: found.mean(dim=1)}.items()]
    return pd.concat(frames, ignore_index=True)


def retraining_rows(case: Case, other: Case, p: Mapping[str, Any]) -> pd.DataFrame:
    """RemOve And Retrain with a linear classifier: maps of the predicted class, of the true one, and of an untrained net."""
    both = (other, case)
    made = {label: pair(both, case.model, spec) for label, spec in PANEL.items()}
    made["IG, true class"] = pair(both, case.model, PANEL["IG"], true=True)
    blank = digit_nets.untrained("mnist_mlp", seed=p["seed"])
    made["gradient, true class, untrained net"] = pair(both, blank, "gradient", true=True)
    labelled = [(one.inputs, one.samples.targets) for one in both]
    found = leak.digits(labelled[0], labelled[1], made, p["removed"])
    frames = []
    for label, (left, pattern) in found.items():
        frames.append(rows(case, label, ROAR, left, metric_parameters={"removed": p["removed"]}))
        flag = "nothing is removed"
        frames.append(rows(case, label, PATTERN, pattern, metric_parameters={"removed": p["removed"]}, flag=flag))
    return pd.concat(frames, ignore_index=True)


def pair(both: Sequence[Case], model: Model, spec: Spec, *, true: bool = False) -> tuple[Tensor, Tensor]:
    """Maps of the training and of the test pictures."""
    of_train, of_test = (METHODS.bind(spec)(model, one.inputs, one.samples.targets if true else one.targets) for one in both)
    return of_train, of_test


def certificate_rows(case: Case) -> pd.DataFrame:
    """Completeness and soundness over the ten classes, also of a method that draws the predicted class whatever is asked."""
    frames = []
    blind = {"label_blind": lambda model, x, t: label_blind(model, x, t, base=PANEL["IG"])}
    for label, spec in {**PANEL, "IG of the predicted class": blind["label_blind"]}.items():
        found = metrics.certificates(case.model, case.inputs, case.targets, METHODS.bind(spec), fill="black", points=9)
        probability, certificate = found.probabilities, found.certificates
        values = {
            "certificate completeness": metrics.completeness_of(certificate, probability),
            "certificate soundness": metrics.soundness_of(certificate, probability),
        }
        frames += [rows(case, label, name, v.amin(dim=1)) for name, v in values.items()]
    return pd.concat(frames, ignore_index=True)


def gap_rows(case: Case, made: Mapping[str, Tensor]) -> pd.DataFrame:
    """Completeness gap, also of maps that a constant made complete."""
    black = compute.scores(case.model, torch.zeros_like(case.inputs), case.targets)
    change = compute.scores(case.model, case.inputs, case.targets) - black
    coarse = {"IG, 4 steps": {"integrated_gradients": {"steps": 4, "rule": "right"}}}
    both = {**made, **attributions(case, coarse)}
    both |= {f"{label} + constant": completed(made[label], change) for label in ("gradient", "random")}
    return measured(case, GAP, "completeness_gap", both)


def randomisation_rows(case: Case) -> pd.DataFrame:
    """Similarity of each map to that of a random net, and of two random nets' maps."""
    frames = []
    for label, spec in {**PANEL, "noise seeded by the weights": noise_of_weights}.items():
        method, given = METHODS.bind(spec), (case.model, case.inputs, case.targets)
        own: dict[str, Any] = {"stages": 1, "absolute": True, "seed": case.seed}
        metric = METRICS.bind("model_parameter_randomisation", **own)
        found = metric(*given, method(*given), method)
        frames.append(rows(case, label, CHECK, found, metric_parameters=own))
        floor = metrics.randomisation_floor(*given, method, absolute=True, seed=case.seed)
        frames.append(rows(case, label, "two random nets", floor))
    return pd.concat(frames, ignore_index=True)


def place_rows(case: Case, made: Mapping[str, Tensor]) -> pd.DataFrame:
    """Localisation of the ink's box, also by a map of ones."""
    both = {**made, "all ones": torch.ones_like(case.inputs)}
    own: dict[str, dict[str, Any]] = {
        "pointing_game": {"tolerance": 0.0, "seed": case.seed},
        "pixel_iou": {},
        "energy_in_box": {},
    }
    names = {"pointing_game": "pointing game", "pixel_iou": "pixel IoU", "energy_in_box": ENERGY}
    return pd.concat([measured(case, names[name], name, both, **how) for name, how in own.items()], ignore_index=True)


def stability_rows(case: Case) -> pd.DataFrame:
    """How far maps move when every pixel moves by up to 0.02."""
    frames = []
    for label, spec in PANEL.items():
        found = metrics.robustness_profile(
            case.model, case.inputs, case.targets, None, METHODS.bind(spec), n_samples=5, radius=0.02, seed=case.seed
        )
        for name, metric in ((STABLE, "max_sensitivity"), ("Avg-Sensitivity", "avg_sensitivity")):
            frames.append(rows(case, label, name, found[metric], metric_parameters={"n_samples": 5, "radius": 0.02}))
    return pd.concat(frames, ignore_index=True)


RAMPS = ("right", "left", "bottom", "top")
"""The scenes: which side is bright."""


def on_ramps(inputs: Tensor, seed: int, *, height: float = 0.3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Digits on grounds that brighten to one side: pictures, grounds alone, sides (n,), and the digits' pixels (n, h, w)."""
    rise = torch.linspace(0, height, inputs.shape[-1])
    grounds = torch.stack([rise.expand(28, 28), rise.flip(0).expand(28, 28), rise[:, None].expand(28, 28),
                           rise.flip(0)[:, None].expand(28, 28)])  # fmt: skip
    sides = torch.randint(len(RAMPS), (len(inputs),), generator=torch.Generator().manual_seed(key(seed, "ramps")))
    scenes, masks = grounds[sides][:, None].contiguous(), inputs[:, 0] > INK
    return torch.where(masks[:, None], inputs, scenes), scenes, sides, masks


def contrast_rows(case: Case, other: Case, p: Mapping[str, Any]) -> pd.DataFrame:
    """BAM: the digits' net is the model of objects, logistic regression on the bright side of the ground that of scenes."""
    shown, _, sides, _ = on_ramps(other.inputs, p["seed"])
    fitted = LogisticRegression(max_iter=500).fit(shown.flatten(1).numpy(), sides.numpy())
    scene_model = toys.linear(torch.tensor(fitted.coef_).float(), torch.tensor(fitted.intercept_).float())
    pictures, scenes, truth, masks = on_ramps(case.inputs, p["seed"] + 1)
    frames = []
    for label, spec in PANEL.items():
        asked = (case.model, scene_model, pictures, scenes, case.samples.targets, truth, masks, METHODS.bind(spec))
        for name, found in bam_comparisons(*asked).items():
            frames.append(
                rows(case, label, name.removesuffix("_score").replace("_", " "), found.values, flag="a model is wrong")
            )
    return pd.concat(frames, ignore_index=True)

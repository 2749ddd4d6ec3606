"""Study `case_studies`, part features: the nets on HOG and LBP, and how well each of the document's digit nets reads.

Claims E5 and E17. All of it takes seconds, so nothing is stored.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from xai_lib import compute, data, features, models
from xai_lib.compendium.benchmark import Stages
from xai_lib.metrics.density import energy_density
from xai_lib.models import digit_nets
from xai_lib.models.digit_recipes import read_as
from xai_lib.models.weights import CHECKPOINTS
from xai_lib.similarity import spearman
from xai_lib.studies.case import Case, explainer, rows
from xai_lib.types import Samples

NETS: Mapping[str, str] = {"HOG": "mnist_hog_mlp", "LBP": "mnist_lbp_mlp"}
SHOWN: Mapping[str, tuple[int, ...]] = {"HOG": (1, 4, 7), "LBP": (0, 5, 8)}
"""The digits of Figures 3 and 2."""
FIRST = 10
"""The authors' code shows test digits from this place on."""
TRAINED, UNTRAINED = "trained", "untrained"
PRESENT, ABSENT, RATIO = "density on present features", "density on absent features", "density, present over absent"
DENSITY = "density on a part of the absent features"
SHARE, COUNT = "share of |gradient| on absent features", "share of features that are absent"
WITH_VALUE, WITH_START = "correlation with the feature's value", "correlation with the map of the first weights"
ACCURACY, GAP = "accuracy", "accuracy, training minus test"
PIXELS, KIND = "share of pixels", "density on this kind of code"
NEVER, ELSEWHERE = "pixels without ink in any digit", "pixels with ink in other digits"
ANY = "any edge"
Maps = dict[str, Tensor]


@dataclass(frozen=True)
class Digits:
    """What is explained.

    pixels    the digits
    cases     the nets by short name, on the features of these digits; predicted classes are explained
    examples  the digits of the document's figures by short name (packaged ones where the others may not be shown)
    """

    pixels: Samples
    cases: Mapping[str, Case]
    examples: Mapping[str, Samples]


def works(p: Mapping[str, Any]) -> Stages:
    """Nothing is stored."""
    return []


def open_digits(p: Mapping[str, Any]) -> Digits:
    """The digits of a set of parameters of the study, as each net reads them."""
    pixels = data.load(p["digits"], split="test", n=p["n_features"], seed=p["seed"])
    source = p["digits"] if pixels.redistributable else "mnist_5k"
    return Digits(
        pixels,
        {short: case_of(name, pixels, p) for short, name in NETS.items()},
        {short: first_of(source, labels) for short, labels in SHOWN.items()},
    )


def case_of(name: str, pixels: Samples, p: Mapping[str, Any]) -> Case:
    """A digit net with what it reads of these digits; the predicted classes are explained."""
    net = models.load(name)
    own = read_as(pixels, digit_nets.READS[name])
    predicted = compute.logits(net, own.inputs).argmax(1)
    return Case(net, own, predicted, seed=p["seed"], max_batch=p["max_batch"] or None)


def first_of(source: str, labels: tuple[int, ...]) -> Samples:
    """For each label the first digit from place `FIRST` of the test digits on."""
    whole = data.load(source, split="test")
    found = whole.targets.tolist()
    return whole.subset([found.index(label, FIRST) for label in labels])


def maps_of(case: Case, n_untrained: int) -> Maps:
    """|gradient| of the explained class's logit, of the trained net and of nets that were never trained.

    Args:
        case: of `open_digits`.
        n_untrained: how many untrained nets, drawn from seeds 1, 2, ...; the trained net started from seed 0.

    Returns:
        {TRAINED: (1, n, ...), UNTRAINED: (n_untrained, n, ...)}
    """
    explain = explainer(case, "saliency")
    others = [digit_nets.untrained(name_of(case), seed=seed) for seed in range(1, n_untrained + 1)]
    return {
        key: torch.stack([explain(net, case.inputs, case.targets) for net in nets])
        for key, nets in ((TRAINED, [case.model]), (UNTRAINED, others))
    }


def name_of(case: Case) -> str:
    """The registered name of a case's net."""
    return str(getattr(case.model, "name", ""))


def first_weights_maps(case: Case) -> tuple[Tensor, Tensor]:
    """The signed gradient of a net of two linear layers, and the same with the first layer's weights from before training.

    The gradient of logit t is g = sum of W2[t, h] W1[h] over the hidden units h that are on. Only W1 is put back. Where inputs
    are equal in all training digits, training moves their W1[h] alike: the two maps differ there by one number alone.

    Returns:
        (n, f) each.
    """
    net: Any = vars(case.model)["_modules"]["network"]
    start: Any = digit_nets.build(name_of(case), seed=card_of(name_of(case))["recipe"]["seed"])
    with torch.no_grad():
        through = net.fc2.weight[case.targets] * (net.fc1(case.inputs.flatten(1)) > 0)
        return through @ net.fc1.weight, through @ start.fc1.weight


def density(saliency: Tensor, inside: Tensor) -> Tensor:
    """Share of |saliency| inside a set of features over the set's share of all features, (n,): 1 for a uniform saliency.

    Saliency and set have the features' own shape, (n, f) or (n, 1, h, w); see `metrics.density.energy_density`.
    """
    return energy_density(saliency.reshape(len(saliency), 1, 1, -1), inside.reshape(len(inside), 1, -1))


def density_rows(digits: Digits, p: Mapping[str, Any]) -> pd.DataFrame:
    """How dense the saliency is on features that a digit has and on those that it has not, per digit (claim E5).

    Untrained nets: the mean over `n_untrained` nets for each digit.
    """
    return pd.concat([_net_rows(short, case, digits.pixels, p) for short, case in digits.cases.items()], ignore_index=True)


def _net_rows(short: str, case: Case, pixels: Samples, p: Mapping[str, Any]) -> pd.DataFrame:
    made, name = maps_of(case, p["n_untrained"]), digit_nets.READS[name_of(case)]
    sets = {short: features.present(pixels.inputs, name)}
    if short == "HOG":
        sets[f"HOG, {ANY}"] = features.present(pixels.inputs, name, share=0.0)
    frames = []
    for label, there in sets.items():
        for which in (TRAINED, UNTRAINED):
            scored = [_scores(one, there, case.inputs) for one in made[which]]
            for metric in [m for m in scored[0] if m != WITH_VALUE or label == short]:
                mean = torch.stack([one[metric] for one in scored]).mean(0)
                frames.append(rows(case, f"{label}, {which}", metric, mean, flag="no such feature"))
        absent = 1 - there.flatten(1).double().mean(1)
        frames.append(rows(case, label, COUNT, absent))
    split = absent_sets(sets[short], pixels, p) if short == "LBP" else {}
    for label, within in {f"{short}, absent": ~sets[short], **split}.items():
        frames.append(rows(case, label, WITH_START, spearman(*first_weights_maps(case), within=within.flatten(1))))
        for which in (TRAINED, UNTRAINED) if label in split else ():
            mean = torch.stack([density(one, within) for one in made[which]]).mean(0)
            frames.append(rows(case, f"{label}, {which}", DENSITY, mean, flag="no such feature"))
    return pd.concat(frames, ignore_index=True)


def _scores(saliency: Tensor, there: Tensor, values: Tensor) -> dict[str, Tensor]:
    inside, outside = density(saliency, there).double(), density(saliency, ~there).double()
    absent = (~there).flatten(1).double().mean(1)
    return {
        PRESENT: inside,
        ABSENT: outside,
        RATIO: inside / outside,
        SHARE: outside * absent,
        WITH_VALUE: spearman(saliency.flatten(1).abs(), values.flatten(1)),
    }


def absent_sets(there: Tensor, pixels: Samples, p: Mapping[str, Any]) -> Maps:
    """Two parts of the pixels without an LBP pattern: where other digits have ink, and where none ever has.

    "Other digits" are those under study and all training digits of the data set.
    """
    inked = (data.load(p["digits"], split="train").inputs > 0).any(0) | (pixels.inputs > 0).any(0)
    return {f"LBP, {ELSEWHERE}": ~there & inked, f"LBP, {NEVER}": (~inked).expand_as(there)}


def place_means(digits: Digits, p: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """(density of |gradient|, share of all edges x 36) of each HOG feature, (36,) each: means over digits; 1 is even."""
    case = digits.cases["HOG"]
    saliency = maps_of(case, 1)[TRAINED][0]
    return tuple(36 * (v / v.sum(1, keepdim=True)).mean(0) for v in (saliency, case.inputs))  # type: ignore[return-value]


def kind_rows(digits: Digits, p: Mapping[str, Any]) -> pd.DataFrame:
    """The density of |gradient| on each kind of LBP code (flat, spot, edge, mixed), per digit."""
    case = digits.cases["LBP"]
    codes = features.lbp_codes(digits.pixels.inputs).unsqueeze(1)
    kinds = {code: features.lbp_meaning(code).partition(":")[0] for code in range(features.POINTS + 2)}
    made = maps_of(case, p["n_untrained"])
    frames = []
    for kind in dict.fromkeys(kinds.values()):
        inside = torch.isin(codes, torch.tensor([code for code, own in kinds.items() if own == kind]))
        frames.append(rows(case, kind, PIXELS, inside.flatten(1).double().mean(1)))
        for which in (TRAINED, UNTRAINED):
            mean = torch.stack([density(one, inside) for one in made[which]]).mean(0)
            frames.append(rows(case, f"{kind}, {which}", KIND, mean, flag="no such code"))
    return pd.concat(frames, ignore_index=True)


def accuracy_rows(p: Mapping[str, Any]) -> pd.DataFrame:
    """Whether each digit is read, by each of the document's digit nets (claim E17).

    `ACCURACY`: 1 or 0 per digit of the test split, and of as many training digits. `GAP`: the card's accuracy on all 60,000
    training digits minus 1 or 0 per test digit, so that its mean is the gap. The digits of mnist_5k are all training digits.
    """
    pixels = data.load(p["digits"], split="test", n=p["n_accuracy"], seed=p["seed"])
    trained_on = data.load(p["digits"], split="train", n=p["n_accuracy"], seed=p["seed"])
    frames = []
    for name in digit_nets.NAMES:
        label = short_name(name)
        for split, samples in ((label, pixels), (f"{label}, training digits", trained_on)):
            case = case_of(name, samples, p)
            right = (case.targets == samples.targets).double()
            frames.append(rows(case, split, ACCURACY, right))
            if split == label:
                frames.append(rows(case, label, GAP, card_of(name)["accuracy"]["train"]["value"] - right))
    return pd.concat(frames, ignore_index=True)


def short_name(name: str) -> str:
    """A digit net's name in tables."""
    return {"mnist_mlp": "MLP", "mnist_hog_mlp": "HOG", "mnist_lbp_mlp": "LBP", "mnist_sigmoid_cnn": "CNN"}[name]


@lru_cache(maxsize=8)
def card_of(name: str) -> dict[str, Any]:
    """The card of a committed checkpoint."""
    card: dict[str, Any] = json.loads((CHECKPOINTS / f"{name}.json").read_text(encoding="utf-8"))
    return card

"""Study `case_studies`, part `cifar`: what the CIFAR-10 nets get right of the training and of the test split (claim E17)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from xai_lib import DATASETS, compute, plotting, stats
from xai_lib.compendium.benchmark import Stages
from xai_lib.compendium.experiments import stored, study_task, without_pictures, work_of
from xai_lib.studies.case import Case, data_spec, open_case, rows

SIDE = 32
SEEN, UNSEEN = "training pictures", "test pictures"
SPLITS = {SEEN: "train", UNSEEN: "test"}
ACCURACY, CONFIDENCE = "accuracy of the picture net", "confidence of the picture net"
GAP = "accuracy on training less test pictures"
BETWEEN = "training less test"


@dataclass(frozen=True)
class Cases:
    """{net: {SEEN or UNSEEN: its case}}."""

    nets: Mapping[str, Mapping[str, Case]]


def open_cases(p: Mapping[str, Any]) -> Cases:
    """The nets, each with as many training as test pictures.

    Args:
        p: parameters `cifar_nets`, `photo_dataset`, `cifar_images`, `seed` and `max_batch` of the study.
    """
    dataset = p["photo_dataset"]
    own: dict[str, Any] = {"size": SIDE} if "size" in DATASETS[data_spec(dataset)[0]].parameters else {}
    asked = {"n": p["cifar_images"], "target": "label", "seed": p["seed"], "max_batch": p["max_batch"], "shard": 500}
    return Cases(
        {
            net: {label: open_case(net, {dataset: {"split": split, **own}}, **asked) for label, split in SPLITS.items()}
            for net in p["cifar_nets"]
        }
    )


@study_task(label="What a net answers, and how sure it is")
def case_answers(case: Case) -> dict[str, Tensor]:
    """The class with the largest logit and its probability, for each image.

    Returns:
        {"predicted": (n,) int64, "confidence": (n,) in [0, 1]}
    """
    found = compute.logits(case.model, case.inputs, max_batch=case.max_batch).softmax(1).max(1)
    return {"predicted": found.indices, "confidence": found.values.double()}


def works(p: Mapping[str, Any]) -> Stages:
    """Everything that is stored."""
    return [[work_of(case, case_answers) for cases in open_cases(p).nets.values() for case in cases.values()]]


def all_rows(cases: Cases, p: Mapping[str, Any]) -> pd.DataFrame:
    """Accuracy and confidence on both sets and on each class of the test pictures, and the gap between the sets.

    The gap pairs the k-th training with the k-th test picture. They are independent draws, so that the mean of the differences
    is the difference of the accuracies, and its interval is that of two independent samples.
    """
    frames = []
    for own in cases.nets.values():
        right = {label: right_answers(case) for label, case in own.items()}
        for label, case in own.items():
            light = without_pictures(case)
            frames.append(rows(light, label, ACCURACY, right[label]))
            frames.append(rows(light, label, CONFIDENCE, stored(case, case_answers)["confidence"]))
        unseen = without_pictures(own[UNSEEN])
        count = min(map(len, right.values()))
        frames.append(rows(unseen.first(count), BETWEEN, GAP, right[SEEN][:count] - right[UNSEEN][:count]))
        for k, name in enumerate(unseen.samples.class_names):
            inside = (unseen.samples.targets == k).numpy()
            if inside.any():
                frames.append(rows(_some(unseen, inside), name, ACCURACY, right[UNSEEN][inside]))
    return pd.concat(frames, ignore_index=True)


def right_answers(case: Case) -> np.ndarray:
    """(n,) 1.0 where the answer is the label, else 0.0."""
    return (stored(case, case_answers)["predicted"] == case.samples.targets).double().numpy()


def _some(case: Case, inside: np.ndarray) -> Case:
    chosen = np.flatnonzero(inside).tolist()
    return replace(case, samples=case.samples.subset(chosen), targets=case.targets[torch.from_numpy(inside)])


def used(cases: Cases) -> list[Case]:
    """The cases whose data and models the run records."""
    return [case for own in cases.nets.values() for case in own.values()]


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """One line per net: accuracy on test and training pictures, their difference, and the classes that it knows best and worst.

    Args:
        frame: rows of `all_rows`.

    Returns:
        Columns "net", UNSEEN, SEEN and BETWEEN (`Estimate`s), "best class" and "worst class".
    """
    lines = []
    for model, part in frame.groupby("model", sort=False):
        known = part[part.metric == ACCURACY]
        line: dict[str, Any] = {"net": model}
        line |= {label: stats.bootstrap_interval(known[known.method == label].value.to_numpy()) for label in (UNSEEN, SEEN)}
        line[BETWEEN] = stats.bootstrap_interval(part[part.metric == GAP].value.to_numpy())
        classes = known[~known.method.isin(SPLITS)].groupby("method", sort=False).value.mean().sort_values(kind="stable")
        for label, at in (("best class", -1), ("worst class", 0)):
            line[label] = f"{classes.index[at]} {plotting.number(classes.iloc[at])}"
        lines.append(line)
    return pd.DataFrame(lines)


def accuracies(frame: pd.DataFrame) -> None:
    """Show `table`."""
    made = table(frame)
    first = made[UNSEEN].iloc[0]
    plotting.table(
        made,
        caption=f"Accuracy of the picture nets with 95 % intervals over n = {first.n} pictures of each set; one training each.",
        name="picture-accuracy",
    )

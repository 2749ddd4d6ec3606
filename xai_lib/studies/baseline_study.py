"""What the study `baseline_study` computes, without its notebook: its cases, and its works in the order of their needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xai_lib.compendium.benchmark import Stages, Work
from xai_lib.compendium.experiments import work_of
from xai_lib.studies import baseline_choice, baseline_counts, baseline_quality
from xai_lib.studies.case import Case, open_case

SHOWN = ("black", "white", "blur", "uniform")
"""Baselines of the two photographs that are shown."""


@dataclass(frozen=True)
class Cases:
    """What is explained.

    images  the images of the study; `few` are those explained from many baselines, `fewer` those with the eight metrics
    digits  MNIST test digits for the small network
    photos  two photographs that may be shown
    """

    images: Case
    few: Case
    fewer: Case
    digits: Case
    photos: Case


def open_cases(p: Mapping[str, Any]) -> Cases:
    """The cases of a set of parameters of the study."""
    asked = {"target": p["target"], "seed": p["seed"], "max_batch": p["max_batch"]}
    large = {**asked, "size": p["size"]}
    images = open_case(p["model"], p["dataset"], n=p["n_images"], running_class=p["running_class"], shard=4, **large)
    digits = open_case("mnist_cnn", {"mnist_5k": {"split": "test"}}, n=p["n_digits"], prefix="digits: ", shard=25, **asked)
    photos = open_case(p["model"], {"photos": {"ids": ["chelsea", "coffee"]}}, n=2, **large)
    return Cases(images, images.first(p["n_many"]), images.first(p["n_metrics"]), digits, photos)


def metric_settings(p: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of `baseline_quality.table3`."""
    names = ("n_samples", "radius", "stages", "features_fraction", "reduce")
    return {"counts": p["metric_counts"], "steps": p["steps_per_baseline"], **{name: p[name] for name in names}}


def works(p: Mapping[str, Any]) -> Stages:
    """Everything that is stored: first maps and what needs no maps, then what is measured on them."""
    cases = open_cases(p)
    look = {"fraction": p["fraction"], "reduce": p["reduce"]}
    single = {"kinds": p["baselines"], "steps": p["steps"]}
    several = [
        (cases.few, p["random_baseline"], p["counts"]),
        *((cases.fewer, kind, p["metric_counts"]) for kind in p["other_random_baselines"]),
        (cases.digits, p["random_baseline"], p["counts"]),
    ]
    auto = {"tolerance": p["tolerance"], "max_baselines": p["max_baselines"]}
    steps = {"steps": p["steps_per_baseline"]}

    def nested(case: Case, kind: Any, counts: Any) -> Work:
        return work_of(case, baseline_counts.nested_maps, kind=kind, counts=counts, **steps)

    first = [
        work_of(cases.images, baseline_choice.single_maps, **single),
        work_of(cases.photos, baseline_choice.single_maps, kinds=list(SHOWN), steps=p["steps"]),
        *(nested(*one) for one in several),
        nested(cases.photos, p["random_baseline"], p["counts"]),
        work_of(cases.digits, baseline_counts.convergence_rows, kind=p["random_baseline"], **auto, **steps),
        *(
            work_of(case, baseline_quality.table3, kind=p["random_baseline"], **metric_settings(p))
            for case in (cases.fewer, cases.digits)
        ),
    ]
    second = [
        work_of(cases.images, baseline_choice.single_table, **single, **look),
        *(work_of(case, baseline_counts.count_rows, kind=k, counts=c, **steps, **look) for case, k, c in several),
    ]
    return [first, second]

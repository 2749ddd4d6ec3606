"""What the study `path_attribution` computes, without its notebook: its cases, and its works."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from xai_lib.compendium.benchmark import Stages, Work
from xai_lib.compendium.experiments import stored, work_of
from xai_lib.studies import path_costs, path_maps, path_mechanism, path_scores
from xai_lib.studies.case import OTHER, Case, open_case


@dataclass(frozen=True)
class Cases:
    """What is explained.

    images  the images of Table 1; `few` are those on which premises, removal values, the order without signs and Sensitivity-n
            are measured, so that their maps are kept; `rest` are the others, if any
    others  the same images under other depths of the network (Table 2)
    small   small images, one case for each small network (Table 3)
    varied  the first of them with fewer images, on which hyper-parameters are varied
    photos  what is shown: `few` where pictures may be shown, else one photograph
    """

    images: Case
    few: Case
    rest: Case | None
    others: tuple[Case, ...]
    small: tuple[Case, ...]
    varied: Case
    photos: Case


def open_cases(p: Mapping[str, Any]) -> Cases:
    """The cases of a set of parameters of the study."""
    asked = {"target": p["target"], "seed": p["seed"], "max_batch": p["max_batch"]}
    large = {**asked, "size": p["size"]}
    images = open_case(p["model"], p["dataset"], n=p["n_images"], **large)
    few = images.first(p["n_few"])
    others = tuple(open_case(name, p["dataset"], n=p["n_others"], prefix=OTHER, **large) for name in p["other_models"])
    small_set = {p["small_dataset"]: {"split": "test"}}
    small = tuple(open_case(name, small_set, n=p["n_small"], prefix="small: ", shard=50, **asked) for name in p["small_models"])
    shown = images.samples.redistributable
    photos = few if shown else open_case(p["model"], {"photos": {"ids": ["chelsea"]}}, n=1, **large)
    return Cases(images, few, after(images, len(few.samples)), others, small, small[0].first(p["n_settings"]), photos)


def after(case: Case, n: int) -> Case | None:
    """The same case without its first n samples; None where none is left."""
    left = range(n, len(case.samples))
    return replace(case, samples=case.samples.subset(left), targets=case.targets[n:]) if left else None


def search(p: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of Algorithm 1."""
    return {name: p[name] for name in ("eta", "epsilon", "delta", "max_iterations")}


def credible_settings(p: Mapping[str, Any], steps: str = "steps") -> dict[str, Any]:
    """Parameters of the credible method; `steps` names the parameter that holds their number."""
    return {"steps": p[steps], "sigmas": p["sigmas"], "search": search(p)}


def curve_settings(p: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of the insertion and deletion curves."""
    return {"points": "adaptive" if p["points"] == 0 else p["points"], "tolerance": p["tolerance"]}


def settings(p: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Of the maps of large images, of the maps of small ones, and of the curves."""
    return credible_settings(p), credible_settings(p, "steps_small"), curve_settings(p)


def sensitivity_settings(p: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of Sensitivity-n."""
    return {"fractions": p["fractions"], "n_subsets": p["n_subsets"]}


def table_one(cases: Cases, **own: Any) -> pd.DataFrame:
    """The rows of Table 1 for all images: for the few, whose maps are kept, and for the rest."""
    parts = [stored(case, path_scores.panel_rows, panel="full", keep=keep, **own) for case, keep in halves(cases)]
    return pd.concat(parts, ignore_index=True)


def halves(cases: Cases) -> list[tuple[Case, bool]]:
    """The images of Table 1, and whether their maps are kept."""
    return [(cases.few, True), *([(cases.rest, False)] if cases.rest else [])]


def works(p: Mapping[str, Any]) -> Stages:
    """Everything that is stored: the maps that several experiments need, then all else."""
    cases = open_cases(p)
    large, little, curves = settings(p)
    seen = [cases.few] if cases.photos is cases.few else [cases.few, cases.photos]

    def panel(case: Case, name: str, own: Mapping[str, Any], keep: bool = False) -> Work:
        return work_of(case, path_scores.panel_rows, panel=name, keep=keep, **own, **curves)

    return [
        [work_of(case, path_maps.kept_maps, panel="full", **large) for case in seen],
        [
            *(panel(case, "full", large, keep) for case, keep in halves(cases)),
            *(panel(case, "two", large) for case in cases.others),
            *(panel(case, "three", little) for case in cases.small),
            work_of(cases.few, path_mechanism.mechanism_rows, **large),
            work_of(cases.few, path_scores.confound_rows, **large, **curves),
            work_of(cases.few, path_scores.sensitivity_rows, **large, **sensitivity_settings(p)),
            work_of(cases.varied, path_scores.setting_rows, **little, **curves),
            work_of(cases.photos.first(1), path_costs.cost_rows, **large),
        ],
    ]

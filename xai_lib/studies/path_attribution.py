"""What the study `path_attribution` computes, without its notebook: its cases, and its works."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xai_lib.compendium.benchmark import Stages
from xai_lib.compendium.experiments import work_of
from xai_lib.studies import path_maps, path_mechanism, path_scores
from xai_lib.studies.case import Case, open_case


@dataclass(frozen=True)
class Cases:
    """What is explained.

    images  the images of Table 1; `few` are those on which premises, removal values and Sensitivity-n are measured
    others  the same images under other depths of the network (Table 2)
    small   small images, one case for each small network (Table 3)
    varied  the first of them with fewer images, on which hyper-parameters are varied
    photos  two photographs that may be shown
    """

    images: Case
    few: Case
    others: tuple[Case, ...]
    small: tuple[Case, ...]
    varied: Case
    photos: Case


def open_cases(p: Mapping[str, Any]) -> Cases:
    """The cases of a set of parameters of the study."""
    asked = {"target": p["target"], "seed": p["seed"], "max_batch": p["max_batch"]}
    images = open_case(p["model"], p["dataset"], n=p["n_images"], shard=2, **asked)
    others = tuple(open_case(name, p["dataset"], n=p["n_others"], shard=2, **asked) for name in p["other_models"])
    small_set = {p["small_dataset"]: {"split": "test"}}
    small = tuple(open_case(name, small_set, n=p["n_small"], prefix="small: ", shard=50, **asked) for name in p["small_models"])
    photos = open_case(p["model"], {"photos": {"ids": ["chelsea", "coffee"]}}, n=2, **asked)
    return Cases(images, images.first(p["n_few"]), others, small, small[0].first(p["n_settings"]), photos)


def search(p: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of Algorithm 1."""
    return {name: p[name] for name in ("eta", "epsilon", "delta", "max_iterations")}


def credible_settings(p: Mapping[str, Any], steps: str = "steps") -> dict[str, Any]:
    """Parameters of the credible method; `steps` names the parameter that holds their number."""
    return {"steps": p[steps], "sigmas": p["sigmas"], "search": search(p)}


def curve_settings(p: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of the insertion and deletion curves."""
    return {"points": "adaptive" if p["points"] == 0 else p["points"], "tolerance": p["tolerance"]}


def sensitivity_settings(p: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of Sensitivity-n."""
    return {"fractions": p["fractions"], "n_subsets": p["n_subsets"]}


def works(p: Mapping[str, Any]) -> Stages:
    """Everything that is stored; nothing needs anything else."""
    cases = open_cases(p)
    large, little = credible_settings(p), credible_settings(p, "steps_small")
    curves = curve_settings(p)
    return [
        [
            work_of(cases.photos, path_maps.shown_maps, panel="full", **large),
            work_of(cases.images, path_scores.panel_rows, panel="full", **large, **curves),
            *(work_of(case, path_scores.panel_rows, panel="two", **large, **curves) for case in cases.others),
            *(work_of(case, path_scores.panel_rows, panel="three", **little, **curves) for case in cases.small),
            work_of(cases.few, path_mechanism.mechanism_rows, **large),
            work_of(cases.few, path_scores.confound_rows, **large, **curves),
            work_of(cases.few, path_scores.sensitivity_rows, **large, **sensitivity_settings(p)),
            work_of(cases.varied, path_scores.setting_rows, **little, **curves),
        ]
    ]

"""Study `path_attribution`, part 6: what one map costs, method by method."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
from torch import Tensor

from xai_lib import baselines
from xai_lib.compendium.experiments import study_task
from xai_lib.studies import costs
from xai_lib.studies.case import Case, explainer
from xai_lib.studies.path_maps import CREDIBLE, away, searched, simple_methods


def contestants(steps: int, sigmas: Sequence[float], search: Mapping[str, Any]) -> dict[str, Callable[[Case], Tensor]]:
    """Every method and control of Table 1 by itself, with the parameters it has there.

    Left out is what asks the model for the same rows as another, the other readings of the credible method and its random
    check; and gradient x |x - x'|, which has one gradient more than |x - x'|.
    """
    own = {"n_baselines": len(sigmas), "steps": steps, "sigmas": tuple(sigmas), **search}
    methods = {**simple_methods(steps), CREDIBLE: ("credible_path_attribution", own), "random map": ("random_attribution", {})}
    methods["centre bump"] = ("centre_gaussian", {})

    def by_name(name: str, own: Mapping[str, Any]) -> Callable[[Case], Tensor]:
        return lambda case: explainer(case, name, **own)(case.model, case.inputs, case.targets)

    def apart(case: Case) -> Tensor:
        return away(case, [searched(case, "logit_l2", sigma, search) for sigma in sigmas])

    return {
        **{label: by_name(name, own) for label, (name, own) in methods.items()},
        "|x - mean|": lambda case: (case.inputs - baselines.average(case.inputs)).abs(),
        "|x - x'|": apart,
    }


@study_task(label="What a map costs")
def cost_rows(case: Case, *, steps: int, sigmas: Sequence[float], search: Mapping[str, Any]) -> pd.DataFrame:
    """Cost of each method, see `costs.rows_of`."""
    return costs.rows_of(case, contestants(steps, sigmas, search))

"""Study `case_studies`: its six parts under one name, what is stored, and what a run records."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import pandas as pd

from xai_lib.compendium import study
from xai_lib.compendium.benchmark import Stages
from xai_lib.studies import case_cifar as cifar
from xai_lib.studies import case_digits as digits
from xai_lib.studies import case_digits_figures as digits_figures
from xai_lib.studies import case_digits_rows as digits_rows
from xai_lib.studies import case_digits_tables as digits_tables
from xai_lib.studies import case_features as features
from xai_lib.studies import case_features_figures as features_figures
from xai_lib.studies import case_features_tables as features_tables
from xai_lib.studies import case_parts as parts
from xai_lib.studies import case_parts_figures as parts_figures
from xai_lib.studies import case_parts_pictures as parts_pictures
from xai_lib.studies import case_parts_tables as parts_tables
from xai_lib.studies import case_rotation as rotation
from xai_lib.studies import case_rotation_figures as rotation_figures
from xai_lib.studies import case_rotation_rows as rotation_rows
from xai_lib.studies import case_rotation_tables as rotation_tables
from xai_lib.studies import case_tabular as tabular
from xai_lib.studies import case_tabular_figures as tabular_figures
from xai_lib.studies import case_tabular_tables as tabular_tables
from xai_lib.studies.case import Case

PARTS = (tabular, digits, features, parts, rotation, cifar)
__all__ = ["PARTS", "cases_in", "cifar", "digits", "digits_figures", "digits_rows", "digits_tables", "features"]
__all__ += ["features_figures", "features_tables", "parts", "parts_figures", "parts_pictures", "parts_tables", "rotation"]
__all__ += ["rotation_figures", "rotation_rows", "rotation_tables", "save", "tabular", "tabular_figures"]
__all__ += ["tabular_tables", "works"]


def works(p: Mapping[str, Any]) -> Stages:
    """Everything that is stored; no part needs another."""
    return [[work for part in PARTS for stage in part.works(p) for work in stage]]


def save(p: Mapping[str, Any], opened: tuple[Any, ...], *frames: pd.DataFrame) -> pd.DataFrame:
    """Write the results of the run, with the data and the models of every part; see `study.save_results`.

    Args:
        p: parameters of the study.
        opened: what the parts opened, records that hold cases with their pictures.
        frames: rows of the parts.
    """
    cases, fitted = [*cases_in(opened), *cases_in(rotation.open_cases(p))], tabular.used(p)
    return study.save_results(
        pd.concat(frames),
        samples=[*(one.train for one in fitted), *(case.samples for case in cases)],
        models=[*(one.net for one in fitted), *(case.model for case in cases)],
    )


def cases_in(value: Any) -> Iterator[Case]:
    """Every case in a record, mapping, list or tuple."""
    if isinstance(value, Case):
        yield value
    elif is_dataclass(value):
        yield from (case for field in fields(value) for case in cases_in(getattr(value, field.name)))
    elif isinstance(value, Mapping):
        yield from (case for one in value.values() for case in cases_in(one))
    elif isinstance(value, list | tuple):
        yield from (case for one in value for case in cases_in(one))

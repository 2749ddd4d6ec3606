"""Cards of data sets and networks: terms, origin, training, accuracy, and the chapters that use them."""

import json
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from xai_lib.compendium.book_cells import yaml_value
from xai_lib.compendium.book_registry import entries, literal, source
from xai_lib.compendium.book_runs import Run
from xai_lib.compendium.book_words import code, interval, number, table
from xai_lib.errors import ConfigError

CHECKPOINTS = Path("data") / "checkpoints"
Studies = Mapping[str, Mapping[str, Any]]


def data_sets(keys: Container[str], studies: Studies, chapters: Mapping[str, Run]) -> str:
    """A card for each registered data set.

    Raises:
        ConfigError: a citation that the bibliography lacks.
    """
    parts = []
    for entry in entries("data_sets"):
        traits = entry.traits
        facts = {
            "Name": code(entry.name),
            "What it is": literal(entry.summary),
            "Source": source("data set", entry, keys),
            "Licence": literal(str(traits.get("licence", "–"))),
            "Shown in published pages": "yes" if traits.get("redistributable") else "no, maps and numbers only",
            "Comes": "with the project's packages" if traits.get("packaged") else "from your own copy, under `XAI_DATA`",
            "Used in": _used("data", entry.name, studies, chapters),
        }
        parts.append(_card(entry.label, facts))
    return "\n\n".join(parts)


def models(root: Path, keys: Container[str], studies: Studies, chapters: Mapping[str, Run]) -> str:
    """A card for each registered network; those that were trained here say how, and how well they do.

    Raises:
        ConfigError: a citation that the bibliography lacks, or a training card that cannot be read.
    """
    parts = []
    for entry in entries("models"):
        traits = entry.traits
        top = traits.get("top1_published")
        facts = {
            "Name": code(entry.name),
            "Source": source("model", entry, keys),
            "Input": " × ".join(map(str, traits.get("input", ()))) or "–",
            "Classes": f"{traits.get('classes', '–')} of {traits.get('dataset', '–')}",
            "Parameters": number(int(traits.get("parameters", 0))),
            "Accuracy its authors report": "–" if top is None else f"{100 * top:.1f} %",
            "Weights": "a file, or an allowed download" if traits.get("needs_weights") else "installed with the project",
            **_training(root / CHECKPOINTS / f"{entry.name}.json"),
            "Used in": _used("models", entry.name, studies, chapters),
        }
        parts.append(_card(entry.label, facts))
    return "\n\n".join(parts)


def _training(path: Path) -> dict[str, str]:
    """What the card beside a checkpoint says; nothing without one."""
    if not path.is_file():
        return {}
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        data, found = card["data"], card["accuracy"]
        return {
            "Made by": code(card["command"]),
            "Trained on": f"{number(data['n_train'])} of `{data['name']}`; {data['split']}",
            "Recipe": code(yaml_value(card["recipe"])),
            "Accuracy, training": _accuracy(found["train"]),
            "Accuracy, held out": _accuracy(found["held_out"]),
            "Weights (sha256)": code(card["sha256"]),
        }
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path.name}: no training card ({error!r}); make it again with the command in its code") from error


def _accuracy(found: Mapping[str, Any]) -> str:
    return f"{interval(found['value'], found['low'], found['high'])}, n = {found['n']}"


def _used(kind: str, name: str, studies: Studies, chapters: Mapping[str, Run]) -> str:
    """Links to the chapters whose published run recorded it."""
    links = [
        f"{{doc}}`{studies[study]['title']} </notebooks/{study}>`"
        for study, run in chapters.items()
        if any(one["name"] == name for one in run.record[kind])
    ]
    return "; ".join(links) or "no published run"


def _card(title: str, facts: Mapping[str, str]) -> str:
    return f"### {literal(title)}\n\n{table(['What', 'Value'], list(facts.items()))}"

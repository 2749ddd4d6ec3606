"""Cards: terms and origin of data, training and accuracy of networks, and the chapters that use them."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from xai_lib import data, models
from xai_lib.compendium import book_bibliography, book_cards
from xai_lib.errors import ConfigError

ROOT = Path(__file__).parents[1]
KEYS = book_bibliography.keys(ROOT / "book" / "references.bib")
STUDIES = {"one": {"title": "First"}, "two": {"title": "Second"}}


def runs() -> Any:
    one = {"data": [{"name": "photos"}, {"name": "mnist_5k"}, {"name": "mnist_5k"}], "models": [{"name": "mnist_cnn"}]}
    two = {"data": [{"name": "photos"}], "models": []}
    return {"one": SimpleNamespace(record=one), "two": SimpleNamespace(record=two)}


def card(text: str, name: str) -> str:
    return next(part for part in text.split("### ") if f"| Name | `{name}` |" in part)


def test_every_registered_data_set_and_network_has_a_card() -> None:
    sets, nets = book_cards.data_sets(KEYS, STUDIES, runs()), book_cards.models(ROOT, KEYS, STUDIES, runs())
    assert sets.count("| Name |") == len(data.DATASETS)
    assert nets.count("| Name |") == len(models.MODELS)


def test_a_data_card_names_terms_and_chapters() -> None:
    text = book_cards.data_sets(KEYS, STUDIES, runs())
    assert "| Used in | {doc}`First </notebooks/one>`; {doc}`Second </notebooks/two>` |" in card(text, "photos")
    assert "| Used in | {doc}`First </notebooks/one>` |" in card(text, "mnist_5k")
    assert "| Shown in published pages | yes |" in card(text, "mnist_5k")
    assert "| Shown in published pages | no, maps and numbers only |" in card(text, "imagenet")
    assert "| Used in | no published run |" in card(text, "imagenet")


def test_a_network_trained_here_says_how_and_how_well() -> None:
    found = json.loads((ROOT / "data" / "checkpoints" / "mnist_cnn.json").read_text())
    text = card(book_cards.models(ROOT, KEYS, STUDIES, runs()), "mnist_cnn")
    held = found["accuracy"]["held_out"]
    assert f"| Accuracy, held out | {held['value']:.3f} [{held['low']:.3f}, {held['high']:.3f}], n = {held['n']} |" in text
    assert f"| Made by | `{found['command']}` |" in text
    assert found["sha256"] in text
    assert "| Used in | {doc}`First </notebooks/one>` |" in text
    assert "Made by" not in card(book_cards.models(ROOT, KEYS, STUDIES, runs()), "efficientnet_lite0")


@pytest.mark.parametrize("text", ["not json", "{}", '{"data": 1, "accuracy": {}}'])
def test_a_damaged_training_card_is_named(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "data" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "mnist_cnn.json").write_text(text)
    with pytest.raises(ConfigError, match=r"mnist_cnn\.json: no training card"):
        book_cards.models(tmp_path, KEYS, STUDIES, runs())

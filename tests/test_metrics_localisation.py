"""Energy in box and pointing game: FIDELITY TV-41 and oracles."""

import numpy as np
import pytest
import torch

from xai_lib import METRICS
from xai_lib.errors import ConfigError, InputError
from xai_lib.metrics.localisation import box_masks


def one_hot(row, column, size=40):
    made = torch.zeros(1, 1, size, size)
    made[0, 0, row, column] = 1
    return made


def test_box_masks_are_exclusive_at_the_far_side():
    masks = box_masks((np.array([[1, 0, 3, 2]]),), torch.zeros(1, 3, 4))
    assert masks[0].int().tolist() == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def test_pointing_tolerance():  # TV-41: mask pixel (10, 10)
    box = (np.array([[10, 10, 11, 11]]),)
    game = METRICS.bind("pointing_game")
    assert game(one_hot(10, 24), box).item() == 1
    assert game(one_hot(10, 25), box).item() == 0
    assert METRICS.bind("pointing_game", tolerance=0)(one_hot(10, 10), box).item() == 1
    assert METRICS.bind("pointing_game", tolerance=0)(one_hot(10, 11), box).item() == 0
    with pytest.raises(ConfigError, match="tolerance"):
        METRICS.bind("pointing_game", tolerance=-1)(one_hot(1, 1), box)


def test_energy_counts_positive_mass_only():
    attributions = torch.tensor([[[[3.0, 1.0], [-5.0, 0.0]]]])
    assert METRICS.bind("energy_in_box")(attributions, (np.array([[0, 0, 1, 1]]),)).item() == 0.75
    assert METRICS.bind("energy_in_box")(attributions, (np.array([[0, 0, 2, 2]]),)).item() == 1


def test_a_constant_map_scores_the_share_of_the_area():
    boxes = (np.array([[0, 0, 10, 20], [5, 0, 10, 20]]),)
    made = METRICS.bind("energy_in_box")(torch.ones(1, 3, 20, 20), boxes)
    assert made.item() == pytest.approx(0.5)


def test_undefined_is_nan_and_missing_is_an_error():
    none = (np.zeros((0, 4)),)
    for name in ("energy_in_box", "pointing_game"):
        assert METRICS.bind(name)(one_hot(1, 1), none).isnan().all()
        with pytest.raises(InputError, match="boxes"):
            METRICS.bind(name)(one_hot(1, 1), ())
    assert METRICS.bind("energy_in_box")(-one_hot(1, 1), (np.array([[0, 0, 9, 9]]),)).isnan().all()

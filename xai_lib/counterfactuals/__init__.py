"""Counterfactuals: the smallest change of an image that changes the prediction (FIDELITY 6.8, E4.2).

perturbations    what changes: `rotation`, `cover_rows`, `brightness`, `noise`, each by one signed amount
search           `minimal_perturbation`, the smallest amount
predictions      `predictions` at given amounts, and the `transitions` between classes that they make
random_bounds    the protocol of document 004: a random draw at every bound
"""

from xai_lib.counterfactuals.perturbations import PERTURBATIONS, brightness, cover_rows, disc, first_turn, noise, rotation
from xai_lib.counterfactuals.predictions import predictions, transitions
from xai_lib.counterfactuals.random_bounds import RandomBounds, overshoot, random_bounds
from xai_lib.counterfactuals.search import Counterfactuals, minimal_perturbation

__all__ = [
    "PERTURBATIONS",
    "Counterfactuals",
    "RandomBounds",
    "brightness",
    "cover_rows",
    "disc",
    "first_turn",
    "minimal_perturbation",
    "noise",
    "overshoot",
    "predictions",
    "random_bounds",
    "rotation",
    "transitions",
]

"""Document 002, RemOve And Retrain: six scripts."""

import numpy as np
import torch

from xai_lib import METHODS, toys
from xai_lib.compendium.errata import Shown, erratum

ONES_OF_TEST = 1135
"""Digits "1" among the 10,000 of MNIST's test set."""
AT_70 = [79.6, 10.0, 78.0, 85.4, 24.6]
"""Accuracies of the five runs with Integrated Gradients at 70 % in the author's public record, in percent."""
GUIDED_AT_10 = [73.11683168, 72.99009901, 71.48118812, 73.27128713]
"""Accuracies of the four runs with Guided Backprop at 10 % there, in percent."""
TABLE_2 = {"random": [68.61, 63.63, 64.93, 62.19, 56.56], "Guided Backprop": [73.05, 71.75, 68.70, 64.01, 51.56]}


@erratum(
    "E2.4",
    "002",
    place="section 6.4, the author's code",
    here="The predicted class; the document's way beside it, and a net that sees holes alone.",
)
def leak() -> Shown:
    """Maps of test pictures are made for their true label. Where its pixels are removed, the holes say which label it was."""
    net = toys.linear([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    labels = torch.randint(0, 2, (1000,))
    pictures = torch.rand(1000, 4)  # know nothing of the label
    holes = METHODS.bind("gradient")(net, pictures, labels).abs() > 0
    read = holes[:, 2].long()
    return Shown(right=round((labels == 0).float().mean().item(), 1), found=(read == labels).float().mean().item())


@erratum(
    "E2.5",
    "002",
    place="the author's code",
    here="The mean of the training pictures, in pixel space; the document's way beside it.",
)
def saturated() -> Shown:
    """Normalised pictures are saved as pictures in between, so that all grey levels above 0.44 become white. One of 0.5:"""
    mean, std = 0.1307, 0.3081
    saved = np.clip((0.5 - mean) / std, 0, 1)
    return Shown(right=0.5, found=float(saved))


@erratum("E2.6", "002", place="Table 1, 90 %", here="Accuracy over all 10,000 digits; the document's way beside it.")
def constant_answer() -> Shown:
    """Accuracy is a mean over classes of truncated percentages. A net that always answers 1 then has exactly 10.00 %."""
    by_class = [100 if digit == 1 else 0 for digit in range(10)]
    return Shown(right=100 * ONES_OF_TEST / 10_000, found=float(np.mean(by_class)))


@erratum("E2.6 b", "002", place="section 6.3", here="Runs are shown one by one.")
def at_chance() -> Shown:
    """Two of five runs at 70 % are said to stay at chance."""
    return Shown(right=sum(value <= 10.0 for value in AT_70), found=2)


@erratum("E2.7", "002", place="Table 2", here="All runs.")
def two_of_four() -> Shown:
    """Means are said to be over four runs. That of Guided Backprop at 10 % is that of the first two."""
    printed = round(float(np.mean(GUIDED_AT_10[:2])), 2)
    return Shown(right=round(float(np.mean(GUIDED_AT_10)), 2), found=printed)


@erratum("E2.8", "002", place="section 6.4", here="Methods are compared at each share, with all seeds.")
def random_blocks_more() -> Shown:
    """Random removal is said to hurt more than the other methods. Of the five shares, against Guided Backprop:"""
    lower = sum(a < b for a, b in zip(*TABLE_2.values(), strict=True))
    return Shown(right=lower, found=len(TABLE_2["random"]))

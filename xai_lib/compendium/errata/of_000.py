"""Document 000, baselines of Integrated Gradients: four scripts."""

import torch

from xai_lib import METHODS, METRICS, toys
from xai_lib.compendium.errata import Shown, erratum

SMALLER, LARGER = -1, 1
TABLE_3 = {  # by metric: the printed direction, that of the text, and 1, 5, 10, 20, 50 baselines
    "Max Sensitivity": (LARGER, SMALLER, [0.029677952, 0.030191214, 0.028830782, 0.02802491, 0.027492214]),
    "Relative Output Stability": (SMALLER, SMALLER, [10.2584109, 9.44674807, 8.94581107, 11.96360426, 9.433153571]),
    "Local Lipschitz Estimate": (SMALLER, SMALLER, [0.360847613, 0.379447938, 0.372391622, 0.384525647, 0.357073711]),
    "Avg Sensitivity": (SMALLER, SMALLER, [0.02960295, 0.03005376, 0.02838973, 0.02848902, 0.02756846]),
    "Sparseness": (LARGER, LARGER, [0.58879829, 0.58849138, 0.58850471, 0.58924746, 0.58934905]),
    "Complexity": (SMALLER, SMALLER, [10.2111315, 10.2113134, 10.2093682, 10.2092548, 10.2090589]),
    "Faithfulness Estimate": (LARGER, LARGER, [-0.0112714, -0.0094008, -0.008943, -0.0201291, -0.0090146]),
    "Model Parameter Randomisation": (SMALLER, SMALLER, [0.30925385, 0.30886812, 0.316598, 0.31950475, 0.31962904]),
}
TABLE_2 = [0.95627075, 0.9535067, 0.97275734, 0.97275734, 0.97275734]


@erratum("E0.4", "000", place="Table 3", here="Smaller is better, as the text of section 3.2.2 and the metric's authors say.")
def direction() -> Shown:
    """The arrow of Max Sensitivity says that larger is better; a map that never changes then is the worst one."""
    x, target = torch.ones(1, 4), torch.zeros(1, dtype=torch.long)
    explain = METHODS.bind("gradient")
    stable, unstable = toys.linear([[1.0, 2.0, 3.0, 4.0]]), toys.square()
    change = [
        METRICS.bind("max_sensitivity")(
            model=net, inputs=x, targets=target, attributions=explain(net, x, target), method=explain
        ).item()
        for net in (stable, unstable)
    ]
    return Shown(right="smaller is better" if change[0] < change[1] else "larger is better", found="larger is better")


@erratum("E0.5", "000", place="Table 3", here="Both are taken over the same draws of the same images.")
def maximum_below_mean() -> Shown:
    """Max Sensitivity is below Avg Sensitivity at 20 and 50 baselines; a maximum is no less than the mean of the same draws."""
    greatest, average = TABLE_3["Max Sensitivity"][2], TABLE_3["Avg Sensitivity"][2]
    below = [n for n, a, b in zip([1, 5, 10, 20, 50], greatest, average, strict=True) if a < b]
    return Shown(right=[], found=below)


@erratum("E0.6", "000", place="section 4.5", here="Paired differences over images with their intervals, metric by metric.")
def almost_all() -> Shown:
    """Several baselines are said to outperform one for almost all metrics. Cells of the table where that is so:"""
    better = sum((value - row[0]) * arrow > 0 for arrow, _, row in TABLE_3.values() for value in row[1:])
    by_text = sum((value - row[0]) * side > 0 for _, side, row in TABLE_3.values() for value in row[1:])
    return Shown(right=f"{better} of 32 cells, {by_text} by the text's directions", found="almost all")


@erratum("E0.7", "000", place="Table 2", here="Hundreds of images instead of one.")
def one_below_several() -> Shown:
    """A single baseline is said to give less confidence than several; the printed table has one case of four the other way."""
    higher = sum(value > TABLE_2[0] for value in TABLE_2[1:])
    return Shown(right=f"{higher} of 4", found="4 of 4")

"""The experiments of `path_attribution` on toys: closed forms, controls, slow twins."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from xai_lib import METHODS, compute, toys
from xai_lib.compendium import study
from xai_lib.compendium.results import COLUMNS, checked
from xai_lib.errors import ConfigError
from xai_lib.metrics.insertion import Curve, perturbation_curves
from xai_lib.studies import path_examples, path_maps, path_mechanism, path_scores
from xai_lib.studies.case import Case, explainer, rows
from xai_lib.studies.path_maps import CREDIBLE, IG
from xai_lib.types import Samples

SEARCH = {"eta": 0.02, "epsilon": 0.05, "delta": 0.03, "max_iterations": 3}
OWN = {"steps": 6, "sigmas": [11.0, 34.0], "search": SEARCH}
CURVES = {"points": 5, "tolerance": 0.01}


def make(model: nn.Module, n: int = 4, side: int = 12) -> Case:
    inputs = torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(3))
    samples = Samples(
        inputs, torch.zeros(n, dtype=torch.int64), tuple("abcdefgh"[:n]), ("p", "q", "r", "s"), "toy", "CC0", True
    )
    model.name = "net"
    return Case(model, samples, compute.logits(model, inputs).argmax(1))


@pytest.fixture(scope="module")
def case() -> Case:
    return make(toys.TinyNet())


def game(case: Case, attributions: torch.Tensor, games: object, **own: object) -> list[Curve]:
    return perturbation_curves(case.model, case.inputs, case.targets, attributions, games, **own)


def of(frame: pd.DataFrame, metric: str, method: str) -> np.ndarray:
    return frame[(frame.metric == metric) & (frame.method == method)].value.to_numpy()


def test_examples_as_computed():  # FIDELITY section 2
    assert path_examples.example("example 1") == {
        "x^a = (1.5, 1.5)": pytest.approx((3, 4.5), abs=1e-3), "x^b = (4, 4)": pytest.approx((13, 7), abs=1e-3),
    }  # fmt: skip
    assert list(path_examples.example("example 2").values()) == [pytest.approx((-6, -1.5)), pytest.approx((4, 1))]


def test_rows_of_the_examples_show_what_the_claims_ask():
    frame = checked(path_examples.example_rows(n=40, seed=1))
    assert set(frame.columns) == set(COLUMNS)
    gap = of(frame, "example 1", "printed") - of(frame, "example 1", "computed")
    np.testing.assert_allclose(gap, [0.5, 2, 7, 12], atol=1e-3)
    np.testing.assert_allclose(of(frame, "example 2", "printed"), of(frame, "example 2", "computed"), atol=1e-6)
    assert of(frame, "ratio is 4", "baselines on the diagonal of x").tolist() == [1] * 40
    assert of(frame, "ratio is 4", "any baseline in the piece").mean() < 0.2


def test_errata_are_computed():
    table = path_examples.errata()
    said = dict(zip(table["where"] + ": " + table["printed"], table["computed here"], strict=True))
    text = json.dumps(said)
    for number in ("(3, 4.5), (13, 7)", "jumps by 1", "(8, 1)", "100 %", "0.75", "-0.50", "7.03 %", "6.1 %, 5.9 %, 1.3 %"):
        assert number in text
    assert "(1, 0, -0.25, 0) with the printed sign, (0, -0.75, 0, -0.5)" in text
    assert "sums to 1.49, the method to 0.15" in text  # TV-13: 1.493522 and 0.146891
    assert "never nearer than 0.20; steps on the distance itself come to 0.00" in text


def test_panels_hold_their_methods(case):
    full = path_maps.panel_maps(case, panel="full", **OWN).maps
    expected = {*path_maps.simple_methods(6), *path_maps.OURS, *path_maps.CONTROLS}
    expected |= {f"{a}, {b}" for a in ("one desired baseline", "black baseline") for b in ("check", "no check")}
    assert set(full) == expected
    assert all(a.shape == case.inputs.shape and bool(torch.isfinite(a).all()) for a in full.values())
    assert set(path_maps.panel_maps(case, panel="two", **OWN).maps) == {IG, CREDIBLE, "|x - x'|", "random map"}
    with pytest.raises(ConfigError, match="panel='four'"):
        path_maps.panel_maps(case, panel="four", **OWN)


def test_maps_of_a_panel_are_those_of_the_methods(case):
    made = path_maps.panel_maps(case, panel="full", **OWN).maps
    request = (case.model, case.inputs, case.targets)
    plain = explainer(case, "integrated_gradients", steps=6)(*request)
    torch.testing.assert_close(made[IG], plain)
    own = {"steps": 6, "n_baselines": 2, "sigmas": (11.0, 34.0), **SEARCH}
    for label, variant in path_maps.OURS.items():
        torch.testing.assert_close(made[label], explainer(case, "credible_path_attribution", **own, **variant)(*request))
    black = {"baseline": "black", "n_baselines": 1, "steps": 6}
    checked_one = explainer(case, "credible_path_attribution", **black)(*request)
    torch.testing.assert_close(made["black baseline, check"], checked_one)
    away = path_maps.credible(case, {CREDIBLE: {}}, **own)[CREDIBLE].found
    distance = sum((case.inputs - one.baselines).abs() for one in away) / 2
    torch.testing.assert_close(made["|x - x'|"], distance)
    gradient = METHODS.bind("gradient")(*request)
    torch.testing.assert_close(made["gradient x |x - x'|"], gradient * distance)


def test_the_unchecked_desired_baseline_is_complete_up_to_its_nodes(case):
    start = path_maps.searched(case, "logit_l2", 34.0, SEARCH).baselines
    own = {"baseline": lambda _: start, "n_baselines": 1, "steps": 2000}
    made = path_maps.credible(case, {"": path_maps.UNCHECKED}, **own)[""].attributions
    change = compute.scores(case.model, case.inputs, case.targets) - compute.scores(case.model, start, case.targets)
    torch.testing.assert_close(made.flatten(1).sum(1), change, atol=0.05 * float(change.abs().max()), rtol=0.1)
    panel = path_maps.panel_maps(case, panel="full", **OWN)
    start = panel.found[1].baselines
    made = path_maps.credible(case, {"": path_maps.UNCHECKED}, **{**own, "steps": 6})[""].attributions
    torch.testing.assert_close(panel.maps["one desired baseline, no check"], made)


def test_panel_rows_are_the_areas_of_the_curves(case):
    frame = checked(path_scores.panel_rows(case, panel="two", keep=False, **OWN, **CURVES))
    attributions = path_maps.panel_maps(case, panel="two", **OWN).maps
    for label in (IG, CREDIBLE, "|x - x'|", "random map"):
        insertion, deletion = game(case, attributions[label], path_scores.GAMES, **CURVES)
        np.testing.assert_allclose(of(frame, "insertion", label), insertion.auc, atol=1e-6)
        np.testing.assert_allclose(of(frame, path_scores.GAME, label), insertion.auc - deletion.auc, atol=1e-6)
    probability = case.model(case.inputs).softmax(1).gather(1, case.targets[:, None])[:, 0]
    np.testing.assert_allclose(of(frame, "confidence", "image"), probability, atol=1e-6)
    assert not len(of(frame, f"{path_scores.GAME}_abs", IG))


@pytest.mark.parametrize("keep", [True, False])
def test_the_absolute_order_is_that_of_absolute_values(case, keep):
    frame = checked(path_scores.panel_rows(case, panel="full", keep=keep, **OWN, **CURVES))
    attributions = path_maps.panel_maps(case, panel="full", **OWN).maps
    metric = f"{path_scores.GAME}_abs"
    assert set(frame[frame.metric == metric].method) == (set(attributions) if keep else {IG, CREDIBLE})
    for label in set(frame[frame.metric == metric].method):
        absolute = torch.zeros_like(case.inputs)
        absolute[:, 0] = attributions[label].sum(1).abs()
        insertion, deletion = game(case, absolute, path_scores.GAMES, **CURVES)
        np.testing.assert_allclose(of(frame, metric, label), insertion.auc - deletion.auc, atol=1e-6)
    assert not np.allclose(of(frame, metric, IG), of(frame, path_scores.GAME, IG))


def test_association_is_spearman(case):
    frame = rows(case, "image", "confidence", np.array([0.2, 0.9, 0.4, 0.5]))
    values = np.array([3.0, 1.0, 2.0, 2.5])
    made = path_scores.association(case, frame, {"score": values})
    assert made.method.unique().tolist() == ["score, with confidence"]
    assert made.value.mean() == pytest.approx(spearmanr([0.2, 0.9, 0.4, 0.5], values).statistic)


def test_gain_is_that_over_integrated_gradients(case):
    values = {"image": [0.2, 0.9, 0.4, 0.5], IG: [1.0, 2.0, 0.0, 3.0], CREDIBLE: [2.0, 2.5, 3.0, 3.1]}
    values["random map"] = [0.1, 0.4, 0.3, 0.2]
    frame = pd.concat(
        [rows(case, k, "confidence" if k == "image" else path_scores.GAME, np.array(v)) for k, v in values.items()]
    )
    made = path_scores.gain_and_confidence(case, frame)
    gain = of(made, "rank_product", "gain of credible, with confidence").mean()
    assert gain == pytest.approx(spearmanr(values["image"], np.subtract(values[CREDIBLE], values[IG])).statistic)
    control = of(made, "rank_product", "random map, with confidence").mean()
    assert control == pytest.approx(spearmanr(values["image"], values["random map"]).statistic)


def test_published_scores_by_network():
    found = path_scores.by_network(study.load("path_attribution"), "B5")
    assert set(found) == {"ResNet-50", "DenseNet-121", "VGG-16"}
    assert found["VGG-16"] == {
        IG: 0.2532, "IG, Gaussian noise": 0.1609, "IG, average": 0.3387, "AGI, official code": 0.2419,
        "EG, 3 references": 0.2727, CREDIBLE: 0.4023,
    }  # fmt: skip


def test_order_rows_compare_with_the_published_order(case):
    scores = {"a": [1.0, 3.0, 1.0, 0.0], "b": [2.0, 2.0, 3.0, 0.0], "c": [3.0, 1.0, 2.0, np.nan]}
    frame = pd.concat([rows(case, label, path_scores.GAME, np.array(v)) for label, v in scores.items()])
    made = path_scores.order_rows(case, frame, {"a": 0.1, "b": 0.2, "c": 0.3}).value.to_numpy()
    np.testing.assert_allclose(made[:3], [1, -1, 0.5], atol=1e-12)
    assert np.isnan(made[3])


def test_confounds_cross_every_map_with_every_removal(case):
    frame = checked(path_scores.confound_rows(case, **OWN, **CURVES))
    labels = [
        f"{m} | {r}" for m in ("IG, black", "IG, average", "IG, blur", CREDIBLE, "random map") for r in path_scores.REMOVALS
    ]
    assert frame.method.unique().tolist() == labels
    plain = explainer(case, "integrated_gradients", baseline="average", steps=6)(case.model, case.inputs, case.targets)
    insertion, deletion = game(case, plain, [("insertion", "black"), ("deletion", "black")], **CURVES)
    np.testing.assert_allclose(
        of(frame, f"{path_scores.GAME} by removal", "IG, average | black"), insertion.auc - deletion.auc, atol=1e-6
    )


def test_sensitivity_of_a_linear_model_is_one_for_complete_maps():  # TV-35
    weights = torch.randn(2, 3 * 12 * 12, generator=torch.Generator().manual_seed(0))
    case = make(toys.linear(weights))
    frame = checked(path_scores.sensitivity_rows(case, **OWN, fractions=[0.1, 0.5], n_subsets=12))
    np.testing.assert_allclose(of(frame, path_scores.SN, IG), 1, atol=1e-4)
    np.testing.assert_allclose(of(frame, f"{path_scores.SN}, average", "IG, average"), 1, atol=1e-4)
    assert np.abs(of(frame, path_scores.SN, "random map")).max() < 0.9
    np.testing.assert_allclose(of(frame, f"{path_scores.SN} at 0.1", IG), 1, atol=1e-4)


def test_settings_change_one_thing_at_a_time(case):
    frame = checked(path_scores.setting_rows(case, **OWN, **CURVES))
    labels = frame[frame.metric == path_scores.GAME].method.tolist()
    assert len(set(labels)) == 9
    other = {**SEARCH, "delta": 0.075}
    changed = path_maps.credible(case, {CREDIBLE: {}}, n_baselines=2, steps=6, sigmas=[11.0, 34.0], **other)
    insertion, deletion = game(case, changed[CREDIBLE].attributions, path_scores.GAMES, **CURVES)
    np.testing.assert_allclose(of(frame, path_scores.GAME, "credible, delta x 2.5"), insertion.auc - deletion.auc, atol=1e-6)
    assert set(frame[frame.metric == "seed_agreement"].method) == {"credible, 2 baselines", "credible, 1 baseline"}
    assert (of(frame, "seed_agreement", "credible, 1 baseline") < 1).all()


def test_premises_are_measured(case):
    frame = checked(path_mechanism.mechanism_rows(case, **OWN))
    found = path_maps.searched(case, "cross_entropy", 34.0, SEARCH)
    np.testing.assert_allclose(
        of(frame, "distance_ratio", "cross_entropy, sigma 34"), found.distance / found.start_distance, rtol=1e-5
    )
    both = [of(frame, "distance_ratio", f"logit_l2, sigma {s}") for s in (11, 34)]
    np.testing.assert_allclose(of(frame, "distance_ratio", "logit_l2"), np.mean(both, axis=0))
    assert of(frame, "gradient_passes", IG).tolist() == [6] * 4
    passes = of(frame, "gradient_passes", CREDIBLE)
    assert ((passes >= 1 + 6 + 2) & (passes <= 1 + 6 + 2 * 4)).all()
    np.testing.assert_allclose(of(frame, "passes_over_ig", CREDIBLE), passes / 6)
    accepted = {r: of(frame, "accepted", f"reading {r} at 0.5") for r in ("B", "Brev")}
    same = of(frame, "sign_agreement", "at 0.5")
    np.testing.assert_allclose(accepted["B"] + accepted["Brev"], same, atol=1e-6)  # equal signs: smaller or larger
    assert of(frame, "gradient_norm", "mean of the line").tolist() == [1] * 4
    pieces = frame[frame.metric == "units_in_another_piece"]
    assert pieces.value.isna().all()  # GELU has no pieces
    assert set(pieces.flag) == {"no ReLU or ReLU6"}


def test_completeness_error_of_a_linear_model():
    case = make(toys.linear(torch.randn(2, 3 * 12 * 12, generator=torch.Generator().manual_seed(0))))
    frame = path_mechanism.axioms(case, path_maps.panel_maps(case, panel="two", **OWN), steps=6)
    np.testing.assert_allclose(of(frame, "completeness_error", IG), 0, atol=1e-4)
    assert (of(frame, "completeness_error", CREDIBLE) > 0.01).all()


class Pieces(nn.Module):
    """Twelve ReLU units and twelve ReLU6 units: unit i of both sees channel value i, shifted and scaled."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = nn.ReLU(), nn.ReLU6()
        self.eval()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        flat = inputs.flatten(1)
        out = self.low(flat - 0.5).sum(1) + self.high(10 * flat - 2).sum(1)
        return torch.stack([out, -out], 1)


def test_pieces_are_counted_unit_by_unit():
    case = make(Pieces(), n=2, side=2)
    start = case.inputs.clone()
    start[0, 0, 0, 0] = 0.9 if case.inputs[0, 0, 0, 0] < 0.5 else 0.1
    brighter = (case.inputs + 0.4).clamp(0, 1)  # units of ReLU6 pass from the middle to the top
    starts = {"moved": start, "brighter": brighter, "black": 0 * case.inputs}
    frame = path_mechanism.cells(case, {"same": case.inputs, **starts})
    assert of(frame, "units_in_another_piece", "same").tolist() == [0, 0]

    def piece(v: float) -> tuple[bool, int]:
        return v > 0.5, (v > 0.2) + (v >= 0.8)

    def share(x: torch.Tensor, y: torch.Tensor) -> float:
        pairs = [(piece(a), piece(b)) for a, b in zip(x.flatten().tolist(), y.flatten().tolist(), strict=True)]
        return sum((p[0] != q[0]) + (p[1] != q[1]) for p, q in pairs) / 24

    for label, other in starts.items():
        expected = [share(case.inputs[i], other[i]) for i in range(2)]
        assert of(frame, "units_in_another_piece", label).tolist() == pytest.approx(expected)
    assert of(frame, "units_in_another_piece", "moved")[0] > 0


def test_saturation_is_seen():
    """f = 1 - relu(1 - m), m four times the mean: the gradient ends where m passes 1."""
    case = make(toys.Formula(lambda x: 1 - torch.relu(1 - 4 * x.flatten(1).mean(1))))
    frame = path_mechanism.saturation(case)
    assert of(frame, "gradient_norm", "at the image").tolist() == [0] * 4
    assert (of(frame, "gradient_norm", "at 0.05") > 1).all()

"""Part features of the study case_studies: densities, first weights, accuracies, tables and figures."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from xai_lib import data, features, models, stats
from xai_lib.compendium.results import COLUMNS
from xai_lib.methods.gradient import gradient
from xai_lib.models import digit_nets
from xai_lib.plotting import output
from xai_lib.studies import case_features as part
from xai_lib.studies import case_features_figures as figures
from xai_lib.studies import case_features_tables as tables

P = {"digits": "mnist_5k", "n_features": 12, "n_untrained": 2, "n_accuracy": 40, "seed": 0, "max_batch": 0}


@pytest.fixture(scope="module")
def digits():
    return part.open_digits(P)


@pytest.fixture(scope="module")
def frame(digits):
    return part.density_rows(digits, P)


def values(table, metric, method):
    own = table[(table.metric == metric) & (table.method == method)]
    return own.set_index("sample").value


# --- density ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 36), (2, 1, 6, 6)])
def test_density_of_a_uniform_saliency_is_one(shape):
    inside = torch.arange(72).reshape(shape) % 5 == 0
    torch.testing.assert_close(part.density(torch.full(shape, -3.0), inside), torch.ones(2))


def test_density_is_share_over_share():
    saliency = torch.tensor([[4.0, -1.0, 1.0, 2.0]])
    inside = torch.tensor([[True, False, False, False]])
    assert part.density(saliency, inside).item() == pytest.approx((4 / 8) / (1 / 4))
    scored = part._scores(saliency, inside, torch.tensor([[9.0, 1.0, 2.0, 5.0]]))
    assert scored[part.ABSENT].item() == pytest.approx(2 / 3)
    assert scored[part.RATIO].item() == pytest.approx(2 / (2 / 3))
    assert scored[part.SHARE].item() == pytest.approx(4 / 8)
    assert scored[part.WITH_VALUE].item() == pytest.approx(np.corrcoef([4, 1.5, 1.5, 3], [4, 1, 2, 3])[0, 1])


def test_a_digit_without_absent_features_is_undefined():
    scored = part._scores(torch.ones(1, 4), torch.ones(1, 4, dtype=torch.bool), torch.arange(4.0)[None])
    assert scored[part.PRESENT].item() == 1
    assert scored[part.ABSENT].isnan()
    assert scored[part.RATIO].isnan()


def test_rows_are_densities_of_the_gradient(digits, frame):
    assert set(COLUMNS) >= set(frame.columns)
    for short, name in part.NETS.items():
        case = digits.cases[short]
        assert case.model.name == name
        assert torch.equal(case.inputs, features.FEATURES[digit_nets.READS[name]](digits.pixels.inputs))
        made = gradient(case.model, case.inputs, case.targets).abs().flatten(1).double()
        there = features.present(digits.pixels.inputs, digit_nets.READS[name]).flatten(1)
        for k, sample in enumerate(digits.pixels.ids):
            on, off = made[k][there[k]].mean() / made[k].mean(), made[k][~there[k]].mean() / made[k].mean()
            assert values(frame, part.PRESENT, f"{short}, trained")[sample] == pytest.approx(on.item(), rel=1e-5)
            assert values(frame, part.ABSENT, f"{short}, trained")[sample] == pytest.approx(off.item(), rel=1e-5)
            assert values(frame, part.RATIO, f"{short}, trained")[sample] == pytest.approx((on / off).item(), rel=1e-5)
            assert values(frame, part.COUNT, short)[sample] == pytest.approx(1 - there[k].double().mean().item())


def test_untrained_rows_are_means_over_nets(digits, frame):
    case, there = digits.cases["LBP"], features.present(digits.pixels.inputs, "lbp")
    nets = [digit_nets.untrained("mnist_lbp_mlp", seed=seed) for seed in (1, 2)]
    each = [part.density(gradient(net, case.inputs, case.targets), there) for net in nets]
    assert not torch.allclose(*each)
    got = values(frame, part.PRESENT, "LBP, untrained")[list(digits.pixels.ids)]
    np.testing.assert_allclose(got, torch.stack(each).mean(0), rtol=1e-5)


def test_a_digit_s_rows_depend_on_the_digit_alone(digits, frame):
    few = replace(
        digits,
        pixels=digits.pixels.subset([7, 2]),
        cases={
            k: replace(case, samples=case.samples.subset([7, 2]), targets=case.targets[[7, 2]])
            for k, case in digits.cases.items()
        },
    )
    again = part.density_rows(few, P)
    parts = again[~again.method.str.contains(part.ELSEWHERE) & ~again.method.str.contains(part.NEVER)]
    key = ["metric", "method", "sample"]
    both = parts.merge(frame, on=key, suffixes=("", "_all"))
    assert len(both) == len(parts) > 20
    np.testing.assert_allclose(both.value, both.value_all, rtol=1e-5)


# --- what is left of the first weights ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("short", part.NETS)
def test_first_weights_maps_are_gradients(digits, short):
    case = digits.cases[short]
    own, first = part.first_weights_maps(case)
    signed = gradient(case.model, case.inputs, case.targets).flatten(1)
    torch.testing.assert_close(own, signed)
    start = digit_nets.build(case.model.name, seed=0)
    active = case.model.network.fc1(case.inputs.flatten(1)) > 0
    k, t = 3, int(case.targets[3])
    by_hand = sum(case.model.network.fc2.weight[t, h] * start.fc1.weight[h] for h in range(12) if active[k, h])
    torch.testing.assert_close(first[k], by_hand)


def test_what_no_digit_has_is_never_learnt(digits):
    """Where no digit has ink, training moved all first weights of a hidden unit alike: the noise of the start is kept."""
    case = digits.cases["LBP"]
    never = ~(data.load("mnist_5k").inputs > 0).any(0).flatten()
    net, start = case.model.network, digit_nets.build("mnist_lbp_mlp", seed=0)
    moved = (net.fc1.weight - start.fc1.weight).detach()
    learnt = moved.abs().sum(1) > 0  # a unit that is never on learns nothing at all
    spread = moved[learnt][:, never].std(1) / moved[learnt][:, ~never].std(1)
    assert (int(never.sum()) > 100, int(learnt.sum())) == (True, 11)
    assert spread.max() < 0.1


def test_absent_pixels_are_split_by_whether_other_digits_have_ink_there(digits):
    there = features.present(digits.pixels.inputs, "lbp")
    split = part.absent_sets(there, digits.pixels, P)
    elsewhere, never = split[f"LBP, {part.ELSEWHERE}"], split[f"LBP, {part.NEVER}"]
    assert torch.equal(elsewhere ^ never, ~there)
    assert not (elsewhere & never).any()
    assert never[:, 0, 0, 0].all()  # the corner
    assert not never[:, 0, 10:18, 10:18].any()


# --- places and kinds ---------------------------------------------------------------------------------------------------------


def test_places_are_shares_of_the_saliency(digits):
    saliency, edges = part.place_means(digits, P)
    case = digits.cases["HOG"]
    by_hand = torch.stack([row / row.sum() for row in gradient(case.model, case.inputs, case.targets).abs()]).mean(0) * 36
    torch.testing.assert_close(saliency, by_hand)
    torch.testing.assert_close(edges, 36 * case.inputs.mean(0), rtol=1e-3, atol=1e-3)
    assert saliency.mean().item() == pytest.approx(1, abs=1e-5)


def test_kinds_share_the_pixels_among_them(digits):
    table = part.kind_rows(digits, P)
    shares = table[table.metric == part.PIXELS].groupby("sample").value.sum()
    np.testing.assert_allclose(shares, 1)
    codes = features.lbp_codes(digits.pixels.inputs[:1])
    flat = values(table, part.PIXELS, "flat or hole")[digits.pixels.ids[0]]
    assert flat == pytest.approx((codes == 24).double().mean().item())
    # shares times densities add up to the whole map
    for which in ("trained", "untrained"):
        whole = 0.0
        for kind in dict.fromkeys(table[table.metric == part.PIXELS].method):
            density = values(table, part.KIND, f"{kind}, {which}").fillna(0)
            whole = whole + density * values(table, part.PIXELS, kind)
        np.testing.assert_allclose(whole, 1, rtol=1e-5)


# --- accuracies ---------------------------------------------------------------------------------------------------------------


def test_gap_is_the_card_minus_the_digits():
    table = part.accuracy_rows(P)
    for name in digit_nets.NAMES:
        label = part.short_name(name)
        right = values(table, part.ACCURACY, label)
        assert set(right) <= {0.0, 1.0}
        assert len(right) == 40
        gap = values(table, part.GAP, label)
        assert gap.mean() == pytest.approx(part.card_of(name)["accuracy"]["train"]["value"] - right.mean())
        assert len(values(table, part.ACCURACY, f"{label}, training digits")) == 40
    pixels = data.load("mnist_5k", split="test", n=40, seed=0)
    said = models.load("mnist_sigmoid_cnn")(pixels.inputs).argmax(1)
    assert values(table, part.ACCURACY, "CNN")[list(pixels.ids)].tolist() == (said == pixels.targets).double().tolist()


# --- what the notebook shows --------------------------------------------------------------------------------------------------


@pytest.fixture
def shown(monkeypatch):
    found = []
    monkeypatch.setattr(output, "display", lambda content, raw, metadata: found.append((content, metadata["xai"])))
    return found


def test_examples_are_the_documents_digits(digits):
    for short, labels in part.SHOWN.items():
        pixels = digits.examples[short]
        assert tuple(pixels.targets.tolist()) == labels
        assert pixels.redistributable
    whole = data.load("mnist_5k", split="test")
    zeros = [name for name, label in zip(whole.ids, whole.targets.tolist(), strict=True) if label == 0]
    assert digits.examples["LBP"].ids[0] == zeros[part.FIRST]  # the packaged test digits begin with the zeros


@pytest.mark.slow
def test_figures_and_tables(digits, frame, shown):
    figures.hog_figure(digits)
    figures.lbp_figure(digits)
    figures.densities(frame)
    figures.places(digits, P)
    tables.kinds(part.kind_rows(digits, P))
    tables.accuracies(part.accuracy_rows(P))
    names = [words["name"] for _, words in shown]
    assert names == ["hog-saliency", "lbp-saliency", "feature-density", "hog-places", "lbp-kinds", "digit-accuracy"]
    inside = stats.bootstrap_interval(frame[(frame.metric == part.PRESENT) & (frame.method == "HOG, trained")].value.to_numpy())
    assert f"HOG {inside.value:.3g} on present" in shown[2][1]["alt"]
    text = shown[-1][0]["text/markdown"]
    assert "36 HOG features" in text
    assert "n = 40 digits" in text
    assert all(f"| {part.short_name(name)} |" in text for name in digit_nets.NAMES)


def test_nothing_is_stored():
    assert part.works(P) == []


def test_examples_are_packaged_where_digits_may_not_be_shown(monkeypatch):
    real = data.load

    def load(name, **asked):
        samples = real("mnist_5k", **asked)
        return replace(samples, name="mnist", redistributable=False) if name == "mnist" else samples

    monkeypatch.setattr(part, "data", SimpleNamespace(load=load))
    found = part.open_digits({**P, "digits": "mnist"})
    assert not found.pixels.redistributable
    assert all(one.redistributable for one in found.examples.values())
    assert isinstance(part.density_rows(found, P), pd.DataFrame)

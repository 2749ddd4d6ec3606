"""Lesson `foundations_gradients`: closed forms of toys, slow twins in plain loops, and what the page says about methods."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from xai_lib import METHODS, METRICS, compute, data, toys
from xai_lib.compendium import study
from xai_lib.randomness import per_image
from xai_lib.studies import foundations_gradients as lesson
from xai_lib.studies import foundations_gradients_noise as noise
from xai_lib.studies.case import Case, open_case
from xai_lib.types import Samples

T0 = torch.zeros(1, dtype=torch.int64)


def toy_case(model, inputs, name="toy"):
    n = len(inputs)
    ids = tuple(f"t{i}" for i in range(n))
    samples = Samples(inputs, torch.zeros(n, dtype=torch.int64), ids, ("zero", "one"), name, "ours", True)
    return Case(model, samples, torch.zeros(n, dtype=torch.int64))


@pytest.fixture(scope="module")
def digits():
    return open_case("mnist_cnn", {"mnist_5k": {"split": "test"}}, n=4, seed=0)


def one(frame, metric, method):
    (value,) = frame[(frame.metric == metric) & (frame.method == method)].value
    return value


# --- the line ---------------------------------------------------------------------------------------------------------


def test_the_line_of_a_saturating_score_is_known():
    case = toy_case(toys.saturation(), torch.tensor([[2.0]], dtype=torch.float64))
    made = lesson.line(case, [0.25, 0.75])
    assert made.positions.tolist() == [0.0, 0.25, 0.75, 1.0]
    assert made.scores.tolist() == [[0.0, 0.5, 1.0, 1.0]]
    assert made.slopes.tolist() == [[2.0, 2.0, 0.0, 0.0]]
    assert np.isnan(made.cosines).all()  # the gradient at the image is zero
    assert made.change.tolist() == [1.0]
    assert made.at([0.75, 0.0]).tolist() == [2, 0]


def test_the_line_starts_at_its_baseline_and_compares_with_the_last_gradient():
    case = toy_case(toys.product(), torch.tensor([[2.0, 3.0], [1.0, -1.0]], dtype=torch.float64))
    made = lesson.line(case, [0.5], baseline="white")
    for row, x in enumerate(case.inputs):
        for column, a in enumerate((0.0, 0.5, 1.0)):
            point = 1 + a * (x - 1)
            gradient, last = point.flip(0), x.flip(0)
            assert made.scores[row, column] == pytest.approx(float(point.prod()))
            assert made.slopes[row, column] == pytest.approx(float(((x - 1) * gradient).sum()))
            assert made.cosines[row, column] == pytest.approx(float(gradient @ last / gradient.norm() / last.norm()))


def test_saturation_is_read_off_the_end_of_the_line():
    case = toy_case(toys.half_square([1.0]), torch.tensor([[1.0]], dtype=torch.float64))
    frame = lesson.local_rows(case, lesson.drawn_lines([case])[0])
    assert one(frame, lesson.SLOPE, "line from black") == pytest.approx(2)  # 2 a at a = 1, its mean is 1
    assert one(frame, lesson.RISE, "line from black") == pytest.approx(1 - 0.75**2)
    assert one(frame, lesson.REACHED, "at 0.0625") == pytest.approx(1 / 256)
    assert one(frame, lesson.REACHED, "at 0.25") == pytest.approx(1 / 16)
    drawn = float(per_image(case.inputs, 0, "foundations_gradients", lambda x, g: torch.randn(x.shape, generator=g)))
    for sigma in lesson.NOISES:
        assert one(frame, lesson.MOVED, f"noise {sigma:g}") == pytest.approx(abs((1 + sigma * drawn) ** 2 - 1))
    flat = toy_case(toys.linear([[2.0, -1.0]]), torch.rand(3, 2, generator=torch.Generator().manual_seed(0)))
    linear = lesson.local_rows(flat, lesson.drawn_lines([flat])[0])
    assert np.allclose(linear[linear.metric.isin([lesson.COSINE, lesson.TURNED, lesson.SLOPE])].value, 1, atol=1e-4)
    assert np.allclose(linear[linear.metric == lesson.RISE].value, 0.25, atol=1e-5)
    for a in lesson.EARLY:
        own = linear[(linear.metric == lesson.REACHED) & (linear.method == f"at {a:g}")].value
        assert np.allclose(own, a, atol=1e-5)
        assert len(own) == 3


@pytest.mark.parametrize(("x", "early", "quarter"), [(2.0, 0.125, 0.5), (8.0, 0.5, 1.0), (32.0, 1.0, 1.0)])
def test_the_share_of_the_rise_that_is_reached_is_known_for_a_saturating_score(x, early, quarter):
    """f = min(x, 1) on [0, x]: min(a x, 1)."""
    case = toy_case(toys.saturation(), torch.tensor([[x]], dtype=torch.float64))
    frame = lesson.local_rows(case, lesson.drawn_lines([case])[0])
    assert one(frame, lesson.REACHED, "at 0.0625") == pytest.approx(early)
    assert one(frame, lesson.REACHED, "at 0.25") == pytest.approx(quarter)


def test_noise_belongs_to_the_image_and_grows_with_sigma(digits):
    whole = lesson.local_rows(digits, lesson.drawn_lines([digits])[0])
    alone = lesson.local_rows(digits.first(1), lesson.drawn_lines([digits.first(1)])[0])
    first = whole[whole["sample"] == digits.samples.ids[0]]
    assert np.allclose(first.value, alone.value, rtol=1e-3, atol=1e-4)
    turned = [whole[(whole.metric == lesson.TURNED) & (whole.method == f"noise {s:g}")].value.mean() for s in lesson.NOISES]
    assert 1 > turned[0] > turned[1] > turned[2]
    other = replace(digits.first(1), seed=1)
    again = lesson.local_rows(other, lesson.drawn_lines([other])[0])
    drawn = alone.metric.isin([lesson.TURNED, lesson.MOVED]).to_numpy()
    assert (again.value[drawn] != alone.value[drawn]).all()
    assert np.allclose(again.value[~drawn], alone.value[~drawn], rtol=1e-3)


# --- the gap ----------------------------------------------------------------------------------------------------------


def test_gaps_of_a_quadratic_score_are_known():
    """FIDELITY TV-9: f = x^2 at 1: left rule 1 - 1/n, the other two exact."""
    case = toy_case(toys.square(), torch.tensor([[1.0]], dtype=torch.float64))
    frame = lesson.gap_rows(case, [1, 2, 5], lesson.drawn_lines([case])[0])
    for m in (1, 2, 5):
        assert one(frame, lesson.GAP, f"left, {m} steps") == pytest.approx(1 / m)
        assert one(frame, lesson.GAP, f"middle, {m} steps") == pytest.approx(0, abs=1e-12)
        assert one(frame, lesson.GAP, f"gauss_legendre, {m} steps") == pytest.approx(0, abs=1e-12)


def test_gaps_are_those_of_the_maps(digits):
    frame = lesson.gap_rows(digits, [2, 3, 8], lesson.drawn_lines([digits])[0])
    words = {"model": digits.model, "inputs": digits.inputs, "targets": digits.targets}
    for rule in lesson.RULES:
        for m in (2, 3, 8):
            made = METHODS.bind("integrated_gradients", rule=rule, steps=m)(**words)
            gap = METRICS.bind("completeness_gap", relative=True)(**words, attributions=made)
            own = frame[frame.method == f"{rule}, {m} steps"].value
            assert np.allclose(own, gap, rtol=2e-3, atol=1e-5), (rule, m)


def test_a_jump_on_the_way_is_missing_from_the_sum():
    """What the page says of Example 1 of document 001."""
    x = torch.tensor([[4.0, 4.0]], dtype=torch.float64)
    for continuous, missing in ((True, 0.0), (False, 1.0)):
        model = toys.credible_example(continuous)
        made = METHODS.bind("integrated_gradients", rule="middle", steps=400)(model, x, T0)
        gap = METRICS.bind("completeness_gap")(model=model, inputs=x, targets=T0, attributions=made)
        assert gap.item() == pytest.approx(missing, abs=1e-9)


# --- baselines and paths ----------------------------------------------------------------------------------------------


def test_what_equals_its_baseline_gets_zero(digits):
    made = lesson.baseline_maps(digits, 3)
    ink = digits.inputs == 1
    assert not made["black"][digits.inputs == 0].any()
    assert not made["white"][ink].any()
    assert made["white"][digits.inputs == 0].any()
    frame = lesson.ground_rows(digits, made)
    shares = frame[frame.metric == "share of the attribution on the black ground"]
    assert (shares[shares.method == "black"].value == 0).all()
    assert (shares[shares.method == "white"].value > 0.5).all()
    sizes = [(abs(m[x == 0]).sum() / abs(m).sum()).item() for m, x in zip(made["uniform"], digits.inputs, strict=True)]
    assert shares[shares.method == "uniform"].value.tolist() == pytest.approx(sizes)
    area = [float((image == 0).float().mean()) for image in digits.inputs]
    assert shares[shares.method == "area"].value.tolist() == pytest.approx(area)
    grey = digits.inputs.clone()
    grey[grey == 0] = 0.5
    fall = compute.scores(digits.model, digits.inputs, digits.targets) - compute.scores(digits.model, grey, digits.targets)
    assert np.allclose(frame[frame.metric == "fall of the logit"].value, fall, atol=1e-4)


def test_the_darkest_and_the_brightest_tenth():
    ramp = torch.arange(100.0).reshape(1, 1, 10, 10) / 100
    case = toy_case(toys.mean_pixel(), ramp)
    frame = lesson.dark_rows(case, {"ramp": -ramp, "even": torch.ones_like(ramp)})
    total = float(ramp.sum())
    assert one(frame, "share of the attribution on the darkest tenth", "ramp") == pytest.approx(0.45 / total)
    assert one(frame, "share of the attribution on the brightest tenth", "ramp") == pytest.approx(9.45 / total)
    assert one(frame, "share of the attribution on the darkest tenth", "even") == pytest.approx(0.1)


def test_the_mean_of_the_data_set_is_a_baseline(digits):
    mean = lesson.bank(digits).mean(0)
    assert mean.shape == (1, 28, 28)
    made = lesson.baseline_maps(digits, 2)["data set mean"]
    own = METHODS.bind("integrated_gradients", baseline=lambda x: mean.expand_as(x).clone(), steps=2, rule="middle")
    assert torch.allclose(made, own(digits.model, digits.inputs, digits.targets), atol=1e-5)


def test_paths_share_their_ends_and_their_sum_and_differ_in_their_maps(digits):
    made = lesson.path_maps(digits, 60)
    frame = lesson.path_rows(digits, made)
    gaps = frame[frame.metric == lesson.GAP]
    assert (gaps.groupby("method").value.mean() < 0.06).all()
    assert (gaps[gaps.method != "guided path"].value < 0.02).all()
    sums = torch.stack([a.flatten(1).sum(1) for a in made.values()])
    assert torch.allclose(sums[0], sums[2], rtol=0.05)
    ranks = frame[frame.metric == lesson.RANK].groupby("method").value.mean()
    assert list(ranks.index) == ["guided path vs blur path", "straight line vs blur path", "straight line vs guided path"]
    assert (ranks < 0.99).all()
    assert ranks["straight line vs guided path"] > ranks["straight line vs blur path"]


def test_paths_of_a_linear_score_are_one_map():
    weights = torch.linspace(-1, 1, 64, dtype=torch.float64)[None]
    case = toy_case(toys.linear(weights), torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double())
    made = list(lesson.path_maps(case, 5).values())
    assert torch.allclose(made[0], made[1], atol=1e-9)
    assert torch.allclose(made[0], made[2], atol=1e-9)


# --- noise ------------------------------------------------------------------------------------------------------------


def test_single_gradients_are_those_that_the_three_summaries_sum_up(digits):
    case = digits.first(2)
    made, each = noise.noise_maps(case, 5, 0.15), noise.single_gradients(case, 5, 0.15)
    assert each.shape == (2, 5, 1, 28, 28)
    for i in range(2):  # a slow twin
        single = [each[i, j].double() for j in range(5)]
        mean = sum(single) / 5
        assert torch.allclose(made["SmoothGrad"][i].double(), mean, atol=1e-5)
        assert torch.allclose(made["SmoothGrad squared"][i].double(), sum(g**2 for g in single) / 5, atol=1e-4)
        assert torch.allclose(made["VarGrad"][i].double(), sum((g - mean) ** 2 for g in single) / 5, atol=1e-4)
    frame = noise.identity_rows(case, made, 5, 0.15)
    worst = frame[frame.metric == noise.DIFFERENCE].groupby("method").value.max()
    assert worst.pop("VarGrad is the variance, divisor J - 1") == pytest.approx(1 / 5, rel=1e-3)
    assert (worst < 1e-4).all()
    assert len(worst) == 4


def test_identity_rows_see_a_map_that_breaks_the_identity(digits):
    case = digits.first(1)
    made = noise.noise_maps(case, 4, 0.15)
    frame = noise.identity_rows(case, made | {"VarGrad": 1.5 * made["VarGrad"]}, 4, 0.15)
    worst = frame[frame.metric == noise.DIFFERENCE].groupby("method").value.max()
    assert worst["VarGrad is the variance, divisor J"] == pytest.approx(0.5, rel=1e-3)
    assert worst["VarGrad is SmoothGrad squared less the square of SmoothGrad"] == pytest.approx(0.5, rel=1e-3)


def test_the_share_of_variance_is_known_for_a_parabola():
    """FIDELITY TV-8: f = x^2 / 2, x = 0.5, sigma = 0.3: squares 0.34, variance 0.09."""
    case = toy_case(toys.half_square([1.0, 1.0]), torch.tensor([[0.5, 0.5]], dtype=torch.float64))
    made = {name: torch.tensor([[v, v]]) for name, v in (("SmoothGrad", 0.5), ("SmoothGrad squared", 0.34), ("VarGrad", 0.09))}
    assert noise.share_rows(case, made).value.tolist() == pytest.approx([0.09 / 0.34])
    drawn = [
        METHODS.bind(m, sigma=0.3, n_samples=4000)(case.model, case.inputs, case.targets) for m in noise.ENSEMBLES.values()
    ]
    assert [float(d.mean()) for d in drawn] == pytest.approx([0.5, 0.34, 0.09], rel=0.05)


# --- the digits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "parameter"), [("foundations_gradients", "n_digits"), ("foundations_evaluation", "n_images")])
def test_the_page_says_that_most_test_digits_were_trained_on(name, parameter):
    """The share follows from the card of `mnist_cnn`, which has the rule of its split."""
    card = json.loads((study.root() / "data" / "checkpoints" / "mnist_cnn.json").read_text())["data"]
    seed, total, n_train = re.search(r"default_rng\((\d+)\)\.permutation\((\d+)\): first (\d+) train", card["split"]).groups()
    everything = data.load("mnist_5k")
    assert everything.fingerprint == card["fingerprint"]
    assert len(everything) == int(total)
    trained = {everything.ids[k] for k in np.random.default_rng(int(seed)).permutation(int(total))[: int(n_train)]}
    asked = data.load("mnist_5k", split="test").ids
    assert 0.5 < np.mean([one in trained for one in asked]) < 1, "most, not all"
    own = study.load(name)
    told = "among the training digits of `mnist_cnn`"
    assert any("Most of the digits of the split `test`" in limit and told in limit for limit in own.limits)
    assert told in own.parameters[parameter].help
    assert not any("network's training data" in limit for limit in own.limits)


# --- exercises --------------------------------------------------------------------------------------------------------


def solution(level):
    (found,) = [one.solution for one in study.load("foundations_gradients").exercises if one.level == level]
    return found


def test_the_mean_of_two_baselines_moves_the_blind_point():
    """w (x - 1/2) for a linear score, x^2 - 1/2 for the sum of squares: sensitivity (a) does not survive a mean."""
    space = {}
    exec(solution("extend").split("```python\n")[1].split("```")[0], space)
    x = torch.tensor([[0.0, 0.5, 0.5**0.5, 1.0]], dtype=torch.float64)
    w = torch.tensor([[1.0, -2.0, 3.0, 0.5]], dtype=torch.float64)
    assert torch.allclose(space["black_and_white"](toys.linear(w), x, T0), w * (x - 0.5))
    assert torch.allclose(space["black_and_white"](toys.square(), x, T0), x**2 - 0.5)
    alone = torch.full((1, 1), 0.5, dtype=torch.float64)
    assert space["black_and_white"](toys.linear(w[:, :1]), alone, T0).item() == pytest.approx(0), "the score is 0.5, not 0 or 1"
    told = solution("extend")
    assert "sensitivity (b) and" in told
    assert "both sensitivities" not in told


def test_wider_noise_takes_the_share_of_variance_to_a_half_and_not_to_its_bound():
    cases = lesson.open_cases({"n_digits": 8, "n_photos": 2, "photo_size": 64, "seed": 0, "max_batch": 0})
    found = [[noise.share_rows(c, noise.noise_maps(c, 10, f)).value.mean() for f in (0.15, 0.4)] for c in cases]
    narrow, wide = found[0]
    assert narrow + 0.1 < wide
    assert 0.4 < wide < 0.6 < 1 - 1 / 10
    assert all(0.85 < share < 0.9 for share in found[1])
    assert "On digits it grows, to about a half" in solution("change")
    assert "become" not in solution("change")

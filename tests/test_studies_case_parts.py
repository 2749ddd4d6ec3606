"""Part `parts` of the study `case_studies`: drawn digits, closed forms of linear nets, slow twins, a pass over everything."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.collections import LineCollection
from scipy.stats import spearmanr

from xai_lib import METHODS, METRICS, compute, data, maps, models, plotting, segments, toys
from xai_lib.association import rank_products
from xai_lib.compendium.results import checked
from xai_lib.errors import InputError
from xai_lib.plotting.overlay import border_lines, slic_overlay
from xai_lib.studies import case_parts, case_parts_figures, case_parts_tables
from xai_lib.studies import case_parts_digits as digits
from xai_lib.studies import case_parts_pictures as pictures
from xai_lib.studies import case_parts_regions as regions
from xai_lib.studies.case import Case, rows
from xai_lib.studies.path_scores import GAME
from xai_lib.types import Samples

pytestmark = pytest.mark.slow

FOUR = """
.........
.#....#..
.#....#..
.#....#..
.#....#..
.#######.
......#..
......#..
......#..
.........
"""
EIGHT = """
.........
..#####..
..#...#..
..#...#..
..#...#..
..#####..
..#...#..
..#...#..
..#...#..
..#...#..
..#####..
.........
"""
PARAMETERS = {
    "digit_cnn": "mnist_cnn", "digits": "mnist_5k", "photo_model": "cifar_resnet", "photo_dataset": "shapes",
    "mask_dataset": "shapes", "parts_shard": 50, "parts_per_digit": 4, "parts_digits": 3, "parts_per_class": 1,
    "parts_alike": 1, "parts_masked": 6, "parts_segments": 60, "parts_steps": 2, "parts_samples": 20, "parts_points": 4,
    "seed": 0, "max_batch": 0,
}  # fmt: skip


def drawn(text: str) -> np.ndarray:
    return np.array([[c == "#" for c in line] for line in text.split()])


def case_of(model: torch.nn.Module, inputs: torch.Tensor, target: int = 0, masks: torch.Tensor | None = None) -> Case:
    targets = torch.full((len(inputs),), target)
    names = tuple(f"c{k}" for k in range(10))
    ids = tuple("abcdefghij"[: len(inputs)])
    return Case(model, Samples(inputs, targets, ids, names, "toy", "CC0", True, masks=masks), targets)


def of(frame: pd.DataFrame, metric: str, method: str) -> np.ndarray:
    return frame[(frame.metric == metric) & (frame.method == method)].value.to_numpy()


def noise(n: int, channels: int, side: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(seed))


# --- regions ------------------------------------------------------------------------------------------------------------------


def test_the_parts_of_a_drawn_four():
    ink = drawn(FOUR)
    parts = regions.named_parts(4, ink)
    assert list(parts) == list(regions.part_names(4))
    assert np.argwhere(parts["left vertical"]).tolist() == [[1, 1], [2, 1], [3, 1]]
    assert np.argwhere(parts["right vertical"]).tolist() == [[1, 6], [2, 6], [3, 6]]
    assert np.argwhere(parts["stem"]).tolist() == [[7, 6], [8, 6]]
    assert parts["middle bar"].sum() == 10  # the row itself, and one pixel above and below where strokes go on
    assert not parts["middle bar"][:4].any()
    assert (parts["named parts"] ^ parts["stem"]).sum() == ink.sum()


def test_the_parts_of_a_drawn_eight():
    ink = drawn(EIGHT)
    parts = regions.named_parts(8, ink)
    assert list(parts) == list(regions.part_names(8))
    u, v = np.indices(ink.shape)
    near = np.hypot(u - 5, v - 3) <= 2  # the holes' nearest pixels are (4, 3) and (6, 3): the first of equals
    assert np.array_equal(parts["crossing"], ink & near)
    assert np.array_equal(parts["upper loop"], ink & ~near & (u < 5))
    assert np.array_equal(parts["lower loop"], ink & ~near & (u >= 5))
    tall = np.kron(ink, np.ones((2, 2), dtype=bool))  # 20 rows high: a sixth is 3.33, not 2
    assert regions.parts_of_eight(tall)["crossing"][10].sum() > 5


def test_a_digit_without_the_part_has_none():
    bar = np.zeros((9, 9), dtype=bool)
    bar[1:8, 4] = True
    for ink in (bar, ~bar, np.zeros((9, 9), dtype=bool)):
        assert regions.parts_of_four(ink) == {} or ink is not bar
        assert regions.named_parts(8, ink) == {}
    assert regions.parts_of_four(bar) == {}
    one_hole = drawn(EIGHT)
    one_hole[6, 2] = False  # opens the lower loop
    assert regions.parts_of_eight(one_hole) == {}
    no_left = drawn(FOUR)
    no_left[:5, 1] = False
    assert regions.parts_of_four(no_left) == {}


def test_the_longest_run_is_found():
    for seed in range(20):
        line = np.random.default_rng(seed).random(12) < 0.6
        start, stop = regions.longest_run(line)
        runs = [(b - a, -a) for a in range(12) for b in range(a + 1, 13) if line[a:b].all()]
        assert (stop - start, -start) == max(runs)
    assert regions.longest_run(np.zeros(3, dtype=bool)) == (0, 0)


def test_the_centre_is_a_ninth_of_the_frame():
    ink = np.zeros((20, 20), dtype=bool)
    ink[2, 4] = ink[13, 15] = True
    assert regions.frame_of(ink) == (2, 14, 4, 16)
    found = np.argwhere(regions.centre_of(ink))
    assert (found.min(0).tolist(), found.max(0).tolist(), len(found)) == ([6, 8], [9, 11], 16)
    assert regions.frame_of(np.zeros((3, 5), dtype=bool)) == (0, 3, 0, 5)


# --- ink and centre -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_from_black_all_attribution_is_on_ink_whatever_the_net(seed):
    x = noise(4, 1, 12, seed) * (noise(4, 1, 12, seed + 9) > 0.6)
    found = digits.ink_rows(case_of(toys.TinyNet(1, seed=seed), x), steps=3)
    assert of(found, digits.INK_SHARE, "IG, black").tolist() == [1.0] * 4
    area = (x > 0).double().mean((1, 2, 3)).numpy()
    assert of(found, digits.INK_GAIN, "IG, black") == pytest.approx(1 - area)
    assert of(found, digits.INK_SHARE, "ink") == pytest.approx(area)
    assert of(found, digits.INK_SHARE, "IG, grey").max() < 0.9


def test_ink_shares_of_a_linear_net():
    """A = w (x - x'): on three pixels 0, 0.25 and 1 with weights 1, 2, -1."""
    x = torch.tensor([0.0, 0.25, 1.0]).reshape(1, 1, 1, 3)
    found = digits.ink_rows(case_of(toys.linear([[1.0, 2.0, -1.0]]), x), steps=1)
    assert of(found, digits.INK_SHARE, "IG, grey") == pytest.approx([1 / 1.5])  # 0.5, 0.5, 0.5
    assert of(found, digits.INK_SHARE, "IG, max distance") == pytest.approx([2.5 / 3.5])  # 1, 1.5, 1
    assert of(found, digits.INK_GAIN, "IG, grey") == pytest.approx([0.0])


def test_centre_and_margin_of_a_linear_net():
    ink = torch.from_numpy(drawn(EIGHT)).float()
    x = torch.stack([ink, 0.75 * ink])[:, None]
    weights = noise(3, 1, 12)[:, 0, :, :9].flatten(1)
    found = digits.centre_values(case_of(toys.linear(weights), x, target=1), other=2, steps=1)
    out = x.flatten(1) @ weights.T
    torch.testing.assert_close(found["image | logit"], out[:, 1].double())
    torch.testing.assert_close(found["image | margin"], (out[:, 1] - out[:, 2]).double())
    centre = torch.from_numpy(regions.centre_of(drawn(EIGHT)))
    made = (weights[1].reshape(12, 9) * x[:, 0]).double()
    torch.testing.assert_close(found["IG, black | centre"], made[:, centre].mean(1), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found["IG, black | rest"], made[:, ~centre].mean(1), atol=1e-6, rtol=1e-5)


def test_what_goes_with_the_margin():
    case = case_of(toys.TinyNet(1), noise(6, 1, 8))
    margin = torch.arange(6.0).double()
    logit = torch.tensor([3.0, 1, 2, 6, 4, 5]).double()
    values = {"image | margin": margin, "image | logit": logit, "IG, black | centre": margin**3, "IG, black | rest": -margin}
    found = digits.centre_rows(case, values, 4)
    assert of(found, digits.CENTRE, "4: IG, black | centre").mean() == pytest.approx(1)
    assert of(found, digits.CENTRE, "4: IG, black | rest").mean() == pytest.approx(-1)
    given = rank_products((margin**3).numpy(), margin.numpy(), given=logit.numpy())
    assert of(found, digits.CENTRE_GIVEN, "4: IG, black | centre") == pytest.approx(given)
    assert len(found) == 6 * 4


# --- named parts --------------------------------------------------------------------------------------------------------------

CUT = torch.tensor([[0] * 9] + [[1, 1, 1, 1, 1, 2, 2, 2, 2]] * 3 + [[3] * 9] * 3 + [[4] * 9] * 2 + [[5] * 9])
"""Six segments of the drawn 4: ground, left vertical, right vertical, bar, stem, ground."""


def test_segments_belong_to_the_part_with_more_than_half_of_their_ink(monkeypatch):
    monkeypatch.setattr(digits, "MIN_INK", 0.1)
    inked, owned = digits.segments_of_parts(4, drawn(FOUR), CUT.numpy())
    assert inked.tolist() == [False, True, True, True, True, False]
    assert {part: np.flatnonzero(own).tolist() for part, own in owned.items()} == {
        "middle bar": [3], "left vertical": [1], "right vertical": [2], "stem": [4], "named parts": [1, 2, 3],
    }  # fmt: skip
    monkeypatch.setattr(digits, "MIN_INK", 0.25)  # 3 of 15, 3 of 12, 9 of 27 and 2 of 18 pixels
    assert digits.segments_of_parts(4, drawn(FOUR), CUT.numpy())[0].tolist() == [False, False, True, True, False, False]
    monkeypatch.setattr(digits, "MIN_INK", 0.1)
    half = np.zeros((10, 9), dtype=int)
    half[2:3] = half[9:] = 1  # one pixel of each vertical: neither has more than half
    assert not digits.segments_of_parts(4, drawn(FOUR), half)[1]["left vertical"][1]


def test_placed_by_hand():
    inked = np.array([True, True, True, True, False])
    found = inked, {"p": np.array([True, True, False, False, False]), "all": inked}
    values = np.array([3.0, 1.0, 1.0, 0.0, 2.0])
    rank, top, excess = digits._placed(values, found, "p")
    assert (rank, top, excess) == ((1 + 1 + 0.5 + 1) / 4, 1.0, 0.5)
    assert digits._placed(np.array([-1.0, -2.0, -3.0, -4.0, 9.0]), found, "p")[1:] == (1.0, 0.5)  # the last is no ink
    for part in ("all", "none"):
        assert np.isnan(digits._placed(values, found, part)).all()


def test_a_net_that_looks_at_the_bar_alone(monkeypatch):
    monkeypatch.setattr(digits, "MIN_INK", 0.1)
    ink = torch.from_numpy(drawn(FOUR))
    x = torch.stack([ink.float(), torch.zeros(10, 9)])[:, None]
    weights = torch.zeros(10, 9)
    weights[4:7] = 1
    found = digits.part_rows(case_of(toys.linear(weights.reshape(1, -1)), x), digit=4, cut=CUT.expand(2, -1, -1), steps=1)
    for value in ("mean of IG", "ablation"):
        for part, (rank, top, excess) in {
            "middle bar": (1, 1, 0.75), "named parts": (2 / 3, 1, 0.25), "stem": (1 / 3, 0, -0.25),
        }.items():  # fmt: skip
            method = f"4, {part} | {value}"
            assert [of(found, m, method)[0] for m in (digits.RANK, digits.TOP, digits.EXCESS)] == pytest.approx(
                [rank, top, excess]
            )
    assert np.isnan(of(found, digits.RANK, "4, stem | ink")[1])  # an empty picture has no parts
    assert set(found[found.value.isna()].flag) == {"no such part"}
    share = torch.tensor([3 / 15, 3 / 12, 9 / 27, 2 / 18])  # ink of the segments: the fourth is the stem's
    assert of(found, digits.RANK, "4, stem | ink")[0] == float((share[3] > share[:3]).float().mean())


# --- agreement ----------------------------------------------------------------------------------------------------------------


def test_agreement_is_spearman_of_absolute_maps():
    x = noise(3, 1, 10) * (noise(3, 1, 10, 5) > 0.5)
    case = case_of(toys.TinyNet(1), x)
    methods = {"a": ("gradient", {}), "b": ("integrated_gradients", {"steps": 2}), "c": ("gradient", {})}
    own = {"methods": methods, "cut": {"grid": {"rows": 2, "columns": 2}}}
    found = digits.agreement_rows(case, **own, on_ink=True)
    one, other = (METHODS.bind(m, **own)(case.model, x, case.targets)[:, 0].abs() for m, own in (methods["a"], methods["b"]))
    for k in range(3):
        ink = x[k, 0] > 0
        assert of(found, digits.AGREE, "a | b")[k] == pytest.approx(spearmanr(one[k].flatten(), other[k].flatten()).statistic)
        assert of(found, digits.AGREE_INK, "a | b")[k] == pytest.approx(spearmanr(one[k][ink], other[k][ink]).statistic)
    assert of(found, digits.AGREE, "a | c") == pytest.approx(np.ones(3))
    assert len(found) == 2 * 6 * 3
    assert (digits.AGREE, f"a | {digits.BLOCKS}") in set(zip(found.metric, found.method, strict=True))
    turned = digits.agreement_rows(case, **{**own, "methods": dict(reversed(methods.items()))}, on_ink=True)
    pd.testing.assert_frame_equal(turned, found)
    without = digits.agreement_rows(case, **own, on_ink=False)
    assert set(without.metric) == {digits.AGREE}


def test_the_panel_has_independent_controls_and_one_kind_of_absence():
    cut = {"slic": {"n_segments": 12}}
    made = digits.panel(cut, steps=3, n_samples=20)
    x = noise(4, 1, 20, 3)
    case = case_of(toys.TinyNet(1), x)
    labels = segments.segment(cut, x)
    blocks = digits.random_blocks(case, cut)
    assert torch.equal(segments.segment_mean(blocks[:, None], labels)[:, 0].float(), blocks)
    assert torch.equal(digits.random_blocks(case_of(case.model, x[2:]), cut)[0], blocks[2])
    many = torch.cat([torch.unique(one) for one in digits.random_blocks(case_of(case.model, noise(10, 1, 20)), cut)])
    assert len(many) > 80
    assert abs(many.mean()) < 0.4
    assert 0.7 < many.std() < 1.3
    fills = [settings.get("baseline") for _, settings in (made[k] for k in ("IG, black", "ablation", "LIME"))]
    assert fills == ["black"] * 3
    torch.testing.assert_close(
        digits.shown(case, made, ["mean of IG"])["mean of IG"][:, None],
        segments.segment_mean(digits.gradients(case, "black", 3)[:, None], labels),
    )


# --- small photographs --------------------------------------------------------------------------------------------------------


def test_for_a_linear_net_sums_over_segments_are_what_ablation_takes():
    x = noise(3, 3, 12)
    net = toys.linear(noise(2, 3, 12, 4).flatten(1) - 0.5)
    case = replace(case_of(net, x), targets=compute.logits(net, x).argmax(1))
    own = {"cut": {"grid": {"rows": 3, "columns": 3}}, "steps": 1, "points": 4}
    found = pictures.picture_rows(case, **own)
    assert of(found, pictures.WITH_ABLATION, "IG") == pytest.approx(np.ones(3))
    assert abs(of(found, pictures.WITH_ABLATION, "random")).max() < 0.95
    misread = replace(case, targets=torch.cat([1 - case.targets[:1], case.targets[1:]]))
    again = pictures.picture_rows(misread, **own)
    first = again["sample"] == again["sample"].iloc[0]
    assert again[first].value.isna().all()
    assert set(again[first].flag) == {"not recognised"}
    assert again[~first].value.notna().all()


def test_the_game_is_the_metric_of_the_same_map():
    x = noise(2, 3, 12)
    case = case_of(toys.TinyNet(3), x)
    found = pictures.picture_rows(case, cut={"grid": {"rows": 3, "columns": 3}}, steps=4, points=5)
    one = METHODS.bind("integrated_gradients", steps=4)(case.model, x, case.targets)
    words = {"model": case.model, "inputs": x, "targets": case.targets, "attributions": one}
    expected = METRICS.ask(METRICS.bind("insertion_deletion", points=5), words)
    assert of(found, GAME, "IG") == pytest.approx(expected.numpy(), abs=1e-6)
    gain = of(found, GAME, "ablation") - of(found, GAME, "random")
    assert of(found, pictures.GAME_GAIN, "ablation") == pytest.approx(gain)
    assert of(found, pictures.GAME_GAIN, "random").tolist() == [0, 0]


def test_values_of_segments_by_loops():
    one, labels = noise(2, 1, 8)[:, 0], segments.segment({"grid": {"rows": 2, "columns": 3}}, noise(2, 1, 8))
    for how, reduce in {"mean": torch.mean, "sum": torch.sum}.items():
        for k, own in enumerate(pictures.of_segments(one, labels, how)):
            assert own == pytest.approx([float(reduce(one[k][labels[k] == s])) for s in range(6)], rel=1e-5)


def test_a_net_that_sees_the_object_alone():
    masks = torch.zeros(3, 8, 8, dtype=torch.bool)
    masks[:, 2:6, 1:5] = True
    x = 0.1 + noise(3, 3, 8)
    x[2] = 0.1  # with the bias below, the net says class 1 of this one
    weights = torch.stack([masks[0].expand(3, -1, -1).flatten().float(), torch.zeros(192)])
    case = case_of(toys.linear(weights, bias=[0.0, 5.0]), x, masks=masks)
    found = pictures.object_rows(case, steps=2)
    assert of(found, pictures.OBJECT, "IG")[:2] == pytest.approx([1, 1])
    assert of(found, pictures.GAIN, "IG")[:2] == pytest.approx([0.75, 0.75])
    assert of(found, pictures.PRECISION, "IG")[:2] == pytest.approx([0.75, 0.75])
    assert of(found, pictures.OBJECT, "mask")[:2] == pytest.approx([0.25, 0.25])
    assert found[found["sample"] == "c"].value.isna().all()
    assert set(found[found["sample"] == "c"].flag) == {"not recognised"}


def test_contrast_is_the_distance_of_mean_colours():
    masks = torch.zeros(1, 4, 4, dtype=torch.bool)
    masks[0, :2] = True
    x = torch.zeros(1, 3, 4, 4)
    x[0, 0, :2], x[0, 1, 2:], x[0, 1, 0, 0] = 1.0, 0.5, 0.8  # inside (1, 0.1, 0), outside (0, 0.5, 0)
    assert pictures.contrast(x, masks).item() == pytest.approx(np.hypot(1, 0.4))


def test_what_goes_with_the_contrast():
    case = case_of(toys.TinyNet(3), noise(5, 3, 8))
    order = np.array([2.0, 0, 1, 4, 3])
    frames = [rows(case, "picture", pictures.CONTRAST, order)]
    for metric, sign in {pictures.GAIN: 1, pictures.PRECISION: -1}.items():
        frames += [rows(case, label, metric, sign * order**3) for label in ("IG", "random")]
    found = pictures.contrast_rows(case, pd.concat(frames).sample(frac=1, random_state=0))
    assert of(found, pictures.WITH_CONTRAST, f"IG, {pictures.GAIN}").mean() == pytest.approx(1)
    assert of(found, pictures.WITH_CONTRAST, f"random, {pictures.PRECISION}").mean() == pytest.approx(-1)


def test_classes_are_told_apart_and_paired():
    case = case_of(toys.TinyNet(3), noise(7, 3, 8))
    samples = replace(case.samples, class_names=("cat", "frog", "ship", "dog"), targets=torch.tensor([2, 0, 1, 2, 0, 1, 1]))
    case = replace(case, samples=samples)
    found = pictures.class_rows(case, rows(case, "IG", "m", np.arange(7.0)), ["m"])
    assert of(found, "m", "IG | frog").tolist() == [2, 5, 6]
    assert of(found, "m", "IG | cat").tolist() == [1, 4]
    assert of(found, "m", f"IG | {pictures.PAIRED}").tolist() == [(2 + 1) / 2 - 0, (5 + 4) / 2 - 3]
    few = replace(case, samples=samples.subset([0, 1]), targets=case.targets[:2])
    assert set(pictures.class_rows(few, rows(few, "IG", "m", np.arange(2.0)), ["m"]).method) == {"IG | cat", "IG | ship"}


# --- overlay ------------------------------------------------------------------------------------------------------------------


def borders_of(figure) -> list[int]:
    return [sum(len(c.get_segments()) for c in ax.collections if isinstance(c, LineCollection)) for ax in figure.axes]


def test_borders_lie_between_pixels():
    labels = torch.zeros(4, 5, dtype=torch.int64)
    labels[1:3, 2:] = 1
    found = border_lines(labels)
    assert len(found) == 2 + 3 + 3
    assert [[1.5, 0.5], [1.5, 1.5]] in found.tolist()
    assert [[1.5, 2.5], [2.5, 2.5]] in found.tolist()
    assert border_lines(torch.zeros(3, 3)).shape == (0, 2, 2)


def test_the_overlay_changes_no_number(monkeypatch):
    x = noise(2, 1, 8)
    samples = case_of(toys.TinyNet(1), x).samples
    labels = segments.grid(x, rows=2, columns=2)
    made = {"a": noise(2, 1, 8, 1)[:, 0] - 0.5, "b": noise(2, 1, 8, 2)[:, 0]}
    lines = 8 + 8
    figure = slic_overlay(samples, made, labels, over=["b"])
    assert borders_of(figure)[:6] == [lines, 0, lines, lines, 0, lines]
    plain = plotting.attribution_grid(samples, made)
    for one, other in zip(figure.axes[:6], plain.axes[:6], strict=True):
        assert np.array_equal(one.images[0].get_array(), other.images[0].get_array())
    monkeypatch.setenv("XAI_PUBLISH", "1")
    hidden = slic_overlay(replace(samples, redistributable=False), made, labels, over=["b"], rows=[1])
    assert borders_of(hidden)[:3] == [0, 0, lines]
    with pytest.raises(InputError, match="borders over"):
        slic_overlay(samples, made, labels, over=["c"])
    with pytest.raises(InputError, match="at most 5"):
        slic_overlay(samples, dict.fromkeys("abcdef", made["a"]), labels, over=[])
    with pytest.raises(InputError, match="do not fit"):
        slic_overlay(samples, made, labels[:1], over=[])


def test_document_004s_segments_of_a_digit():
    """100 segments are asked for; a blank ground gives fewer, small ones."""
    x = data.load("mnist_5k", n=20).inputs
    labels = segments.segment(case_parts.cut_of({"parts_segments": 100}), x)
    assert torch.equal(labels, segments.segment("slic", x))
    assert 55 <= min(segments.counts(labels)) <= max(segments.counts(labels)) <= 90


# --- the whole part -----------------------------------------------------------------------------------------------------------


def test_images_of_a_class_are_the_first_in_the_order_of_the_seed():
    found = case_parts.ids_of_classes("mnist_5k", 3, 1, (8, 4))
    whole = data.load("mnist_5k", split="test", n=1000, seed=1)
    labels = whole.targets.tolist()
    slow = [[name for name, t in zip(whole.ids, labels, strict=True) if t == digit][:3] for digit in (8, 4)]
    assert list(found) == [*slow[0], *slow[1]]
    assert case_parts.ids_of_classes("mnist_5k", 5, 1, (8,))[:3] == found[:3]
    assert len(case_parts.ids_of_classes("mnist_5k", 2000, 0, (0,))) == 100  # all that there are
    assert len(case_parts.ids_of_classes("mnist_5k", 1, 0, None)) == 10


@pytest.fixture(scope="module")
def everything() -> tuple[case_parts.Cases, pd.DataFrame]:
    cases = case_parts.open_cases(PARAMETERS)
    cases = case_parts.Cases(
        *(
            {k: replace(c, spec=None) for k, c in one.items()} if isinstance(one, dict) else replace(one, spec=None)
            for one in vars(cases).values()
        )
    )
    return cases, case_parts.all_rows(cases, PARAMETERS)


def test_the_cases_are_the_labels_of_the_right_digits(everything):
    cases, _ = everything
    assert {k: set(c.targets.tolist()) for k, c in cases.by_digit.items()} == {4: {4}, 8: {8}, 9: {9}}
    assert cases.shown.targets.tolist() == [3, 4, 8, 9]
    assert cases.photos.targets.tolist() == list(range(6))
    assert cases.masked.samples.masks is not None
    assert cases.photos.inputs.shape[1:] == (3, 32, 32)


def test_all_rows_can_be_saved_and_hold_what_the_claims_read(everything):
    cases, found = everything
    assert len(checked(found)) == len(found)
    pairs = set(zip(found.metric, found.method, strict=True))
    for start in ("black", "grey", "max distance"):
        assert (digits.INK_GAIN, f"IG, {start}") in pairs
        for digit in (4, 9):
            for place in digits.PLACES:
                assert (digits.CENTRE, f"{digit}: IG, {start} | {place}") in pairs
    for metric in (digits.RANK, digits.EXCESS):
        for value in case_parts_tables.VALUES:
            assert {(metric, f"4, named parts | {value}"), (metric, f"8, crossing | {value}")} <= pairs
    assert (digits.AGREE, "IG, black | ablation") in pairs
    assert (pictures.GAIN, "IG") in pairs
    assert (pictures.WITH_CONTRAST, f"IG, {pictures.GAIN}") in pairs
    assert of(found, pictures.WITH_ABLATION, "IG | circle").size == 1
    assert of(found[found.dataset == "mnist_5k"], digits.INK_SHARE, "IG, black").tolist() == [1.0] * 3
    margins = compute.logits(cases.by_digit[4].model, cases.by_digit[4].inputs)
    assert float((margins[:, 4] - margins[:, 9]).std()) > 0


def test_the_plan_is_what_is_asked_for():
    (stage,) = case_parts.works(PARAMETERS)
    assert [work.task for work in stage] == [
        "ink_rows", "agreement_rows", "agreement_rows", "centre_values", "centre_values", "part_rows", "part_rows",
        "picture_rows", "object_rows",
    ]  # fmt: skip
    assert len({work.tasks()[0].key for work in stage}) == len(stage)


def test_figures_and_tables_are_drawn_from_the_rows(everything, monkeypatch):
    cases, found = everything
    shown, tables = {}, {}
    monkeypatch.setattr(plotting, "show", lambda figure, **words: shown.update({words["name"]: (figure, words)}))
    monkeypatch.setattr(plotting, "table", lambda frame, *, caption, name: tables.update({name: (frame, caption)}))
    case_parts_figures.drawn_digits(cases.shown, PARAMETERS)
    case_parts_figures.centres(found)
    case_parts_figures.by_class(found, pictures.GAME_GAIN)
    case_parts_figures.by_class(found, pictures.WITH_ABLATION)
    for case in (cases.digits, cases.few):
        case_parts_figures.agreement(found, case, PARAMETERS)
    case_parts_tables.ink(found)
    case_parts_tables.parts(found)
    case_parts_tables.objects(found)
    assert len(shown) == 6
    assert len(tables) == 3
    for _, words in shown.values():
        assert 15 <= len(words["alt"]) <= 250
    assert len(tables["parts-named"][0]) == (5 + 3) * 4
    assert tables["parts-ink"][0]["share of |A| on ink"][1].value == 1
    assert "n = 3 pictures" in shown["parts-agreement-mnist-5k"][1]["caption"]
    assert shown["parts-agreement-shapes"][1]["caption"].count("black alone") == 0


def test_the_net_of_a_case_explains_its_label(everything):
    cases, _ = everything
    one = cases.by_digit[9]
    made = digits.gradients(one, "black", 50)
    net = models.load("mnist_cnn")
    out = compute.logits(net, torch.cat([one.inputs, torch.zeros_like(one.inputs[:1])]))
    assert maps.reduce(made[:, None]).sum((1, 2)).tolist() == pytest.approx((out[:-1, 9] - out[-1, 9]).tolist(), rel=0.03)

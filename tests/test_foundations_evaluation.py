"""Lesson `foundations_evaluation`: every toy has its closed form, and what the page says an evaluation prefers is proved."""

import math
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from sklearn.tree import DecisionTreeClassifier

from xai_lib import hooks, metrics
from xai_lib import toys as models
from xai_lib.studies import foundations_evaluation as lesson
from xai_lib.studies import foundations_evaluation_leak as leak
from xai_lib.studies import foundations_evaluation_places as places
from xai_lib.studies import foundations_evaluation_toys as toys
from xai_lib.studies.foundations_evaluation_toys import asked, case, completed, explained, noise_of_weights, subsets


@pytest.fixture(scope="module")
def made():
    return lesson.all_toys()


def logistic(z):
    return 1 / (1 + math.exp(-z))


def test_no_toy_is_won_by_the_right_map_and_every_control_tells_the_two_apart(made):
    assert [toy.winner for toy in made.values()] == ["wrong"] * 3 + ["neither"] + ["wrong"] * 7
    for toy in made.values():
        assert abs(toy.revealed[0] - toy.revealed[1]) > 0.1, toy.evaluation
        assert not torch.allclose(toy.right, toy.wrong)
        assert toy.image.shape == toy.right.shape == toy.wrong.shape


def test_a_hole_in_the_sky_costs_more_than_the_pixel_that_is_read(made):
    """Drops 1 for the centre and g for a sky pixel: (L + g L (L - 1) / 2) / (L + 1) against g L / 2, L = 3, g = 2."""
    toy, steps, drop = made["sky"], 3, toys.HOLE * 0.5
    expected = (steps + drop * steps * (steps - 1) / 2) / (steps + 1), drop * steps / 2
    assert toy.scores == pytest.approx(expected)
    assert toy.scores == pytest.approx((2.25, 3.0))
    assert toy.revealed == pytest.approx((0.5 * steps / (steps + 1), 0.0)), "no hole, so the sky costs nothing"
    assert toy.right.tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert toy.wrong.tolist() == [[2, 2, 2], [2, 1, 2], [2, 2, 2]], "the drops to black, each alone"


def test_a_random_order_beats_the_right_one_in_the_sky(made):
    drops = [1.0 if place == 4 else toys.HOLE * 0.5 for place in range(9)]
    every = [sum(sum(order[:k]) for k in range(4)) / 4 for order in permutations(drops, 3)]
    assert np.mean(every) == pytest.approx(np.mean(drops) * 1.5)
    assert np.mean(every) > made["sky"].scores[0]
    words = case(toys.sky_model(), made["sky"].image)
    own = {"region": 1, "n_regions": 3, "score": "logit", "fill": "black", "order": "random", "n_draws": 400}
    maps = made["sky"].right[None, None]
    assert asked("region_perturbation", words, (maps, maps), **own)[0] == pytest.approx(np.mean(every), abs=0.1)


def test_deletion_is_best_for_the_map_whose_baseline_is_the_removal_value(made):
    """Trapezium by hand over all 24 orders: none beats w (x - r), for both values of r."""
    w, x = np.ravel(toys.WEIGHTS), np.ravel(toys.VALUES)

    def area(order, fill):
        at, scores = x.copy(), [w @ x]
        for pixel in order:
            at[pixel] = fill
            scores.append(w @ at)
        return (sum(scores) - (scores[0] + scores[-1]) / 2) / 4

    own = {0.0: np.argsort(-w * x), 1.0: np.argsort(-w * (x - 1))}
    for fill, order in own.items():
        assert area(order, fill) == pytest.approx(min(area(each, fill) for each in permutations(range(4))))
    toy = made["own_baseline"]
    assert toy.scores == pytest.approx((area(own[0.0], 1.0), area(own[1.0], 1.0)))
    assert toy.revealed == pytest.approx((area(own[0.0], 0.0), area(own[1.0], 0.0)))
    assert toy.scores == pytest.approx((2.15625, -0.40625))
    assert toy.right.flatten().tolist() == pytest.approx(list(w * x))


def test_sensitivity_n_of_a_linear_model_is_one_for_drops_times_a_number_plus_a_constant_and_for_no_other_map(made):
    words = case(models.linear(torch.tensor([[1.0, -3.0, -1.0, 2.0]], dtype=torch.float64)), torch.ones(2, 2))
    drops = explained("input_x_gradient", words)
    for beta, constant in ((1.0, 0.0), (0.1, 4.0), (5.0, -100.0)):
        score = asked("sensitivity_n", words, (drops, beta * drops + constant), **subsets(4, range(1, 4)))
        assert score == pytest.approx((1.0, 1.0))
    other = drops.clone()
    other[..., 0, 0] += 1  # complete after a constant is taken off, and yet not perfect
    other -= 0.25
    assert other.sum() == pytest.approx(drops.sum())
    assert asked("sensitivity_n", words, (drops, other), **subsets(4, range(1, 2)))[1] < 0.99
    assert asked("sensitivity_n", words, (drops, -drops), **subsets(4, range(1, 4))) == pytest.approx((1.0, -1.0))
    toy = made["shifted"]
    assert toy.scores == pytest.approx((1.0, 1.0))
    assert ((toy.right < 0) & (toy.wrong > 0)).sum() == 2, "two signs are wrong"
    assert toy.revealed == pytest.approx((0.0, abs(4 * toys.SHIFT - 0.9 * float(drops.sum()))))


def worth(chosen):
    """What the pixels of `chosen` are worth on black, in the model of copies; 4 is the pixel without copies."""
    return float(any(pixel != 4 for pixel in chosen)) + toys.LONELY * (4 in chosen)


def test_shapley_values_share_the_evidence_among_its_copies(made):
    values = np.zeros(9)
    for size in range(9):
        weight = math.factorial(size) * math.factorial(8 - size) / math.factorial(9)
        for chosen in combinations(range(9), size):
            for pixel in set(range(9)) - set(chosen):
                values[pixel] += weight * (worth({*chosen, pixel}) - worth(chosen))
    assert made["copies"].right.flatten().tolist() == pytest.approx(list(values))
    assert values[0] == pytest.approx(1 / 8)


def test_subsets_never_miss_one_copy_while_another_is_left(made):
    """All subsets, no draws: correlation -1 and 1 up to n = 7, the other way round at n = 8."""
    toy = made["copies"]
    for size in range(1, 9):
        sets = list(combinations(range(9), size))
        drops = [worth(range(9)) - worth(set(range(9)) - set(gone)) for gone in sets]
        found = [
            np.corrcoef([each.flatten()[list(gone)].sum() for gone in sets], drops)[0, 1] for each in (toy.right, toy.wrong)
        ]
        assert found == pytest.approx([1.0, -1.0] if size == 8 else [-1.0, 1.0])
    assert toy.scores == pytest.approx((-1.0, 1.0))
    assert toy.also["Sensitivity-n, copies, n = 8"] == pytest.approx((1.0, -1.0))
    assert toy.revealed == pytest.approx((0.0, 1.0)), "eight copies are worth 1, and the wrong map says 0"


def best_accuracy(left, labels):
    """Accuracy of the best answer to each distinct picture: what a classifier that is fitted to the end has."""
    seen = {}
    for picture, label in zip(left, labels, strict=True):
        seen.setdefault(tuple(np.ravel(picture)), []).append(int(label))
    return sum(max(found.count(0), found.count(1)) for found in seen.values()) / len(labels)


def test_the_removal_pattern_of_the_right_map_tells_the_label(made):
    inputs, labels = leak.pictures()
    fill = inputs.mean().item()
    assert fill not in (0.0, 0.5, 1.0)

    def without(places):
        left = inputs.flatten(1).clone()
        left[torch.arange(36), places] = fill
        return best_accuracy(left.numpy(), labels)

    anywhere = torch.arange(9).repeat(4)
    predicted = (inputs[:, 0, 0, 0] < inputs[:, 0, 0, 1]).long()
    by_hand = without(labels), without(torch.full((36,), 8))
    toy = made["leak"]
    assert toy.scores == pytest.approx(by_hand)
    assert by_hand == (1.0, 0.75)
    both = toy.also["RemOve And Retrain, untouched pictures and random map"]
    assert both == pytest.approx((best_accuracy(inputs.numpy(), labels), without(anywhere)))
    assert both == (0.75, 0.75)
    assert toy.also["RemOve And Retrain, map of the predicted class"][0] == without(predicted) == 0.75
    assert float((predicted == labels).double().mean()) == 0.75, "as many as the model gets right"
    assert toy.revealed == (1.0, 0.5)
    assert toy.also["Keep And Retrain"] == (1.0, 0.5)


def test_retraining_removes_keeps_and_hides():
    inputs, labels = leak.pictures()
    pair = inputs, labels, leak.one_hot(labels)

    def accuracy(fraction, **own):
        return leak.retrained(DecisionTreeClassifier(random_state=0), pair, pair, fraction, **own).mean()

    assert accuracy(0.0) == 0.75
    assert accuracy(1.0) == 0.5, "nothing is left"
    assert accuracy(0.0, show="pattern") == 0.5
    assert accuracy(1.0, keep=True) == 0.75
    other = inputs, 1 - labels, pair[2]
    swapped = leak.retrained(DecisionTreeClassifier(random_state=0), pair, other, 1 / 9)
    assert swapped.tolist() == [0.0] * 36, "trained on one, asked about the other"


def test_evidence_for_the_weaker_label_is_called_unsound(made):
    """r of label 1 by its right map is (s(4) + s(-4)) / 2 = 1/2, its p is s(-4) < 0.1: 0.1 / 0.5."""
    right = 0.1 / ((logistic(4) + logistic(-4)) / 2)
    wrong = logistic(4) / ((logistic(8) + logistic(4)) / 2)
    assert made["certificate"].scores == pytest.approx((right, wrong))
    assert right == pytest.approx(0.2)
    assert made["certificate"].also["certificate completeness"] == pytest.approx((1.0, 1.0))
    assert made["certificate"].revealed == pytest.approx((0.0, 4.0)), "8 is claimed for a logit of 4"


def test_any_map_is_complete_after_a_constant_is_added(made):
    generator = torch.Generator().manual_seed(0)
    maps, change = torch.randn(3, 1, 2, 5, generator=generator, dtype=torch.float64), torch.tensor([1.0, -2.0, 0.0]).double()
    found = completed(maps, change)
    assert found.flatten(1).sum(1).tolist() == pytest.approx(change.tolist())
    differences = (found - maps).flatten(1)
    assert torch.allclose(differences, differences[:, :1].expand_as(differences))
    toy = made["bookkeeping"]
    total = float((toy.image**3).sum())
    steps = 4
    assert toy.scores == pytest.approx((((steps + 1) * (2 * steps + 1) / (2 * steps**2) - 1) * total, 0.0))
    assert toy.revealed == pytest.approx((1.0, -1.0))
    assert torch.equal(toy.right.flatten().argsort(), toy.wrong.flatten().argsort().flip(0)), "the order reversed"


def test_a_permuted_map_has_the_same_gap(made):
    words = case(models.square(), [[1.0, 2.0], [0.5, 3.0]])
    maps = explained("integrated_gradients", words, steps=1, rule="right")
    one, other = asked("completeness_gap", words, (maps, maps.flip(3)))
    assert one == pytest.approx(other)
    assert one > 1


def test_one_learned_number_cannot_change_the_order_of_a_map(made):
    toy = made["randomised"]
    assert toy.scores[0] == pytest.approx(1.0)
    assert abs(toy.scores[1]) < 0.25
    assert toy.revealed[0] == pytest.approx(1.0)
    assert abs(toy.revealed[1]) < 0.25


def test_noise_of_the_weights_reads_nothing_but_the_weights():
    net = toys.one_number(4)
    words = case(net, torch.rand(4, 4, generator=torch.Generator().manual_seed(1)))
    first = noise_of_weights(net, words["inputs"], words["targets"])
    other = noise_of_weights(net, words["inputs"] + 1, words["targets"] + 1)
    assert torch.equal(first, other)
    both = noise_of_weights(net, torch.zeros(2, 1, 4, 4, dtype=torch.float64), torch.tensor([0, 1]))
    assert torch.equal(both, first.expand(2, -1, -1, -1))
    with hooks.randomised(net, ["1"], 0):
        again = noise_of_weights(net, words["inputs"], words["targets"])
    assert not torch.equal(first, again)
    assert torch.equal(first, noise_of_weights(net, words["inputs"], words["targets"]))


def test_a_model_of_the_background_is_rightly_explained_beside_the_object(made):
    toy = made["background"]
    bump = np.exp(-((np.arange(4) - 1.5) ** 2) / 2)
    expected = (bump[1:3].sum() / bump.sum()) ** 2
    assert toy.scores == (0.0, 1.0)
    assert toy.also["energy in box"] == pytest.approx((0.0, expected))
    assert toy.also["energy in box, all ones"] == pytest.approx((0.0, 4 / 16))
    assert toy.also["pixel IoU"][0] == 0
    assert toy.also["pixel IoU"][1] > 0.3
    assert toy.revealed == pytest.approx((0.5 * 12 / 32, 0.5 * 4 / 16 + 0.5 * 12 / 32))
    mask = places.middle()[0]
    words = case(models.planted(~mask), toy.image)
    gone = words["inputs"].masked_fill(mask, 0.0)
    assert torch.equal(words["model"](gone), words["model"](words["inputs"])), "the object is not read"


def test_bam_takes_for_granted_that_scenes_are_not_read_off_objects(made):
    """a of the model of objects: one of four pixels; of the model of scenes: all four. 1/4 - 1."""
    toy = made["occluded"]
    assert toy.scores == pytest.approx((-0.75, 0.0))
    assert toy.revealed[0] == pytest.approx(1.0)
    assert toy.revealed[1] < 0.9
    masks = places.middle()
    right = toy.right[None, None]
    tip = torch.zeros_like(right)
    tip[..., 1, 1] = 1
    objects, scenes = (metrics.object_maps(each, percentile=99) for each in (tip, right))
    assert metrics.model_contrast_score(objects, scenes, masks).average == pytest.approx(-0.75)


def test_a_constant_map_is_perfectly_stable(made):
    toy = made["steady"]
    assert toy.scores[1] == 0
    assert 0 < toy.scores[0] <= 0.02 * 1.0001, "||w d|| / ||w|| for |d| up to 0.02"
    assert toy.revealed == pytest.approx((1.0, -1.0))

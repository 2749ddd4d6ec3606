"""RemOve And Retrain on pictures where the answer is known."""

import functools

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from xai_lib.errors import InputError
from xai_lib.hooks import global_seed
from xai_lib.models.fit import fit, one_thread
from xai_lib.removal import Protocol
from xai_lib.retrain import accuracy_as_published, area_between, kar, roar

RECIPE = {"epochs": 12, "batch": 20, "learning_rate": 0.05, "optimiser": "adam"}
PLAIN = Protocol(fill=0.5)


def linear_net(*, seed):
    with global_seed(seed):
        return nn.Sequential(nn.Flatten(1), nn.Linear(16, 2))


@functools.cache
def striped(seed, n=200):
    """4 x 4 noise; pixel 5 alone tells the class, bright or dark."""
    generator = torch.Generator().manual_seed(seed)
    pictures, labels = torch.rand(n, 1, 4, 4, generator=generator), torch.arange(n) % 2
    pictures.view(n, 16)[:, 5] = labels * 0.8 + 0.1
    return pictures, labels


def pointing(pixel, n):
    maps = torch.zeros(n, 1, 4, 4)
    maps.view(n, 16)[:, pixel] = 1.0
    return maps


def table(method, **own):
    (x, y), (tx, ty) = striped(0), striped(1, 100)
    asked = {"recipe": RECIPE, "rules": PLAIN, "fractions": (1 / 16,), "seeds": (0, 1), **own}
    return method(linear_net, (x, y, own.pop("maps")[0]), (tx, ty, asked.pop("maps")[1]), **asked)


def both(pixel):
    return pointing(pixel, 200), pointing(pixel, 100)


def test_removing_the_pixel_that_tells_leaves_chance_and_any_other_nothing():
    told, other = (table(roar, maps=both(pixel)) for pixel in (5, 6))
    assert list(told.columns) == ["fraction", "seed", "accuracy", "n", "loss"]
    assert told.accuracy.max() < 0.65
    assert other.accuracy.min() > 0.97
    assert set(told.n) == {100}


def test_keeping_the_pixel_that_tells_is_enough_and_any_other_is_not():
    told, other = (table(kar, maps=both(pixel)) for pixel in (5, 6))
    assert told.accuracy.min() == 1.0
    assert other.accuracy.max() < 0.65


def test_e24_maps_made_for_the_label_give_it_away_though_every_picture_is_noise():
    """The removal pattern alone tells the class: pixel 0 goes in one class, pixel 15 in the other."""
    leaking = [
        torch.where(y[:, None, None, None] == 0, *(pointing(p, len(y)) for p in (0, 15)))
        for _, y in (striped(0), striped(1, 100))
    ]
    assert table(roar, maps=leaking, show="pattern").accuracy.min() == 1.0
    assert table(roar, maps=both(6), show="pattern").accuracy.max() < 0.65


def test_tv37_random_and_permuted_maps_give_the_same_accuracies():
    """Both remove 12 of 16 pixels at random places: the means of 12 trainings differ by less than their spread allows."""
    generator = torch.Generator().manual_seed(5)
    noise = [torch.randn(n, 1, 4, 4, generator=generator) for n in (200, 100)]
    steep = torch.arange(16.0).exp()
    permuted = [
        torch.stack([steep[torch.randperm(16, generator=generator)] for _ in range(n)]).reshape(n, 1, 4, 4) for n in (200, 100)
    ]
    made = [table(roar, maps=maps, fractions=(0.75,), seeds=range(12)).accuracy for maps in (noise, permuted)]
    spread = np.hypot(*(each.std() / 12**0.5 for each in made))
    assert 0.5 < made[0].mean() < 0.8
    assert abs(made[0].mean() - made[1].mean()) < 4 * spread + 0.05


def test_a_training_gives_the_same_bytes_whatever_the_threads_around_it():
    x, y = striped(0)
    states = []
    for threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        net, record = fit(linear_net, x, y, seed=3, recipe=RECIPE)
        assert torch.get_num_threads() == threads
        torch.set_num_threads(before)
        states.append([*(p.detach().numpy().tobytes() for p in net.parameters()), record.losses])
    assert states[0] == states[1]


def test_one_thread_puts_the_threads_back_after_an_error():
    before, seen = torch.get_num_threads(), []

    def fails():
        with one_thread():
            seen.append(torch.get_num_threads())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert seen == [1]
    assert torch.get_num_threads() == before


def test_area_between_by_hand():
    """Gaps 0, .2, .4 at .1, .3, .7: (.2 * .1 + .4 * .3) / .6."""
    assert area_between([0.1, 0.3, 0.7], [0.9, 0.7, 0.4], [0.9, 0.9, 0.8]) == pytest.approx(0.14 / 0.6)
    rows = area_between([0, 1], [[0.5, 0.5], [1, 1]], [[1, 1], [1, 1]])
    assert rows.tolist() == [0.5, 0.0]
    with pytest.raises(InputError, match="must rise"):
        area_between([0.5, 0.1], [1, 1], [1, 1])


def test_e26_a_constant_answer_scores_exactly_one_tenth_and_only_628_digits_count():
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    truth = np.repeat(np.arange(10), counts)
    shuffled = np.random.default_rng(0).permutation(truth)
    assert accuracy_as_published(np.ones(10_000), shuffled, range(10_000)) == 0.1
    # right on exactly the counted digits is 1; the order of the files decides which those are
    names = list(range(10_000))
    files = pd.DataFrame({"truth": shuffled, "file": [f"{k}.png" for k in names]}).sort_values(["truth", "file"]).index
    counted = [k for place, k in enumerate(files) if place % 64 < 4]
    assert len(counted) == 628
    found = np.where(np.isin(names, counted), shuffled, (shuffled + 1) % 10)
    assert accuracy_as_published(found, shuffled, names) == 1.0
    assert accuracy_as_published(np.where(np.isin(names, counted), (shuffled + 1) % 10, shuffled), shuffled, names) == 0.0


def test_percentages_are_cut_not_rounded():
    """2 of 3 counted digits right: 66.67 % becomes 66 %."""
    assert accuracy_as_published([0, 0, 1], [0, 0, 0], [0, 1, 2]) == 0.66

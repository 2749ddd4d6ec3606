"""Regions of drawn digits with known answers, and the ink that is added to their ground."""

import numpy as np
import pytest
import torch

from xai_lib import METRICS, digit_regions
from xai_lib.added_ink import ground_order, with_ink
from xai_lib.digit_regions import REGIONS, region
from xai_lib.errors import ConfigError, InputError

ZERO = """
.........
..#####..
..#...#..
..#...#..
..#...#..
..#####..
.........
"""
FOUR = """
.........
..#...#..
..#...#..
..#####..
......#..
......#..
.........
"""
FIVE = """
.........
..#####..
..#......
..#####..
......#..
..#####..
.........
"""
NINE = """
.........
..#####..
..#...#..
..#####..
......#..
......#..
.........
"""
EMPTY = "\n".join(["", *["." * 9] * 7, ""])
NAMED = [name for name in REGIONS if name not in ("far", "frame")]


def drawn(*pictures: str, mark: str = "#") -> torch.Tensor:
    return torch.tensor([[[c == mark for c in line] for line in one.split()] for one in pictures])


def places(mask: torch.Tensor) -> list[list[int]]:
    """[row, column] of the pixels of the only mask."""
    (one,) = mask
    return one.nonzero().tolist()


def block(rows: range, columns: range) -> list[list[int]]:
    return [[row, column] for row in rows for column in columns]


def test_named_places_of_drawn_digits():
    assert places(region("upper gap", drawn(FOUR))) == block(range(1, 3), range(3, 6))
    assert places(region("hole", drawn(ZERO))) == block(range(2, 5), range(3, 6))
    assert places(region("hole", drawn(NINE))) == block(range(2, 3), range(3, 6))
    assert places(region("lower left gap", drawn(FIVE))) == block(range(4, 5), range(2, 6))
    assert places(region("lower third", drawn(FOUR))) == block(range(5, 6), range(2, 7))
    assert places(region("crossing", drawn(NINE), radius=1)) == block(range(2, 5), range(5, 8))
    assert places(region("centre disc", drawn(ZERO), share=0.4)) == [[2, 4], [3, 3], [3, 4], [3, 5], [4, 4]]


def test_digits_without_the_place_have_an_empty_region():
    for name, one in {"hole": FOUR, "crossing": ZERO, "lower left gap": ZERO, "upper gap": FIVE}.items():
        assert not region(name, drawn(one)).any(), name
    for name in NAMED:
        assert not region(name, drawn(EMPTY)).any(), name


def test_a_hole_is_not_left_across_a_corner_and_a_gap_needs_both_strokes():
    corner = drawn("....\n.##.\n#.#.\n.##.\n....")  # the hole touches the ground outside at no side, ink at every side
    assert places(region("hole", corner)) == [[2, 1]]
    assert not region("upper gap", drawn("....\n..#.\n..#.\n.##.\n.#..")).any()


def test_the_middle_row_belongs_to_no_half():
    """Five rows: the upper half is the first two, the lower half the last two."""
    sides = "#.#\n" * 5
    assert places(region("upper gap", drawn(sides))) == [[0, 1], [1, 1]]
    assert places(region("upper gap", drawn("#.#\n" * 4))) == [[0, 1], [1, 1]]
    open_left = "..###\n" + "....#\n" * 3 + "..###\n"
    assert places(region("lower left gap", drawn(open_left))) == [[3, 2], [3, 3]]


def test_ring_and_far_split_the_ground():
    for width in (1, 2, 3):
        ink = drawn(ZERO, FOUR, NINE, EMPTY)
        near, away = digit_regions.ring(ink, width=width), digit_regions.far(ink, width=width)
        assert torch.equal(ink.int() + near.int() + away.int(), torch.ones_like(ink, dtype=torch.int))
        distance = torch.full(ink.shape, 99)
        for i, row, column in ink.nonzero().tolist():
            rows, columns = torch.arange(7)[:, None], torch.arange(9)
            steps = torch.maximum((rows - row).abs(), (columns - column).abs())
            distance[i] = torch.minimum(distance[i], steps)
        assert torch.equal(near, (distance > 0) & (distance <= width))


def test_the_frame_is_the_same_for_all():
    made = region("frame", drawn(ZERO, EMPTY), width=2)
    assert torch.equal(made[0], made[1])
    assert (~made[0]).nonzero().tolist() == block(range(2, 5), range(2, 7))
    assert region("frame", drawn(ZERO), width=4).all()


def test_the_disc_grows_with_the_smaller_side_of_the_ink():
    wide = torch.zeros(1, 40, 60, dtype=torch.bool)
    wide[0, 10:30, 5:55] = True
    made = region("centre disc", wide, share=0.5)
    rows, columns = np.mgrid[:40, :60]
    assert torch.equal(made[0], torch.from_numpy((rows - 19.5) ** 2 + (columns - 29.5) ** 2 <= 25))


@pytest.mark.parametrize(("lines", "count"), [
    ("..#..\n..#..\n#####\n..#..\n..#..", 1),
    ("..#..\n..#..\n###..\n..#..\n..#..", 1),
    (".....\n#####\n.....\n.....\n.....", 0),
    ("#....\n#....\n#....\n#####\n.....", 0),
])  # fmt: skip
def test_strokes_meet_where_three_lines_begin(lines, count):
    """A plus and a T meet once, a line and a corner never."""
    made = region("crossing", drawn(lines), radius=1)
    assert made.any().item() == bool(count)
    assert not count or places(made) == block(range(1, 4), range(1, 4))


def test_regions_belong_to_the_picture_and_move_with_it():
    ink = drawn(ZERO, FOUR, FIVE, NINE)
    moved = ink.roll((1, 1), dims=(1, 2))
    for name in (n for n in NAMED if n != "ring"):
        made = region(name, ink)
        torch.testing.assert_close(made, torch.cat([region(name, ink[i : i + 1]) for i in range(4)]))
        if name != "crossing":
            torch.testing.assert_close(region(name, moved), made.roll((1, 1), dims=(1, 2)))


def test_odd_requests_are_refused():
    with pytest.raises(InputError, match="pictures"):
        digit_regions.ink_of(torch.zeros(3, 3))
    with pytest.raises(ConfigError, match="threshold=1"):
        digit_regions.ink_of(torch.zeros(1, 1, 3, 3), threshold=1)
    with pytest.raises(ConfigError, match="did you mean 'hole'"):
        region("holes", drawn(ZERO))
    with pytest.raises(ConfigError, match="width=0"):
        digit_regions.ring(drawn(ZERO), width=0)
    with pytest.raises(ConfigError, match="share=0"):
        digit_regions.centre_disc(drawn(ZERO), share=0)
    for name in REGIONS:
        if name != "ink":
            with pytest.raises(InputError, match="bool"):
                region(name, torch.ones(1, 5, 5))


def test_ink_is_above_the_threshold_in_any_channel():
    inputs = torch.tensor([[0.1, 0.5, 0.0], [0.0, 0.0, 0.11]]).reshape(1, 2, 1, 3)
    assert digit_regions.ink_of(inputs).tolist() == [[[False, True, True]]]
    assert digit_regions.ink_of(inputs, threshold=0.5).tolist() == [[[False, False, False]]]


# --- energy -------------------------------------------------------------------------------------------------------------------


def ask(name: str, attributions: torch.Tensor, masks: torch.Tensor, **own: str) -> list[float]:
    return METRICS.bind(name, **own)(attributions, masks).tolist()


def test_energy_of_known_maps():
    one = torch.tensor([[[[3.0, -1.0], [0.0, 4.0]]]])
    left = torch.tensor([[[True, False], [True, False]]])
    assert ask("energy_in_mask", one, left) == [3 / 8]
    assert ask("energy_density", one, left) == [3 / 4]
    assert ask("energy_density", torch.ones(1, 1, 2, 2), left) == [1]
    inside = torch.zeros(1, 1, 10, 10)
    inside[0, 0, 0, :4] = 0.5
    assert ask("energy_density", inside, inside[:, 0] > 0) == pytest.approx([25])
    assert ask("energy_density", inside, inside[:, 0] == 0) == [0]
    assert ask("energy_density", inside, torch.ones(1, 10, 10, dtype=torch.bool)) == [1]


def test_energy_over_all_parts_adds_up_and_knows_no_scale():
    g = torch.Generator().manual_seed(0)
    one, masks = torch.randn(3, 2, 5, 6, generator=g), torch.rand(3, 5, 6, generator=g) > 0.4
    inside, outside = (torch.tensor(ask("energy_in_mask", one, m)) for m in (masks, ~masks))
    torch.testing.assert_close(inside + outside, torch.ones(3))
    assert ask("energy_density", -7 * one, masks) == pytest.approx(ask("energy_density", one, masks))
    for i in range(3):
        sizes = one[i].abs().sum(0)
        assert inside[i].item() == pytest.approx((sizes[masks[i]].sum() / sizes.sum()).item())
    signed = ask("energy_in_mask", torch.tensor([[[[1.0, 3.0]], [[1.0, -3.0]]]]), torch.tensor([[[True, False]]]), reduce="sum")
    assert signed == [1]
    against = torch.tensor([[[[-1.0, 3.0]]]])
    assert ask("energy_in_mask", against, torch.tensor([[[True, False]]]), reduce="sum") == [0.25]


def test_a_random_map_has_density_one_on_average():
    noise = torch.randn(400, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(400, 12, 12, dtype=torch.bool)
    mask[:, 3:6, 2:9] = True
    assert np.mean(ask("energy_density", noise, mask)) == pytest.approx(1, abs=0.03)


def test_energy_is_undefined_without_mask_or_map():
    one = torch.stack([torch.ones(1, 2, 2), torch.zeros(1, 2, 2), torch.full((1, 2, 2), torch.nan), torch.ones(1, 2, 2)])
    masks = torch.ones(4, 2, 2, dtype=torch.bool)
    masks[3] = False
    for name in ("energy_in_mask", "energy_density"):
        found = METRICS.bind(name)(one, masks)
        assert torch.isnan(found).tolist() == [False, True, True, True]
        for bad in (masks.float(), masks[:2], None):
            with pytest.raises(InputError, match="masks"):
                METRICS.bind(name)(one, bad)


# --- added ink ----------------------------------------------------------------------------------------------------------------


def test_ground_comes_in_order_of_priority_and_ink_last():
    priority = torch.tensor([[[5.0, -1.0, 2.0], [9.0, 0.0, 7.0]]])
    ink = torch.tensor([[[False, False, False], [True, False, True]]])
    order = ground_order(priority, ink)[0].tolist()
    assert order[:4] == [0, 2, 4, 1]
    assert sorted(order[4:]) == [3, 5]


def test_equal_priorities_come_in_a_random_order_of_the_picture():
    ink = drawn(ZERO, FOUR)
    flat = torch.zeros(2, 7, 9)
    made, other = (ground_order(flat, ink, seed=seed) for seed in (0, 1))
    assert torch.equal(made[1:], ground_order(flat[1:], ink[1:]))
    assert not torch.equal(made, other)
    for one, own in zip(made, ink, strict=True):
        ground = (~own).flatten().nonzero().flatten().tolist()
        assert sorted(one[: len(ground)].tolist()) == ground
        assert one[: len(ground)].tolist() != ground
    gap = region("upper gap", ink)
    first = ground_order(gap.double(), ink)[1, : int(gap[1].sum())]
    assert sorted(first.tolist()) == gap[1].flatten().nonzero().flatten().tolist()


def test_ink_is_added_in_all_channels_and_never_taken_away():
    inputs = torch.tensor([0.2, 0.9, 0.0, 0.4]).reshape(1, 1, 2, 2).repeat(1, 3, 1, 1)
    order = torch.tensor([[1, 0, 2, 3]])
    made = with_ink(inputs, order, 2, value=0.5)
    assert made[0].flatten(1).tolist() == [pytest.approx([0.5, 0.9, 0.0, 0.4])] * 3
    assert torch.equal(with_ink(inputs, order, 0), inputs)
    assert with_ink(inputs, order, 4).eq(1).all()
    assert inputs.max() == pytest.approx(0.9)


def test_odd_orders_are_refused():
    ink = drawn(ZERO)
    with pytest.raises(InputError, match="ink"):
        ground_order(torch.zeros(1, 7, 9), ink.float())
    with pytest.raises(InputError, match="priority"):
        ground_order(torch.full((1, 7, 9), torch.nan), ink)
    order = ground_order(torch.zeros(1, 7, 9), ink)
    with pytest.raises(InputError, match="order"):
        with_ink(torch.zeros(1, 1, 8, 8), order, 2)
    for k, value in ((64, 1.0), (2, 1.5), (-1, 1.0)):
        with pytest.raises(ConfigError, match="k="):
            with_ink(torch.zeros(1, 1, 7, 9), order, k, value=value)

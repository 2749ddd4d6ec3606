"""Contour analysis on pictures: arrays drawn as text beside the patch they must give."""

import numpy as np
import pytest
import torch
from cv2 import contourArea
from hypothesis import given, settings
from hypothesis import strategies as st

from xai_lib import contours
from xai_lib.errors import ConfigError, InputError


def drawn(text: str) -> torch.Tensor:
    """A bool mask from lines of `#` (set) and `.` (not set)."""
    return torch.tensor([[mark == "#" for mark in line] for line in text.split()])


def art(mask: torch.Tensor | np.ndarray) -> str:
    return "\n".join("".join("#" if pixel else "." for pixel in row) for row in mask.tolist())


PLAIN = {"open_iterations": 0, "dilate_iterations": 0}


def from_picture(text: str, **own) -> contours.ContourSteps:
    picture = drawn(text)
    return contours.pipeline(picture.float(), fraction=picture.double().mean().item(), **own)


TV_30_HULL = """
....................
....................
....................
...######...........
...#######..........
...########.........
...#########........
...##########.......
...###########......
....###########.....
.....###########....
......###########...
........#########...
.........########...
..........#######...
...........######...
....................
....................
....................
....................
"""


def tv_30(**own) -> contours.ContourSteps:
    attribution = torch.zeros(20, 20)
    attribution[4:8, 4:8] = 1.0
    attribution[12:15, 12:16] = 0.9
    attribution[18, 1] = 0.8
    return contours.pipeline(attribution, fraction=29 / 400, open_size=3, dilate_size=3, dilate_iterations=1, **own)


def test_tv_30():
    steps = tv_30()
    assert [int(mask.sum()) for mask in (steps.top, steps.opened, steps.dilated, steps.patch)] == [29, 28, 66, 114]
    assert len(steps.contours) == 2
    assert contourArea(steps.hull) == 96
    assert art(steps.patch).split() == TV_30_HULL.split()
    assert steps.area_fraction == 114 / 400
    assert not steps.fell_back


def test_tv_30_rectangle():
    patch = tv_30(variant="rectangle").patch
    assert int(patch.sum()) == 182
    assert patch[3 : 3 + 13, 3 : 3 + 14].all()


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("hull", "######.. #######. .####### ..######"),
        ("rectangle", "######## ######## ######## ########"),
        ("polylines", "######.. #######. .####### ..######"),
    ],
)
def test_variants_of_one_outline(variant, expected):
    ring = "######.. ##...##. .##...## ..######"
    steps = from_picture(ring, variant=variant, **PLAIN)
    # the outer contour of a ring is filled, so its hole belongs to every variant
    assert art(steps.patch).split() == expected.split()


def test_polylines_follow_a_dent_that_the_hull_closes():
    dent = "##...## ##...## ####### #######"
    assert art(from_picture(dent, variant="polylines", **PLAIN).patch).split() == dent.split()
    assert art(from_picture(dent, variant="hull", **PLAIN).patch).split() == ["#######"] * 4


def test_polylines_keep_several_contours_apart():
    parts = "##....### ##....### ......### .##...... .##......"
    assert art(from_picture(parts, variant="polylines", **PLAIN).patch).split() == parts.split()


def test_one_stray_pixel_inflates_the_hull_unless_opening_removes_it():
    stray = "#........ ......... ......... ......### ......### ......###"
    inflated = "##....... .####.... ..#####.. ....##### .....#### ......###"
    assert art(from_picture(stray, **PLAIN).patch).split() == inflated.split()
    removed = from_picture(stray, open_iterations=1, dilate_iterations=0)
    assert art(removed.patch).split() == [".........", ".........", ".........", "......###", "......###", "......###"]


def test_empty_after_opening_falls_back_to_the_top_mask():
    scattered = "#...... ....... ...#... ....... ......#"
    steps = from_picture(scattered, open_iterations=1, dilate_iterations=0)
    assert steps.fell_back
    assert art(steps.opened).split() == scattered.split()
    assert steps.patch[2, 3]


def test_dilation_by_iterations_and_size():
    dot = "..... ..... ..#.. ..... ....."
    once = from_picture(dot, open_iterations=0, dilate_size=3, dilate_iterations=1)
    assert art(once.dilated).split() == [".....", ".###.", ".###.", ".###.", "....."]
    assert from_picture(dot, open_iterations=0, dilate_size=3, dilate_iterations=2).dilated.all()
    assert from_picture(dot, open_iterations=0, dilate_size=5, dilate_iterations=1).dilated.all()


def test_kernels_scale_from_224():
    assert [contours.scaled_kernel(3, side) for side in (28, 224, 448)] == [3, 3, 7]
    assert [contours.scaled_kernel(5, side) for side in (28, 224, 448)] == [3, 5, 11]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    fraction=st.floats(0.02, 0.5),
    open_iterations=st.integers(0, 1),
    dilate_iterations=st.integers(0, 2),
)
def test_variants_are_nested_and_hold_the_dilated_mask(seed, fraction, open_iterations, dilate_iterations):
    attribution = torch.randn(1, 17, 23, generator=torch.Generator().manual_seed(seed)).cumsum(1).cumsum(2)
    own = {"fraction": fraction, "open_iterations": open_iterations, "dilate_iterations": dilate_iterations}
    polylines, hull, rectangle = (
        contours.patch_masks(attribution, variant=variant, **own)[0] for variant in ("polylines", "hull", "rectangle")
    )
    dilated = torch.from_numpy(contours.pipeline(attribution[0], **own).dilated)
    assert bool((polylines | ~dilated).all())
    assert bool((hull | ~polylines).all())
    assert bool((rectangle | ~hull).all())
    top, bottom, left, right = (int(v) for v in (*hull.any(1).nonzero()[[0, -1], 0], *hull.any(0).nonzero()[[0, -1], 0]))
    assert int(rectangle.sum()) == (bottom - top + 1) * (right - left + 1)


def test_patches_do_not_depend_on_company():
    attributions = torch.randn(4, 24, 24, generator=torch.Generator().manual_seed(0))
    together = contours.patch_masks(attributions)
    assert together.dtype == torch.bool
    assert torch.equal(together, torch.cat([contours.patch_masks(one[None]) for one in attributions]))


def test_refusals():
    attribution = torch.rand(1, 8, 8)
    with pytest.raises(ConfigError, match="did you mean 'hull'"):
        contours.patch_masks(attribution, variant="hul")
    with pytest.raises(ConfigError, match="open_size 4"):
        contours.patch_masks(attribution, open_size=4)
    with pytest.raises(ConfigError, match="iterations"):
        contours.patch_masks(attribution, dilate_iterations=-1)
    with pytest.raises(InputError, match=r"\(n, h, w\)"):
        contours.patch_masks(attribution[None])
    with pytest.raises(InputError, match=r"one map \(h, w\)"):
        contours.pipeline(attribution)


def images_and_masks() -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.rand(2, 3, 4, 6, generator=torch.Generator().manual_seed(1))
    return images, torch.stack([drawn("...... .##... .##... ......"), drawn("###### ###### ###### ######")])


@pytest.mark.parametrize("fill", ["black", "mean", "blur"])
def test_fills_keep_the_inside_and_replace_the_outside(fill):
    images, masks = images_and_masks()
    filled = contours.fill_outside(images, masks, fill)
    assert torch.equal(filled[1], images[1])
    assert torch.equal(filled[0, :, 1:3, 1:3], images[0, :, 1:3, 1:3])
    outside = filled[0][:, ~masks[0]]
    if fill == "blur":
        assert not torch.equal(outside, images[0][:, ~masks[0]])
    else:
        colour = images[0].mean(dim=(1, 2)) if fill == "mean" else torch.zeros(3)
        assert torch.allclose(outside, colour[:, None].expand_as(outside))


def test_tv_31_the_mean_pixel_of_a_white_image_is_the_area():
    _, masks = images_and_masks()
    filled = contours.fill_outside(torch.ones(2, 1, 4, 6), masks, "black")
    assert filled.mean(dim=(1, 2, 3)).tolist() == pytest.approx([4 / 24, 1.0])


def test_crop_resize_enlarges_the_box():
    images, masks = images_and_masks()
    images[0, :, 1:3, 1:3] = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    filled = contours.fill_outside(images, masks, "crop_resize")
    assert torch.equal(filled[1], images[1])
    assert torch.allclose(filled[0, 0], torch.tensor([0.0, 0.25, 0.75, 1.0])[:, None].expand(4, 6))


def test_fill_refusals():
    images, masks = images_and_masks()
    with pytest.raises(ConfigError, match="Known: black, blur, crop_resize, mean"):
        contours.fill_outside(images, masks, "grey")
    with pytest.raises(InputError, match="bool"):
        contours.fill_outside(images, masks.float())
    with pytest.raises(InputError, match="do not fit"):
        contours.fill_outside(images, masks[:1])
    with pytest.raises(InputError, match="no pixel is set"):
        contours.fill_outside(images, masks & False, "crop_resize")


def test_centre_control_drawn():
    masks = torch.stack(
        [drawn("########## .......... .......... .......... .........."), drawn("#......... " + ".......... " * 4)]
    )
    centre = contours.centre_masks(masks)
    assert int(centre[0].sum()) == 10
    assert int(centre[1].sum()) == 1
    assert bool((centre[0] | ~centre[1]).all())
    eighteen = torch.zeros(1, 5, 10, dtype=torch.bool)
    eighteen[0, 0], eighteen[0, 1, :8] = True, True
    block = ".......... ..######.. ..######.. ..######.. .........."
    assert art(contours.centre_masks(eighteen)[0]).split() == block.split()


def test_random_control_moves_the_shape_and_keeps_its_pixels():
    corner = torch.zeros(1, 12, 12, dtype=torch.bool)
    corner[0, :3, :4] = drawn("##.. #### .##.")
    places = [contours.random_masks(corner, seed)[0] for seed in range(300)]
    rows, columns = set(), set()
    for place in places:
        ys, xs = place.nonzero().T
        rows.add(int(ys.min()))
        columns.add(int(xs.min()))
        assert torch.equal(place[ys.min() : ys.min() + 3, xs.min() : xs.min() + 4], corner[0, :3, :4])
        assert int(place.sum()) == 8
    assert rows == set(range(10))
    assert columns == set(range(9))
    assert torch.equal(contours.random_masks(corner, 5)[0], places[5])


def test_random_control_of_a_mask_that_cannot_move_is_itself():
    full = drawn("#.. ... ..#")[None]
    assert torch.equal(contours.random_masks(full, 0), full)

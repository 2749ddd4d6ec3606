"""Draws belong to one image: its values, the seed and the drawing function; nothing else."""

import pytest
import torch

from xai_lib import randomness


def draw(inputs, seed=0, name="a"):
    return randomness.per_image(inputs, seed, name, lambda x, g: torch.rand(x.shape, generator=g))


def test_values_seed_and_name_matter_and_company_does_not(images):
    whole = draw(images)
    assert torch.equal(draw(images[[3]]), whole[[3]])
    assert not torch.equal(draw(images, seed=1), whole)
    assert not torch.equal(draw(images, name="b"), whole)
    assert not torch.equal(draw(images + 1e-3), whole)


def test_dtype_device_layout_do_not_matter(images):
    torch.testing.assert_close(draw(images.double()), draw(images).double())
    assert torch.equal(draw(images.to(memory_format=torch.channels_last)), draw(images))


def test_the_key_is_stable_across_versions_and_machines():
    assert randomness.key(0, "a", randomness.digest(torch.zeros(2))) == 2789997385671758143


def test_copies_draw_as_their_originals_only_inside_the_block(images):
    moved = images + 0.01
    own = draw(moved)
    with randomness.drawn_as(moved[:2], [randomness.digest(x) for x in images[:2]]):
        inside = draw(moved)
    assert torch.equal(inside[:2], draw(images)[:2])
    assert torch.equal(inside[2:], own[2:])
    assert torch.equal(draw(moved), own)


def test_the_block_is_left_after_an_error(images):
    with pytest.raises(ValueError, match="stop"), randomness.drawn_as(images[:1], ["x"]):
        raise ValueError("stop")
    assert randomness.digest(images[0]) == randomness.image_values(images[0])

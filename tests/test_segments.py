"""Superpixels: picture tests, slow twins, scikit-image and lime as cross-checks."""

import numpy as np
import pytest
import torch

from xai_lib import baselines, segments
from xai_lib.errors import ConfigError, InputError


def smooth(n, channels, side, seed=0):
    """Pictures with structure: blurred noise, stretched to [0, 1]."""
    noise = torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(seed))
    made = baselines.blur(noise, sigma=side / 10)
    low, high = made.amin(dim=(1, 2, 3), keepdim=True), made.amax(dim=(1, 2, 3), keepdim=True)
    return (made - low) / (high - low)


X = smooth(3, 3, 32)


def loop_mean(values, labels):
    made = torch.zeros_like(values)
    for i, (image, own) in enumerate(zip(values, labels, strict=True)):
        for channel in range(len(image)):
            for k in own.unique():
                made[i, channel][own == k] = image[channel][own == k].mean()
    return made


# --- segmentations ------------------------------------------------------------------------------------------------------------


def test_slic_is_that_of_scikit_image_in_the_setting_of_document_004():
    from skimage.segmentation import slic

    own = slic(X[1].permute(1, 2, 0).double().numpy(), n_segments=100, compactness=10, sigma=1, start_label=0, channel_axis=-1)
    made = segments.segment("slic", X)
    np.testing.assert_array_equal(made[1].numpy(), own)
    assert made.dtype == torch.int64
    assert 80 <= min(segments.counts(made)) <= max(segments.counts(made)) <= 125  # asked for 100


def test_slic_keeps_to_an_edge():
    """Left half black, right half white: no segment lies on both sides."""
    x = torch.zeros(1, 3, 16, 16)
    x[..., 8:] = 1
    made = segments.slic(x, n_segments=8, sigma=0)[0]
    assert not set(made[:, :8].flatten().tolist()) & set(made[:, 8:].flatten().tolist())


def test_grey_pictures_are_cut_like_the_same_picture_in_colour():
    grey = smooth(2, 1, 28)
    for name in ("slic", {"quickshift": {"kernel_size": 1}}):
        made = segments.segment(name, grey)
        assert torch.equal(made, segments.segment(name, grey.expand(-1, 3, -1, -1)))
        assert min(segments.counts(made)) > 5


def test_two_channels_are_compared_as_they_are():
    x = torch.zeros(1, 2, 8, 8)
    x[:, 1, :4] = 1
    made = segments.slic(x, n_segments=4, compactness=0.01, sigma=0)[0]
    assert not set(made[:4].flatten().tolist()) & set(made[4:].flatten().tolist())
    assert len(segments.quickshift(smooth(1, 2, 28), kernel_size=1.0, ratio=1.0).unique()) > 1


@pytest.mark.parametrize("name", ["slic", "quickshift"])
@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"n_segments": 0}, "n_segments=0"),
        ({"n_segments": 2.5}, "n_segments=2.5"),
        ({"compactness": 0}, "compactness=0"),
        ({"sigma": -1}, "sigma=-1"),
        ({"kernel_size": 0.5}, "kernel_size=0.5"),
        ({"max_dist": 0}, "max_dist=0"),
        ({"ratio": 1.5}, "ratio=1.5"),
        ({"rows": 2}, "unknown parameter"),
    ],
)
def test_settings_out_of_range_are_refused(name, own, message):
    known = segments.SEGMENTATIONS[name].parameters
    with pytest.raises(ConfigError, match=message if set(own) <= set(known) else "unknown parameter"):
        segments.segment({name: own}, X)


def test_quickshift_is_that_of_the_lime_package():
    from lime.wrappers.scikit_image import SegmentationAlgorithm

    cut = SegmentationAlgorithm("quickshift", kernel_size=4, max_dist=200, ratio=0.2, random_seed=7)
    x = smooth(1, 3, 64, seed=3)
    made = segments.quickshift(x)[0]
    assert len(made.unique()) > 3
    np.testing.assert_array_equal(made.numpy(), cut(x[0].permute(1, 2, 0).double().numpy()))


def test_a_grid_of_five_by_four_pixels():
    made = segments.grid(torch.zeros(2, 1, 5, 4), rows=2, columns=3)
    drawn = [[0, 0, 1, 2], [0, 0, 1, 2], [0, 0, 1, 2], [3, 3, 4, 5], [3, 3, 4, 5]]
    assert made.tolist() == [drawn, drawn]
    assert segments.grid(torch.zeros(1, 1, 1, 2)).tolist() == [[[0, 1]]]
    for own in ({"rows": 0}, {"columns": True}):
        with pytest.raises(ConfigError, match="expected an integer of at least 1"):
            segments.segment({"grid": own}, X)


@pytest.mark.parametrize("name", segments.SEGMENTATIONS)
def test_segments_belong_to_their_image_alone(name):
    x = smooth(3, 3, 64, seed=3)
    made = segments.segment(name, x)
    assert torch.equal(made, segments.segment(name, x))
    assert torch.equal(made[2], segments.segment(name, x[[2, 0]])[0])
    assert torch.equal(made, segments.segment(name, x.double()))
    for own, size in zip(made, segments.counts(made), strict=True):
        assert own.unique().tolist() == list(range(size))


def test_given_label_maps_are_numbered_in_ascending_order():
    given = torch.tensor([[[7, 7, -2], [30, 7, 7]], [[1, 2, 3], [1, 2, 3]]], dtype=torch.int32)
    made = segments.segment(given, torch.zeros(2, 3, 2, 3))
    assert made.tolist() == [[[1, 1, 0], [2, 1, 1]], [[0, 1, 2], [0, 1, 2]]]
    assert segments.counts(made) == [3, 3]
    assert torch.equal(segments.segment(lambda x: given, torch.zeros(2, 3, 2, 3)), made)


BAD = {
    "one map for all": torch.zeros(32, 32, dtype=torch.int64),
    "a channel": torch.zeros(3, 1, 32, 32, dtype=torch.int64),
    "too few": torch.zeros(2, 32, 32, dtype=torch.int64),
    "another size": torch.zeros(3, 32, 31, dtype=torch.int64),
    "float": torch.zeros(3, 32, 32),
    "masks": torch.zeros(3, 32, 32, dtype=torch.bool),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_label_map_is_refused(kind):
    with pytest.raises(InputError, match=r"integer label maps of shape \(3, 32, 32\).* got "):
        segments.segment(BAD[kind], X)
    with pytest.raises(InputError, match="got list"):
        segments.segment(lambda x: [[0, 1]], X)


def test_one_segment_only_is_refused_by_number():
    given = torch.arange(3)[:, None, None].expand(3, 32, 32).clone()
    given[1, 0, 0] = 9
    with pytest.raises(InputError, match=r"images \[0, 2\] are one segment only.*'grid'"):
        segments.segment(given, X)


def test_unknown_segmentations_and_tables_are_refused():
    with pytest.raises(ConfigError, match=r"unknown segmentation 'slik': did you mean 'slic'"):
        segments.segment("slik", X)
    with pytest.raises(InputError, match=r"expected images .* got shape \(2, 4\)"):
        segments.segment("grid", torch.zeros(2, 4))


# --- means, spreading, borders ------------------------------------------------------------------------------------------------


def test_means_are_those_of_a_loop_and_keep_every_sum():
    labels = segments.segment({"slic": {"n_segments": 12}}, X)
    values = torch.randn(X.shape, generator=torch.Generator().manual_seed(1))
    made = segments.segment_mean(values, labels)
    torch.testing.assert_close(made, loop_mean(values, labels))
    torch.testing.assert_close(made.sum(dim=(2, 3)), values.sum(dim=(2, 3)), atol=1e-4, rtol=1e-4)
    for i, size in enumerate(segments.counts(labels)):
        means = segments.segment_means(values, labels)[i]
        assert means[:, size:].eq(0).all()
        assert means[1, size - 1].item() == pytest.approx(values[i, 1][labels[i] == size - 1].mean().item(), rel=1e-5)


def test_nan_stays_in_its_segment():
    values = torch.ones(1, 1, 2, 2)
    values[0, 0, 0, 0] = torch.nan
    made = segments.segment_mean(values, torch.tensor([[[0, 0], [1, 1]]]))
    assert made.isnan().flatten().tolist() == [True, True, False, False]
    assert made[0, 0, 1].tolist() == [1, 1]


def test_means_need_maps_that_fit():
    for values in (torch.zeros(1, 2, 2), torch.zeros(2, 1, 2, 2), torch.zeros(1, 1, 2, 3)):
        with pytest.raises(InputError, match="label maps"):
            segments.segment_mean(values, torch.zeros(1, 2, 2, dtype=torch.int64))


def test_spread_gives_each_channel_a_part_and_every_pixel_the_value():
    labels = torch.tensor([[[0, 0, 1]], [[2, 1, 0]]])
    values = [torch.tensor([6.0, 3.0]), torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)]
    made = segments.spread(values, labels, torch.zeros(2, 2, 1, 3, dtype=torch.float64))
    assert made.sum(dim=1).tolist() == [[[6, 6, 3]], [[3, 2, 1]]]
    assert torch.equal(made[:, 0], made[:, 1])
    assert (made.dtype, made.is_contiguous()) == (torch.float64, True)


def test_borders_of_a_picture():
    labels = torch.tensor([[[0, 0, 1, 1], [0, 2, 2, 1], [0, 2, 2, 1]]])
    assert segments.boundaries(labels).int().tolist() == [[[0, 1, 1, 0], [1, 0, 1, 0], [1, 0, 1, 0]]]

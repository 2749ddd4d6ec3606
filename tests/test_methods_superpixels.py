"""Feature ablation on superpixels and means over them: TV-25, Captum, rows counted by a spy."""

import pytest
import torch

from xai_lib import METHODS, baselines, maps, segments, toys
from xai_lib.errors import ConfigError, InputError

PARTS = torch.tensor([[[0, 0, 1], [0, 0, 1], [2, 2, 2]]])
NINE = toys.linear([range(1, 10)])
ONES, ZERO = torch.ones(1, 1, 3, 3), torch.zeros(1, dtype=torch.int64)


def bound(name, **own):
    return METHODS.bind(name, **own)


def test_tv25_ablation_of_three_segments():
    made = bound("feature_ablation", segments=PARTS)(NINE, ONES, ZERO)
    assert made[0, 0].tolist() == [[12, 12, 9], [12, 12, 9], [24, 24, 24]]


def test_a_fill_is_what_a_segment_becomes():
    """Linear f: A_k = sum over the segment of w (x - fill)."""
    x = torch.arange(9.0).reshape(1, 1, 3, 3) / 9
    w = torch.arange(1.0, 10.0).reshape(3, 3)
    for spec in ("black", "white", "average", "blur", "segment_mean", {"constant": {"value": 0.25}}):
        fill = segments.segment_mean(x, PARTS) if spec == "segment_mean" else baselines.draw(spec, x)
        made = bound("feature_ablation", segments=PARTS, baseline=spec)(NINE, x, ZERO)[0, 0]
        loss = w * (x - fill)[0, 0]
        for k in range(3):
            expected = loss[PARTS[0] == k].sum().item()
            assert made[PARTS[0] == k].tolist() == pytest.approx([expected] * int((PARTS[0] == k).sum()), abs=1e-5), spec


def test_a_random_fill_is_drawn_from_the_seed_and_the_image():
    x = torch.cat([ONES, 0.5 * ONES])
    parts, t = PARTS.expand(2, -1, -1), torch.zeros(2, dtype=torch.int64)
    made = [bound("feature_ablation", segments=parts, baseline="uniform", seed=s)(NINE, x, t) for s in (0, 0, 1)]
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
    alone = bound("feature_ablation", segments=PARTS, baseline="uniform")(NINE, x[1:], ZERO)
    assert torch.equal(alone[0], made[0][1])


def test_equal_to_captum_but_for_the_channels(images):
    """Captum gives every channel the whole value, here a third."""
    from captum.attr import FeatureAblation

    net, targets = toys.TinyNet(), torch.tensor([0, 1, 2, 3, 1])
    labels = segments.segment({"slic": {"n_segments": 20}}, images)
    assert len(set(segments.counts(labels))) > 1
    for score, forward in (("logit", net), ("prob", lambda x: net(x).softmax(1))):
        made = bound("feature_ablation", segments=labels, baseline="average", score=score)(net, images, targets)
        for i in range(len(images)):
            x = images[i : i + 1]
            own = {"feature_mask": labels[i : i + 1, None], "baselines": baselines.average(x), "target": int(targets[i])}
            expected = FeatureAblation(forward).attribute(x, **own)
            torch.testing.assert_close(3 * made[i : i + 1], expected, atol=1e-6, rtol=1e-4)


def test_rows_are_the_image_and_one_per_segment_within_max_batch(spy, images, zeros):
    model = spy(toys.TinyNet())
    labels = segments.segment({"slic": {"n_segments": 20}}, images)
    bound("feature_ablation", segments=labels, max_batch=7)(model, images, zeros)
    assert max(model.calls) <= 7
    assert sum(model.calls) == sum(segments.counts(labels)) + 5


def test_mean_over_superpixels_of_a_linear_model(images, zeros):
    """Integrated Gradients from black are w x; their segment means keep the sum of each segment."""
    w = torch.randn(300, generator=torch.Generator().manual_seed(4))
    labels = segments.segment({"grid": {"rows": 2, "columns": 3}}, images)
    made = bound("superpixel_mean", segments=labels)(toys.linear(w[None]), images, zeros)
    pixels = w.reshape(3, 10, 10) * images
    for k in range(6):
        inside = (labels == k)[:, None].expand_as(images)
        torch.testing.assert_close(made[inside].sum(), pixels[inside].sum(), atol=1e-3, rtol=1e-3)
        part = made[0, 1][labels[0] == k]
        assert part.unique().numel() == 1
    assert maps.flags(made) == [""] * 5


def test_mean_over_superpixels_of_any_method(images, zeros):
    for base in ("gradient", {"integrated_gradients": {"steps": 3}}, lambda m, x, t: 2 * x):
        made = bound("superpixel_mean", base=base)(toys.TinyNet(), images, zeros)
        pixels = METHODS.bind(base)(toys.TinyNet(), images, zeros)
        torch.testing.assert_close(made, segments.segment_mean(pixels, segments.segment("slic", images)))


def test_what_cannot_be_asked_is_refused(images, zeros):
    net = toys.TinyNet()
    for name in ("feature_ablation", "superpixel_mean"):
        with pytest.raises(InputError, match="integer label maps"):
            bound(name, segments=PARTS)(net, images, zeros)
        with pytest.raises(InputError, match="expected images"):
            bound(name)(toys.linear([[1.0, 2.0]]), torch.ones(1, 2), ZERO)
        with pytest.raises(ConfigError, match="unknown segmentation"):
            bound(name, segments="voronoi")(net, images, zeros)
    with pytest.raises(InputError, match=r"base: expected attributions of shape \(5, 3, 10, 10\), got \(5, 10, 10\)"):
        bound("superpixel_mean", base=lambda m, x, t: x.sum(1))(net, images, zeros)
    with pytest.raises(InputError, match=r"base: .* got int"):
        bound("superpixel_mean", base=lambda m, x, t: 3)(net, images, zeros)

"""The BAM metrics: FIDELITY TV-38, the treatment of maps, closed forms of patches, two models that know one thing each."""

import math

import numpy as np
import pytest
import torch

from xai_lib import METHODS, toys
from xai_lib.errors import ConfigError, InputError, ModelError
from xai_lib.metrics.bam import (
    Comparison,
    bam_comparisons,
    input_dependence_rate,
    input_independence_rate,
    model_contrast_score,
    object_attribution,
    object_maps,
)
from xai_lib.metrics.bam_patches import irrelevant_patches

NET = toys.TinyNet()
GRADIENT = METHODS.bind("gradient")


def single(*values):
    """Maps of one pixel, which is the object."""
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1)


def ones(n):
    return torch.ones(n, 1, 1, dtype=torch.bool)


def test_numbers_by_hand():
    """TV-38."""
    more, less = single(0.6, 0.2, 0.5), single(0.3, 0.4, 0.1)
    contrast = model_contrast_score(more, less, ones(3))
    assert contrast.average == pytest.approx(0.16667, abs=1e-5)
    assert contrast.values.tolist() == pytest.approx([0.3, -0.2, 0.4])
    assert input_dependence_rate(more, less, ones(3)).average == pytest.approx(2 / 3)
    rate = input_independence_rate(single(1, 1, 1), single(1.05, 0.85, 1.2), ones(3))
    assert rate.average == pytest.approx(1 / 3)
    assert rate.values.tolist() == [1, 0, 0]


def test_equal_attributions_and_changes_at_the_tolerance_do_not_count():
    assert input_dependence_rate(single(0.5), single(0.5), ones(1)).average == 0
    own = {"tolerance": 0.25}
    assert input_independence_rate(single(1, 1, 1), single(1.25, 0.75, 1.2), ones(3), **own).values.tolist() == [0, 0, 1]
    assert input_independence_rate(single(0.5, 0.0), single(0.6, 0.0), ones(2), **own).values.tolist() == [1, 0]  # relative


def test_only_what_is_classified_correctly_and_defined_counts():
    a, b = single(0.6, 0.2, math.nan, 0.5), single(0.3, 0.4, 0.1, 0.4)
    right = torch.tensor([True, False, True, True])
    for compare in (model_contrast_score, input_dependence_rate, input_independence_rate):
        for first, second in ((a, b), (b, a)):
            made = compare(first, second, ones(4), correct=right)
            assert made.values.isnan().tolist() == [False, True, True, False]
            assert made.n == 2
        assert compare(a, b, ones(4)).n == 3
    assert model_contrast_score(a, b, ones(4), correct=right).average == pytest.approx(0.2)
    assert math.isnan(Comparison(torch.tensor([math.nan])).average)


def test_object_attribution():
    maps = torch.arange(12.0).reshape(2, 2, 3)
    masks = torch.zeros(2, 2, 3, dtype=torch.bool)
    masks[0, 0, 1:], masks[1, 1, 2] = True, True
    assert object_attribution(maps, masks).tolist() == [1.5, 11]
    masks[1] = False
    assert object_attribution(maps, masks).isnan().tolist() == [False, True]
    maps[0, 1, 0] = math.nan  # outside the object: the map is undefined all the same
    assert object_attribution(maps, masks).isnan().all()


def test_maps_are_positive_parts_cut_at_a_percentile():
    """Slow twin; the positive part comes before the sum over channels."""
    made = torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    for percentile in (99.0, 60.0):
        found = object_maps(made, percentile=percentile)
        for i in range(3):
            plane = sum(channel.clip(0) for channel in made[i].double().numpy())
            top = np.percentile(plane, percentile)
            expected = np.clip((plane - plane.min()) / (top - plane.min()), 0, 1)
            np.testing.assert_allclose(found[i], expected, atol=1e-12)
        assert (found == 1).flatten(1).sum(1).tolist() == [{99.0: 2, 60.0: 58}[percentile]] * 3
    torch.testing.assert_close(object_maps(1000 * made), object_maps(made), atol=1e-6, rtol=0)
    torch.testing.assert_close(object_maps(made[1:2]), object_maps(made)[1:2])
    cancel = torch.tensor([[3.0, -3.0], [1.0, 0.0], [0.0, 0.0]]).T.reshape(1, 2, 1, 3)
    assert object_maps(cancel, percentile=100).flatten().tolist() == pytest.approx([1, 1 / 3, 0])


def test_maps_without_contrast_are_undefined():
    made = torch.randn(6, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    expected = object_maps(made)
    made[0], made[1], made[2, 0, 0, 0], made[3, 1, 2, 2] = 0, -made[1].abs(), math.nan, math.inf
    made[4] = 0
    made[4, :, 5, 5] = 1  # one pixel of 144: the 99th percentile is 0
    found = object_maps(made)
    assert found.isnan().flatten(1).all(1).tolist() == [True] * 5 + [False]
    assert found.isnan().flatten(1).any(1).tolist() == [True] * 5 + [False]
    assert torch.equal(found[5], expected[5])
    assert not object_maps(made[4:5], percentile=100).isnan().any()


def test_refusals_of_maps():
    maps, masks = torch.rand(2, 4, 4), torch.ones(2, 4, 4, dtype=torch.bool)
    for bad in (masks.float(), masks[:1], masks[:, :2], masks.tolist()):
        with pytest.raises(InputError, match="masks: expected bool of the maps' shape"):
            object_attribution(maps, bad)
    with pytest.raises(InputError, match="masks"):
        model_contrast_score(maps, maps[:1], masks)
    for right in (torch.ones(2), torch.ones(3, dtype=torch.bool)):
        with pytest.raises(InputError, match="correct: expected bool"):
            model_contrast_score(maps, maps, masks, correct=right)
    for tolerance in (0, -0.1, math.nan):
        with pytest.raises(ConfigError, match="tolerance="):
            input_independence_rate(maps, maps, masks, tolerance=tolerance)
    for percentile in (0, 100.1, math.nan):
        with pytest.raises(ConfigError, match="percentile="):
            object_maps(torch.rand(1, 3, 4, 4), percentile=percentile)
    for bad in (maps, torch.rand(2, 4), torch.ones(1, 3, 4, 4, dtype=torch.int64)):
        with pytest.raises(InputError, match="attributions: expected"):
            object_maps(bad)


# --- patches ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pasted(images):
    """Scenes, scenes with an object, the object's pixels."""
    scenes = images * 0.4 + 0.2
    masks = torch.zeros(5, 10, 10, dtype=torch.bool)
    masks[:, 3:7, 2:8] = True
    return scenes, torch.where(masks[:, None], images.flip(0) * 0.5 + 0.3, scenes), masks


@pytest.mark.parametrize("rule", ["sign", "gradient"])
def test_the_patch_of_a_sum_goes_as_near_as_it_may(rule):
    """z is the sum of the pixels, the object 0.5 brighter: with a radius of 0.25 half of the difference is left."""
    scenes, masks = torch.full((1, 1, 4, 4), 0.25, dtype=torch.float64), torch.zeros(1, 4, 4, dtype=torch.bool)
    masks[:, :2, :2] = True
    bright = scenes + 0.5 * masks[:, None]
    model = toys.linear(torch.ones(1, 16, dtype=torch.float64))
    own = {"rule": rule, "eta": 0.05, "max_iterations": 50, "epsilon": 1e-3}
    found = irrelevant_patches(model, scenes, bright, masks, **own)
    assert found.start_distance.item() == pytest.approx(2)
    assert found.distance.item() == pytest.approx(1)
    assert found.norm.item() == pytest.approx(4)
    assert found.contrast.item() == pytest.approx(0.25)
    assert found.iterations.item() == 50
    torch.testing.assert_close(found.inputs, scenes + 0.25 * masks[:, None])
    free = irrelevant_patches(model, scenes, bright, masks, **own, radius=1.0)
    assert free.distance.item() <= 4e-3
    assert free.iterations.item() < 50
    still = irrelevant_patches(model, scenes, bright, masks, **own, radius=0.0)
    assert torch.equal(still.inputs, bright)
    assert still.distance.item() == still.start_distance.item() == pytest.approx(2)


def test_a_patch_need_not_be_the_scene_to_be_irrelevant():
    """z = x1 - x2 inside: the object moves both by as much and stays another picture."""
    scenes, masks = torch.zeros(1, 1, 1, 3, dtype=torch.float64), torch.tensor([[[True, True, False]]])
    object_in = torch.tensor([0.75, 0.5, 0.0], dtype=torch.float64).reshape(1, 1, 1, 3)
    model = toys.linear([[1.0, -1.0, 1.0], [0.0, 0.0, 1.0]])
    found = irrelevant_patches(toys.Formula(lambda x: model(x) + 1), scenes, object_in, masks, epsilon=1e-6)
    assert found.distance.item() < 1e-2
    assert found.inputs.flatten().tolist() == pytest.approx([0.625, 0.625, 0], abs=0.01)
    assert found.contrast.item() == pytest.approx(0.625, abs=0.01)


@pytest.mark.parametrize("rule", ["sign", "gradient"])
def test_patches_of_a_net_keep_to_their_place_and_range(rule, pasted):
    scenes, composites, masks = pasted
    found = irrelevant_patches(NET, scenes, composites, masks, rule=rule, radius=0.2, max_iterations=60)
    outside = ~masks[:, None].expand_as(scenes)
    assert torch.equal(found.inputs[outside], scenes[outside])
    assert (found.inputs - composites).abs().max() <= 0.2 + 1e-6
    assert (found.inputs - composites)[~outside].abs().max() > 0.01
    assert found.inputs.min() >= 0
    assert found.inputs.max() <= 1
    assert (found.distance < found.start_distance / 2).all()
    torch.testing.assert_close(found.distance, (NET(found.inputs) - NET(scenes)).norm(dim=1))
    torch.testing.assert_close(found.start_distance, (NET(composites) - NET(scenes)).norm(dim=1))
    torch.testing.assert_close(found.norm, NET(scenes).norm(dim=1))
    squares = ((found.inputs - scenes) ** 2)[~outside].reshape(5, -1).mean(1)
    torch.testing.assert_close(found.contrast, squares.sqrt())
    done = found.distance <= 0.01 * found.norm
    assert ((found.iterations < 60) == done).all()


def test_the_best_point_is_kept(pasted):
    """Steps as long as the range jump about; more of them never leave a worse patch. Colours stay in [0, 1] at the ends."""
    scenes, composites, masks = pasted
    composites = torch.where(masks[:, None], composites.round(), scenes)
    own = {"eta": 1.0, "radius": 1.0, "epsilon": 0.0}
    found = irrelevant_patches(NET, scenes, composites, masks, **own, max_iterations=6)
    assert (found.distance <= found.start_distance).all()
    torch.testing.assert_close(found.distance, (NET(found.inputs) - NET(scenes)).norm(dim=1))
    assert found.inputs.min() >= 0
    assert found.inputs.max() <= 1
    assert found.iterations.tolist() == [6] * 5


def test_a_step_too_far_leaves_the_object_as_it_was():
    """z = x inside, 0.25 too bright: a single step of 0.75 ends 0.5 too dark."""
    scenes, masks = torch.full((1, 1, 1, 2), 0.5), torch.tensor([[[True, False]]])
    bright = torch.tensor([0.75, 0.5]).reshape(1, 1, 1, 2)
    far = {"eta": 0.75, "radius": 1.0, "max_iterations": 1}
    found = irrelevant_patches(toys.linear([[1.0, 0.0]]), scenes, bright, masks, **far)
    assert torch.equal(found.inputs, bright)
    assert found.distance.tolist() == [0.25]


def test_gradient_steps_are_measured_inside_the_patch():
    """z = x1 + x2 / 2 + 10 x3, x3 outside: the first pixel moves by eta, the second by half of it."""
    scenes, masks = torch.full((1, 1, 1, 3), 0.5, dtype=torch.float64), torch.tensor([[[True, True, False]]])
    bright = scenes + 0.25 * masks[:, None]
    own = {"rule": "gradient", "eta": 0.125, "max_iterations": 1}
    found = irrelevant_patches(toys.linear([[1.0, 0.5, 10.0]]), scenes, bright, masks, **own)
    assert found.inputs.flatten().tolist() == [0.625, 0.6875, 0.5]


def test_what_composites_hold_outside_the_patch_is_not_looked_at(pasted):
    scenes, composites, masks = pasted
    found = irrelevant_patches(NET, scenes, composites, masks, max_iterations=5)
    other = irrelevant_patches(NET, scenes, torch.where(masks[:, None], composites, 0.0), masks, max_iterations=5)
    assert torch.equal(found.inputs, other.inputs)
    assert torch.equal(found.start_distance, other.start_distance)


def test_patches_do_not_depend_on_company_or_batch_size(pasted):
    scenes, composites, masks = (x.double() if x.is_floating_point() else x for x in pasted)
    model, own = toys.TinyNet().double(), {"rule": "gradient", "max_iterations": 15}
    found = irrelevant_patches(model, scenes, composites, masks, **own)
    order = torch.tensor([3, 0, 4, 2, 1])
    shuffled = irrelevant_patches(model, scenes[order], composites[order], masks[order], **own)
    torch.testing.assert_close(shuffled.inputs, found.inputs[order])
    for size in (1, 3):
        again = irrelevant_patches(model, scenes, composites, masks, **own, max_batch=size)
        torch.testing.assert_close(again.inputs, found.inputs)
        torch.testing.assert_close(again.distance, found.distance)


def test_refusals_of_patches(pasted):
    scenes, composites, masks = pasted
    for bad in ({"eta": 0}, {"radius": -0.1}, {"radius": 1.1}, {"epsilon": -1}, {"rule": "adam"}, {"max_iterations": 0}):
        with pytest.raises(ConfigError, match=f"{next(iter(bad))}="):
            irrelevant_patches(NET, scenes, composites, masks, **bad)
    for bad in (composites[:2], composites.double(), composites[:, :1]):
        with pytest.raises(InputError, match="composites: expected images like the scenes"):
            irrelevant_patches(NET, scenes, bad, masks)
    for bad in (masks.float(), masks[:2], masks[:, None]):
        with pytest.raises(InputError, match="masks: expected bool"):
            irrelevant_patches(NET, scenes, composites, bad)
    nowhere = masks.clone()
    nowhere[2] = False
    for given in ((composites, nowhere), (composites.where(composites < 0.7, math.nan), masks)):
        with pytest.raises(InputError, match="leave those images out"):
            irrelevant_patches(NET, scenes, *given)
    with pytest.raises(InputError, match="inputs: NaN"):
        irrelevant_patches(NET, scenes * math.nan, composites, masks)
    with pytest.raises(ModelError, match="not differentiable"):
        irrelevant_patches(toys.Formula(lambda x: NET(x).detach()), scenes, composites, masks)


# --- two models ---------------------------------------------------------------------------------------------------------------


class Reader(torch.nn.Module):
    """Says 1 where the pixels it reads are bright."""

    def __init__(self, where):
        super().__init__()
        self.where = where
        self.eval()

    def forward(self, inputs):
        read = (inputs * self.where).flatten(1).sum(1) / self.where.sum()
        return torch.stack([torch.full_like(read, 0.25), read**2], dim=1)


@pytest.fixture
def world():
    """Two scenes (dark, bright) with and without two objects (dark, bright) in the middle."""
    masks = torch.zeros(4, 8, 8, dtype=torch.bool)
    masks[:, 2:6, 2:6] = True
    scene, thing = torch.tensor([0.2, 0.9, 0.2, 0.9]), torch.tensor([0.1, 0.1, 0.8, 0.8])
    scenes = scene[:, None, None, None].expand(4, 1, 8, 8).clone()
    composites = torch.where(masks[:, None], thing[:, None, None, None], scenes)
    return composites, scenes, (thing > 0.5).long(), (scene > 0.5).long(), masks


def test_models_that_read_one_thing_each(world):
    """The object model attributes to the object alone, the scene model never does; a constant map tells nothing."""
    composites, scenes, objects, places, masks = world
    inside = masks[0].float()
    knows_objects, knows_scenes = Reader(inside), Reader(1 - inside)
    made = bam_comparisons(
        knows_objects, knows_scenes, composites, scenes, objects, places, masks, GRADIENT, patched=composites
    )
    assert list(made) == ["model_contrast_score", "input_dependence_rate", "input_independence_rate"]
    bright = [math.nan, math.nan, math.nan, 1.0]  # the constant logit of dark has no gradient
    assert made["model_contrast_score"].values.tolist() == pytest.approx(bright, nan_ok=True)
    assert made["input_dependence_rate"].values.tolist() == pytest.approx([math.nan, 0, math.nan, 0], nan_ok=True)
    blind = METHODS.bind("centre_gaussian")
    made = bam_comparisons(knows_objects, knows_scenes, composites, scenes, objects, places, masks, blind, patched=composites)
    assert made["model_contrast_score"].values.tolist() == [0] * 4
    assert made["input_dependence_rate"].average == 0
    assert made["input_independence_rate"].average == 1
    swapped = bam_comparisons(knows_scenes, knows_objects, composites, scenes, places, objects, masks, GRADIENT)
    assert list(swapped) == ["model_contrast_score", "input_dependence_rate"]
    assert swapped["model_contrast_score"].average == -1


def test_which_images_count_and_which_maps_are_made(world):
    composites, scenes, objects, places, masks = world
    knows_objects, knows_scenes = Reader(masks[0].float()), Reader(1 - masks[0].float())
    calls = []

    def explain(model, inputs, targets):
        calls.append((model, inputs, targets))
        generator = torch.Generator().manual_seed(len(calls))
        return torch.rand(inputs.shape, generator=generator)

    patched = composites.clone()
    patched[1] = 0  # no longer taken for its scene
    composites[2] = torch.where(masks[2], composites[2], 0.9)  # nor this one once the object is there
    wrong_objects, wrong_scenes = objects.clone(), places.clone()
    wrong_objects[0], wrong_scenes[3] = 1 - objects[0], 1 - places[3]
    made = bam_comparisons(
        knows_objects, knows_scenes, composites, scenes, wrong_objects, wrong_scenes, masks, explain, patched=patched
    )
    asked = [(knows_objects, composites), (knows_scenes, composites), (knows_scenes, scenes), (knows_scenes, patched)]
    assert [(model, inputs.data_ptr()) for model, inputs, _ in calls] == [(m, x.data_ptr()) for m, x in asked]
    assert [targets.tolist() for *_, targets in calls] == [wrong_objects.tolist()] + [wrong_scenes.tolist()] * 3
    counted = {name: (~one.values.isnan()).tolist() for name, one in made.items()}
    assert counted == {
        "model_contrast_score": [False, True, False, False],
        "input_dependence_rate": [True, True, False, False],
        "input_independence_rate": [True, False, True, False],
    }
    maps = [
        object_maps(torch.rand(scenes.shape, generator=torch.Generator().manual_seed(k)), percentile=99) for k in (1, 2, 3, 4)
    ]
    attribution = [object_attribution(one, masks) for one in maps]
    assert made["model_contrast_score"].values[1].item() == (attribution[0] - attribution[1])[1].item()
    assert made["input_dependence_rate"].values[:2].tolist() == (attribution[2] > attribution[1])[:2].double().tolist()


@pytest.mark.parametrize(("tolerance", "rate"), [(1e-9, 0), (1e9, 1)])
def test_parameters_are_passed_on(tolerance, rate, world):
    composites, scenes, objects, places, masks = world
    random = METHODS.bind("random_attribution")
    models = Reader(masks[0].float()), Reader(1 - masks[0].float())
    own = {"patched": composites, "tolerance": tolerance, "percentile": 90.0}
    made = bam_comparisons(*models, composites, scenes, objects, places, masks, random, **own)
    assert made["input_independence_rate"].values.tolist() == [rate] * 4
    cut = [object_attribution(object_maps(random(None, x, places), percentile=90), masks) for x in (scenes, composites)]
    assert made["input_dependence_rate"].values.tolist() == (cut[0] > cut[1]).double().tolist()
    assert made["model_contrast_score"].values.tolist() == [0] * 4  # one image, one draw


def test_refusals_of_comparisons(world):
    composites, scenes, objects, places, masks = world
    net = toys.TinyNet(channels=1)
    with pytest.raises(InputError, match="targets"):
        bam_comparisons(net, net, composites, scenes, objects[:2], places, masks, GRADIENT)
    with pytest.raises(ModelError, match="training mode"):
        bam_comparisons(net, toys.TinyNet(channels=1).train(), composites, scenes, objects, places, masks, GRADIENT)

"""Network dissection: a unit that is a concept, bounds, chance, and a twin written as loops."""

import pytest
import torch
from torch import Tensor, nn

from xai_lib import toys
from xai_lib.dissection import activations, dissect, largest_iou, of_others, thresholds, unit_masks
from xai_lib.errors import ConfigError, InputError, ModelError


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def blobs(n: int = 6, concepts: int = 3, side: int = 12) -> Tensor:
    masks = torch.zeros(n, concepts, side, side, dtype=torch.bool)
    for i in range(n):
        for c in range(concepts):
            masks[i, c, (2 * i + c) % 9 : (2 * i + c) % 9 + c + 1, 3 * c : 3 * c + 2] = True
    return masks


def test_a_unit_that_is_a_concept_has_iou_1() -> None:
    masks = blobs()
    found = dissect(masks.float(), masks, tail=0.2)
    assert torch.equal(found.iou.diagonal(), torch.ones(3, dtype=torch.float64))
    assert found.best[1].tolist() == [0, 1, 2]
    assert found.detectors(0.99).all()
    assert torch.allclose(found.fired, found.coverage)
    assert torch.allclose(found.coverage, masks.double().mean(dim=(0, 2, 3)))


def test_a_unit_that_is_the_opposite_has_iou_0() -> None:
    masks = blobs()
    assert dissect((~masks).float() + 0.0, masks, tail=0.99).iou.diagonal().tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("tail", [0.01, 0.02])
def test_a_graded_unit_inside_a_concept_has_the_quotient_of_the_areas(tail: float) -> None:
    masks = torch.zeros(5, 1, 20, 20, dtype=torch.bool)
    masks[:, :, :10, :10] = True  # a quarter
    found = dissect(masks * (1 + random(5, 1, 20, 20)), masks, tail=tail)
    assert found.iou.item() == pytest.approx(tail / 0.25)
    assert found.iou.item() == pytest.approx(largest_iou(found.fired, found.coverage).item())
    assert found.fired.item() == pytest.approx(tail)


def test_independent_masks_have_the_iou_of_chance() -> None:
    units, masks = random(40, 1, 32, 32), random(40, 1, 32, 32, seed=1) < 0.3
    m, p = 0.1, masks.double().mean().item()
    assert dissect(units, masks, tail=m).iou.item() == pytest.approx(m * p / (m + p - m * p), rel=0.02)


def test_the_bound_holds_for_all_and_is_that_of_nested_sets() -> None:
    found = dissect(random(6, 4, 6, 6), blobs(), tail=0.1)
    assert (found.iou <= largest_iou(found.fired, found.coverage) + 1e-12).all()
    assert largest_iou(torch.tensor([0.0, 0.2]), torch.tensor([0.0, 0.1])).tolist() == [[0.0, 0.0], [0.0, 0.5]]


def slow_twin(maps: Tensor, concepts: Tensor, tail: float) -> list[list[float]]:
    n, units, *_ = maps.shape
    size = tuple(concepts.shape[2:])
    made = []
    for k in range(units):
        ordered = sorted(maps[:, k].flatten().tolist(), reverse=True)
        limit = ordered[int(tail * len(ordered) + 1e-9)]
        line = []
        for c in range(concepts.shape[1]):
            both = either = 0
            for i in range(n):
                large = nn.functional.interpolate(maps[i : i + 1, k : k + 1], size=size, mode="bilinear", align_corners=False)[
                    0, 0
                ]
                for y in range(size[0]):
                    for x in range(size[1]):
                        fires, inside = bool(large[y, x] > limit), bool(concepts[i, c, y, x])
                        both += fires and inside
                        either += fires or inside
            line.append(both / either if either else 0.0)
        made.append(line)
    return made


@pytest.mark.parametrize("tail", [0.05, 0.3])
def test_a_twin_written_as_loops_agrees(tail: float) -> None:
    maps, masks = random(4, 2, 3, 4), random(4, 3, 6, 8, seed=2) < 0.2
    assert torch.allclose(dissect(maps, masks, tail=tail).iou, torch.tensor(slow_twin(maps, masks, tail), dtype=torch.float64))


def test_more_pictures_than_a_chunk_are_all_counted() -> None:
    maps, masks = random(70, 2, 4, 4), random(70, 2, 4, 4, seed=1) < 0.5
    found = dissect(maps, masks, tail=0.2)
    fires = unit_masks(maps, found.thresholds, (4, 4))
    assert torch.allclose(found.fired, fires.double().mean(dim=(0, 2, 3)))
    overlap = (fires[:, 1] & masks[:, 0]).sum() / (fires[:, 1] | masks[:, 0]).sum()
    assert found.iou[1, 0].item() == pytest.approx(overlap.item())


def test_at_most_the_tail_exceeds_the_threshold_ties_included() -> None:
    maps = torch.cat([torch.zeros(1, 1, 10, 9), torch.ones(1, 1, 10, 1)], dim=3)
    assert thresholds(maps, 0.1).item() == 0.0  # exactly a tenth is above 0
    assert thresholds(maps, 0.05).item() == 1.0  # the tie at 1 is left out as a whole
    values = random(3, 2, 7, 5)
    for tail in (0.01, 0.1, 0.5):
        above = (values > thresholds(values, tail)[:, None, None]).transpose(0, 1).flatten(1).double().mean(dim=1)
        assert (above <= tail).all()
        assert (above > tail - 1 / 105).all()


def test_dead_units_and_absent_concepts_have_iou_0() -> None:
    maps, masks = torch.zeros(3, 1, 4, 4), torch.zeros(3, 2, 4, 4, dtype=torch.bool)
    masks[:, 1] = True
    found = dissect(maps, masks, tail=0.1)
    assert found.iou.tolist() == [[0.0, 0.0]]
    assert not found.detectors(0.0).any()


def test_a_detector_is_above_the_threshold_not_at_it() -> None:
    masks = blobs()
    assert not dissect(masks.float(), masks, tail=0.2).detectors(1.0).any()


def test_scaling_a_unit_changes_nothing() -> None:
    maps, masks = random(4, 3, 6, 6), blobs(4)
    scaled = maps * torch.tensor([0.5, 4.0, 2.0])[:, None, None]
    assert torch.equal(dissect(maps, masks, tail=0.1).iou, dissect(scaled, masks, tail=0.1).iou)


@pytest.mark.parametrize("n", [2, 3, 20])
def test_the_control_gives_every_picture_the_concepts_of_another(n: int) -> None:
    own = torch.arange(n).reshape(n, 1, 1, 1)
    moved = of_others(own, seed=n).flatten()
    assert sorted(moved.tolist()) == list(range(n))
    assert (moved != own.flatten()).all()
    assert torch.equal(moved, of_others(own, seed=n).flatten())
    at, steps = 0, 0
    while steps == 0 or at != 0:
        at, steps = int(moved[at]), steps + 1
    assert steps == n


def test_the_control_breaks_what_belongs_to_the_picture() -> None:
    masks = random(30, 1, 8, 8) < 0.1
    units = masks.float()
    assert dissect(units, masks, tail=0.2).iou.item() == 1.0
    assert dissect(units, of_others(masks), tail=0.2).iou.item() < 0.12
    assert not torch.equal(of_others(masks, seed=0), of_others(masks, seed=1))


def test_activations_are_those_of_the_layer_in_any_batch() -> None:
    net, x = toys.TinyNet(), random(5, 3, 8, 8)
    assert torch.allclose(activations(net, x, "conv2"), net.conv2(nn.functional.gelu(net.conv1(x))), atol=1e-6)
    assert torch.allclose(activations(net, x, "conv1", max_batch=2), activations(net, x, "conv1"), atol=1e-6)
    assert not net.conv1._forward_hooks
    assert not activations(net, x, "conv1").requires_grad


def test_what_is_refused() -> None:
    maps, masks = random(2, 1, 4, 4), torch.ones(2, 1, 4, 4, dtype=torch.bool)
    for tail in (0.0, 1.0, -0.1):
        with pytest.raises(ConfigError, match="tail"):
            dissect(maps, masks, tail=tail)
    with pytest.raises(ConfigError, match="less than one value"):
        dissect(maps, masks, tail=0.01)
    with pytest.raises(InputError, match="expected bool"):
        dissect(maps, masks.float(), tail=0.1)
    with pytest.raises(InputError, match="for 2 pictures"):
        dissect(maps, masks[:1], tail=0.1)
    with pytest.raises(InputError, match="expected float activations"):
        dissect(maps[0], masks, tail=0.1)
    with pytest.raises(InputError, match="NaN"):
        dissect(maps / 0 * 0, masks, tail=0.1)
    with pytest.raises(InputError, match="no other"):
        of_others(masks[:1])
    with pytest.raises(ModelError, match="expected maps"):
        activations(toys.TinyNet(), random(1, 3, 8, 8), "head")
    with pytest.raises(ModelError, match="no layer"):
        activations(toys.TinyNet(), random(1, 3, 8, 8), "conv9")

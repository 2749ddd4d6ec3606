"""Images with segments replaced: a slow twin, rows counted by a spy, fills by hand."""

import pytest
import torch

from xai_lib import coalitions, toys
from xai_lib.errors import ConfigError

PARTS = torch.tensor([[[0, 0, 1], [0, 0, 1], [2, 2, 2]], [[0, 1, 1], [0, 1, 1], [0, 1, 1]]])
PICTURES = torch.rand(2, 3, 3, 3, generator=torch.Generator().manual_seed(2))
DESIGNS = [torch.tensor([[1, 1, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0]]) == 1, torch.tensor([[1, 0], [0, 1], [1, 1]]) == 1]


@pytest.mark.parametrize("max_batch", [1, 2, 5, 100, None])
def test_responses_are_those_of_a_loop(max_batch):
    net, absent = toys.TinyNet(), torch.rand(PICTURES.shape, generator=torch.Generator().manual_seed(3))
    targets = torch.tensor([1, 2])
    made = coalitions.responses(net, PICTURES, targets, PARTS, absent, DESIGNS.__getitem__, max_batch=max_batch)
    for i, (present, values) in enumerate(made):
        assert torch.equal(present, DESIGNS[i])
        assert values.dtype == torch.float64
        for row, value in zip(present, values, strict=True):
            shown = PICTURES[i].clone()
            for k in (~row).nonzero().flatten():
                shown[:, PARTS[i] == k] = absent[i][:, PARTS[i] == k]
            assert value.item() == pytest.approx(net(shown[None])[0, targets[i]].item(), abs=1e-6)
    assert i == 1


def test_rows_are_made_on_demand_and_images_share_chunks(spy):
    order = []
    model = spy(toys.Formula(lambda x: order.append(len(x)) or x.flatten(1).sum(1)))

    def design(image):
        order.append(f"design {image}")
        return DESIGNS[image % 2]

    x, parts, t = PICTURES.repeat(2, 1, 1, 1), PARTS.repeat(2, 1, 1), torch.zeros(4, dtype=torch.int64)
    list(coalitions.responses(model, x, t, parts, x, design, max_batch=4))
    assert order == ["design 0", 4, "design 1", "design 2", 4, 3, "design 3", 3]
    assert sum(model.calls) == 14
    model.calls.clear()
    list(coalitions.responses(model, x, t, parts, x, design))
    assert model.calls == [14]


def test_fills():
    x = torch.tensor([[[[1.0, 3.0, 8.0]]]])
    labels = torch.tensor([[[0, 0, 1]]])
    assert coalitions.fill("segment_mean", x, labels).flatten().tolist() == [2, 2, 8]
    assert coalitions.fill("average", x, labels).flatten().tolist() == [4, 4, 4]
    assert coalitions.fill({"constant": {"value": 0.5}}, x, labels).flatten().tolist() == [0.5] * 3
    one, two = (coalitions.fill("uniform", x, labels, seed=seed) for seed in (0, 1))
    assert not torch.equal(one, two)
    with pytest.raises(ConfigError, match="unknown baseline"):
        coalitions.fill("segment_means", x, labels)
